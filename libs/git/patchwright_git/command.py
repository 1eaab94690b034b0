"""Running git on repositories whose content is hostile: the only place that starts it.

Only bare repositories that we made are opened, with a clean environment: no system or
user configuration, no hooks, no prompts, http and https only. A token reaches git by its
environment alone (`GIT_CONFIG_*`, git 2.31 or later): never by an argument list, which
everyone on the machine can read, and never by a file.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import SecretStr

from patchwright_common.errors import Retry

TIMEOUT = 60.0
"""Seconds for one command that needs no network."""
MESSAGE_LIMIT = 800
"""Characters of git's message that go into an error's text."""
_PATH = "/usr/local/bin:/usr/bin:/bin"
_SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.quotePath": "false",
    "core.symlinks": "false",
    "credential.helper": "",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "pack.threads": "1",
    "protocol.version": "2",
    "transfer.bundleURI": "false",
    "http.followRedirects": "false",
    # A server that stalls is given up on: bytes per second, seconds.
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "30",
    # A repository may belong to another user; we trust it because we made it.
    "safe.directory": "*",
}


class GitFailed(Exception):
    """git ended with an error; `said` is what it wrote about it, without any token."""

    def __init__(self, command: str, code: int, said: str) -> None:
        super().__init__(f"git {command} ended with {code}: {said.strip()[-MESSAGE_LIMIT:]}")
        self.code = code
        self.said = said


async def git(
    *arguments: str,
    directory: Path,
    timeout: float = TIMEOUT,
    token: SecretStr | None = None,
    stdin: bytes | None = None,
    settings: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
) -> bytes:
    """Run git in the bare repository `directory` and return its standard output.

    `token` opens a remote by http; `settings` are git's configuration for this command;
    `descriptors` stay open in it. Raises `GitFailed`, or `Retry` when `timeout` (seconds)
    is up. However it ends, git and its children are gone.
    """
    secret = _authorization(token)
    process = await asyncio.create_subprocess_exec(
        "git",
        # Named, not found: git would look for a broken one's parents.
        f"--git-dir={directory}",
        *arguments,
        cwd=directory,
        stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**_environment({**_SETTINGS, **(settings or {}), **secret}), **(environment or {})},
        pass_fds=descriptors,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout):
            output, errors = await process.communicate(stdin)
    except TimeoutError:
        await _end(process)
        raise Retry(f"git {arguments[0]} took over {timeout:.0f} s") from None
    except BaseException:
        await _end(process)
        raise
    if process.returncode:
        said = _without(token, errors.decode(errors="replace"))
        raise GitFailed(arguments[0], process.returncode, said)
    return output


async def _end(process: asyncio.subprocess.Process) -> None:
    """Git's own children too: they share its session, and may outlive it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _authorization(token: SecretStr | None) -> dict[str, str]:
    if token is None:
        return {}
    return {"http.extraHeader": f"Authorization: Basic {_basic(token)}"}


def _basic(token: SecretStr) -> str:
    return base64.b64encode(f"x-access-token:{token.get_secret_value()}".encode()).decode()


def _without(token: SecretStr | None, said: str) -> str:
    """Git prints URLs, which hold no token, and never headers; a remote could echo one."""
    if token is None:
        return said
    return said.replace(token.get_secret_value(), "***").replace(_basic(token), "***")


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """All that git gets to see; messages in English, because we read them."""
    environment = {
        "PATH": _PATH,
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
