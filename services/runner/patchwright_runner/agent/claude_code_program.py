"""The Claude Code program: where it is on this machine, and how it is started in the sandbox.

It runs without a person, as this job's own: nothing in the repository or in the box's home
directory may change its settings, start a program, or add to what the model is told. The model's
tools run with no question asked, because the sandbox is what holds them.

Sources: `claude --help` of 2.1.332, https://code.claude.com/docs/en/cli-reference and
https://code.claude.com/docs/en/env-vars. The tests try each protection on the real program.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

from patchwright_common.errors import Permanent
from patchwright_runner.sandbox.protocol import WORKSPACE

IN_BOX = "/opt/claude-code/claude"
WHEEL = "claude_agent_sdk"
IN_WHEEL = Path("_bundled/claude")
RETRIES = 4
"""With pauses of its own, up to half a minute in all; then the job goes back to the queue."""
MAX_TOKENS = 32_000
"""Of one reply, thinking included."""
COMMAND_SECONDS = 300
ERRORS = "/tmp/claude-code.errors"  # noqa: S108 - in the sandbox
ERRORS_KEPT = 2000

TOOLS = "Bash,Edit,Glob,Grep,NotebookEdit,Read,TodoWrite,Write"
"""Nothing that reaches out of the sandbox, waits for later, or works beside the conversation."""

PROTECTIONS = (
    # No settings of the user, the project or the checkout: hooks, environment, key helpers,
    # permissions, status lines, output styles.
    *("--setting-sources", ""),
    # No servers from .mcp.json.
    "--strict-mcp-config",
    # No skills and commands.
    "--disable-slash-commands",
    # No CLAUDE.md, plugins, agents, workflows, and whatever is invented next.
    "--safe-mode",
)

ENVIRONMENT: Mapping[str, str] = {
    # `@name` in the issue would be replaced by a file's content.
    "CLAUDE_CODE_DISABLE_ATTACHMENTS": "1",
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(MAX_TOKENS),
    "CLAUDE_CODE_MAX_RETRIES": str(RETRIES),
    "BASH_DEFAULT_TIMEOUT_MS": str(COMMAND_SECONDS * 1000),
    "BASH_MAX_TIMEOUT_MS": str(COMMAND_SECONDS * 1000),
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_TELEMETRY": "1",
}

SETTINGS: Mapping[str, object] = {
    # Patchwright says by whom a commit is.
    "attribution": {"commit": "", "pr": ""},
}


def find_program(named: str = "", *, path: str = "", packages: Sequence[str] | None = None) -> Path:
    """The file to show to the sandbox. Raises Permanent saying what to install.

    `named` is the operator's choice; else the one in the wheel among `packages` (this Python's if
    None), which is not imported; else `claude` on `path`.
    """
    if named:
        found = Path(named).expanduser()
        if not found.is_file():
            raise _missing(f"PATCHWRIGHT_CLAUDE_CODE names {named}, which is no file")
        return found.resolve()
    if (packed := _in_wheel(packages)) is not None:
        return packed
    if installed := shutil.which("claude", path=path or None):
        return Path(installed).resolve()
    raise _missing("The Claude Code program is not installed here")


def command(model: str, *, rules: str, session: str = "") -> str:
    """For the sandbox's shell; the prompt comes on standard input, as a line of JSON.

    `session` is one that ran in the same box before, to go on with.
    """
    arguments = [
        *(IN_BOX, "-p", "--input-format", "stream-json"),
        *("--output-format", "stream-json", "--verbose"),
        *("--model", model, "--tools", TOOLS, "--permission-mode", "bypassPermissions"),
        *(*PROTECTIONS, "--settings", json.dumps(SETTINGS), "--append-system-prompt", rules),
        *(("--resume", session) if session else ()),
    ]
    # Its complaints would fall into the middle of a message: they come at the end.
    return (
        f"cd {WORKSPACE} && {shlex.join(arguments)} 2> {ERRORS}; code=$?; "
        f"tail -c {ERRORS_KEPT} {ERRORS}; exit $code"
    )


def environment(model: str) -> Mapping[str, str]:
    """One model for everything: the gateway knows no other."""
    return {
        **ENVIRONMENT,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": model,
        "ANTHROPIC_DEFAULT_OPUS_MODEL": model,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": model,
    }


def _in_wheel(packages: Sequence[str] | None) -> Path | None:
    spec = PathFinder.find_spec(WHEEL, packages)
    places = spec.submodule_search_locations or () if spec else ()
    files = (Path(place) / IN_WHEEL for place in places)
    return next((file for file in files if file.is_file()), None)


def _missing(reason: str) -> Permanent:
    return Permanent(
        f"{reason}.",
        advice="Operators: run `just claude-code`, or set PATCHWRIGHT_CLAUDE_CODE to its path.",
    )
