"""Runs git outside the sandbox: plumbing on bare repositories, with no one's configuration.

Nothing that an agent wrote is ever a work tree, a configuration or a hook here.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

PATH = "/usr/local/bin:/usr/bin:/bin"
_SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "credential.helper": "",
    "core.quotePath": "false",
    "gc.auto": "0",
    "pack.threads": "1",
    "maintenance.auto": "false",
    "safe.directory": "*",
}
"""safe.directory: a mirror may belong to another user; we trust it because we made it."""


class GitFailed(Exception):
    """Git ended with an error; `said` is what it wrote about it. May hold a URL, no secret."""

    def __init__(self, command: str, code: int, said: str) -> None:
        super().__init__(f"git {command} ended with {code}: {said.strip()[-800:]}")
        self.code = code
        self.said = said


async def git(
    *arguments: str,
    directory: Path,
    timeout: float,
    stdin: bytes = b"",
    settings: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
) -> bytes:
    """Standard output of a git command; raises GitFailed and TimeoutError.

    `settings` reach git by its environment, which other users cannot read, unlike arguments.
    """
    process = await asyncio.create_subprocess_exec(
        "git",
        *arguments,
        cwd=directory,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**_environment({**_SETTINGS, **(settings or {})}), **(environment or {})},
        pass_fds=descriptors,
        start_new_session=True,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(stdin), timeout)
    except BaseException:
        await _end(process)
        raise
    if process.returncode:
        said = errors.decode(errors="replace")
        raise GitFailed(arguments[0], process.returncode, said)
    return output


async def _end(process: asyncio.subprocess.Process) -> None:
    """Git's own children too: they share its session."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """All that git gets to see; messages in English, because we read them."""
    environment = {
        "PATH": PATH,
        "LC_ALL": "C",
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_ALLOW_PROTOCOL": "http:https",
        "GIT_CONFIG_COUNT": str(len(settings)),
    }
    for place, (key, value) in enumerate(settings.items()):
        environment[f"GIT_CONFIG_KEY_{place}"] = key
        environment[f"GIT_CONFIG_VALUE_{place}"] = value
    return environment
