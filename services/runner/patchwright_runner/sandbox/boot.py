"""How the program inside the box gets there: over standard input, before the first frame.

No mount is needed, so it works with an engine that does not see this machine's files, and
the program always matches the runner. Nothing is read ahead: the runner sends its first
request only after the box has answered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources

from patchwright_runner.sandbox import inside
from patchwright_runner.sandbox.protocol import HOME, WORKSPACE, BoxSpec

_MODULES = (
    *("wire", "privileges", "seccomp", "process", "doors", "beneath", "edit", "tree"),
    *("packing", "restore", "box"),
)
"""In the order of their imports."""

_BOOT = """
import json, sys, types
told = json.loads(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))
for name, source in told["modules"]:
    module = sys.modules[name] = types.ModuleType(name)
    parent, _, child = name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], child, module)
    exec(compile(source, name, "exec"), module.__dict__)
module.main(told["configuration"])
"""

ARGUMENTS = ("-I", "-S", "-B", "-c", _BOOT)
"""For python3: no environment variables, no site packages, nothing from the directory."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def program(configuration: Mapping[str, object]) -> bytes:
    """What to write first: the modules' sources and the configuration of `inside.box`."""
    package = inside.__name__
    sources = [(package, "")]
    for name in _MODULES:
        text = resources.files(inside).joinpath(f"{name}.py").read_text()
        sources.append((f"{package}.{name}", text))
    told = json.dumps({"modules": sources, "configuration": dict(configuration)}).encode()
    return b"%d\n%s" % (len(told), told)


def configuration(spec: BoxSpec) -> dict[str, object]:
    """What every backend tells `inside.box.Configuration`."""
    return {
        "workspace": WORKSPACE,
        "environment": {**_clean_environment(), **spec.environment},
        "wall_seconds": spec.limits.wall_seconds,
        "output_bytes": spec.limits.output_bytes,
        "open_files": spec.limits.open_files,
        # Bounds sparse files; ordinary ones meet the file system's end first.
        "file_bytes": 2 * spec.limits.workspace_bytes,
    }


def _clean_environment() -> dict[str, str]:
    """All that a command sees; the runner's own environment has no part in it."""
    return {
        "PATH": PATH,
        "HOME": HOME,
        "USER": "agent",
        "LOGNAME": "agent",
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "TMPDIR": "/tmp",  # noqa: S108 - the box has one of its own
        "PAGER": "cat",
        "GIT_PAGER": "cat",
        "GIT_TERMINAL_PROMPT": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
