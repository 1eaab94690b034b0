# Everything a person runs. `just` alone lists it.

set shell := ["bash", "-euo", "pipefail", "-c"]
set positional-arguments

# uv trusts what the system trusts, a company's own authority included, as in ./bootstrap.
export UV_SYSTEM_CERTS := env("UV_SYSTEM_CERTS", "1")

bin := justfile_directory() / ".venv/bin"

# List every task
[private]
default:
    @{{ just_executable() }} --justfile '{{ justfile() }}' --list --unsorted

# File a demo issue and watch it become a pull request (--sandbox=docker|bubblewrap)
[no-exit-message]
demo *args:
    @{{ bin }}/patchwright demo "$@"

# Make a GitHub App and bring the keys, in a browser (--relay=new, --non-interactive)
[no-exit-message]
setup *args:
    @{{ bin }}/patchwright setup "$@"

# Look after the vault's secrets: list, set, rotate, retire, delete
[no-exit-message]
secrets *args:
    @{{ bin }}/patchwright secrets "$@"

# Run the whole stack in the foreground; Ctrl-C stops everything (--jaeger, --relay=…, --demo)
[no-exit-message]
up *args:
    @{{ bin }}/patchwright up "$@"

# Stop the stack that `up` or `demo` started
[no-exit-message]
down:
    @{{ bin }}/patchwright down

# Show what the services say, all or one of them
[no-exit-message]
logs *args:
    @{{ bin }}/patchwright logs "$@"

# Say what this machine can do: sandboxes, control groups, keys set or not
[no-exit-message]
doctor:
    @{{ bin }}/patchwright doctor

# Print the map of events and requests
flow:
    @{{ bin }}/patchwright flow

# Make streams, consumers and buckets match the map; safe to repeat
[no-exit-message]
topology *args:
    @{{ bin }}/patchwright topology "$@"

# Make each service's key for NATS in FOLDER, and print what the server has to know
[no-exit-message]
nats-keys folder:
    @{{ bin }}/patchwright nats-keys "$1"

# Write deploy/nats/identities.conf anew from the map
nats-identities:
    {{ bin }}/python -m patchwright_common.permissions > deploy/nats/identities.conf

# Send stored delivery SEQ again as it was; with --new as a new request
[no-exit-message]
replay *args:
    @{{ bin }}/patchwright replay "$@"

# Look after the dead letters: list, show SEQ, redrive SEQ, drop SEQ
[no-exit-message]
dlq *args:
    @{{ bin }}/patchwright dlq "$@"

# Run the tests, all or those that pytest's arguments choose
test *args:
    @tests/install-tools
    @{{ bin }}/pytest -n 4 --dist loadfile --no-loadscope-reorder "$@"

# Measure a part against plain tools: `just bench runner`; takes minutes, prints ratios
[no-exit-message]
bench part *args:
    @shift && {{ bin }}/python -m tests.bench.{{ part }} "$@"

# Kill and pause everything while issues come in, then count results (--issues, --seed, --seconds)
[no-exit-message]
chaos *args:
    @{{ bin }}/python -m tests.chaos.main "$@"

# Check style, types and the borders between packages
check:
    {{ bin }}/ruff format --check .
    {{ bin }}/ruff check .
    {{ bin }}/mypy libs/*/patchwright_* services/*/patchwright_* tests/github/standin_github tests/model/standin_model
    {{ bin }}/lint-imports

# Build the sandbox's image for Docker, if it is not there
[no-exit-message]
image:
    @{{ bin }}/patchwright image

# Install the Claude Code program for the agent `claude-code` (380 MB)
[no-exit-message]
claude-code:
    @{{ bin }}/uv pip install --quiet --python '{{ justfile_directory() }}/.venv' --no-deps --require-hashes -r requirements-claude-code.lock

# Run the GitHub stand-in alone
github *args:
    @{{ bin }}/standin-github --data .patchwright/github "$@"

# Run the scripted model alone
model *args:
    @{{ bin }}/standin-model "$@"

# Format the code and mend what can be mended by itself
format:
    {{ bin }}/ruff format .
    {{ bin }}/ruff check --fix .

# Pin every dependency anew, with hashes and without registry hosts
lock:
    {{ bin }}/uv lock --upgrade
    {{ bin }}/uv export --quiet --all-packages --all-groups --no-emit-workspace --no-header --no-annotate --output-file requirements.lock
    echo claude-agent-sdk | {{ bin }}/uv pip compile --quiet --upgrade --universal --no-deps --generate-hashes --no-header --no-annotate --output-file requirements-claude-code.lock -
