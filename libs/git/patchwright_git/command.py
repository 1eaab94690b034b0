"""Running git on repositories whose content is hostile.

Only bare repositories that we made are opened, with a clean environment: no system or
user configuration, no hooks, no prompts, http and https only. A token reaches git by
environment variables alone (`GIT_CONFIG_*`, git 2.31 or later): never by an argument
list, which everyone on the machine can read, and never by a file.
"""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path

from pydantic import SecretStr

from patchwright_common.errors import Permanent, Retry

STDERR_KEPT = 400
"""Characters of git's message that go into an error."""

_CONFIG = (
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.symlinks", "false"),
    ("credential.helper", ""),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("http.followRedirects", "false"),
    # A server that stalls is given up on: bytes per second, seconds.
    ("http.lowSpeedLimit", "1000"),
    ("http.lowSpeedTime", "30"),
    ("protocol.version", "2"),
)
_NETWORK_SIGNS = (
    "could not resolve",
    "couldn't connect",
    "failed to connect",
    "connection reset",
    "connection refused",
    "timed out",
    "operation too slow",
    "early eof",
    "remote end hung up",
    "rpc failed",
    "returned error: 5",
    "returned error: 429",
    "unexpected disconnect",
    "empty reply",
)


class GitError(Permanent):
    """git ended with an error that no later attempt would cure. `stderr` is git's message."""

    def __init__(self, command: str, stderr: str) -> None:
        super().__init__(f"git {command} failed: {stderr}")
        self.stderr = stderr


async def git(
    *arguments: str,
    repository: Path,
    token: SecretStr | None = None,
    stdin: bytes | None = None,
    timeout: float = 60.0,
    environment: dict[str, str] | None = None,
) -> bytes:
    """Run git in the bare `repository` and return its standard output.

    Raises `GitError`, or `Retry` for a network or server that was not there. When the
    caller is cancelled or the time (in seconds) is up, git and its children are killed.
    """
    process = await asyncio.create_subprocess_exec(
        "git",
        f"--git-dir={repository}",
        *arguments,
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(token) | (environment or {}),
        cwd=repository,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout):
            output, errors = await process.communicate(stdin)
    except TimeoutError:
        raise Retry(f"git {arguments[0]} took over {timeout:.0f} s") from None
    finally:
        await _end(process)
    if process.returncode:
        raise _failure(arguments[0], errors.decode(errors="replace"))
    return output


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        try:
            os.killpg(process.pid, 9)
        except ProcessLookupError:
            return
        await process.wait()


def _environment(token: SecretStr | None) -> dict[str, str]:
    config = list(_CONFIG)
    if token is not None:
        pair = base64.b64encode(f"x-access-token:{token.get_secret_value()}".encode()).decode()
        config.append(("http.extraHeader", f"Authorization: Basic {pair}"))
    environment = {
        "PATH": os.defpath + ":/usr/local/bin",
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "http:https",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_CONFIG_COUNT": str(len(config)),
    }
    for number, (key, value) in enumerate(config):
        environment[f"GIT_CONFIG_KEY_{number}"] = key
        environment[f"GIT_CONFIG_VALUE_{number}"] = value
    return environment


def _failure(command: str, stderr: str) -> GitError | Retry:
    # git prints URLs, which hold no token, and never headers.
    message = " ".join(stderr.split())[-STDERR_KEPT:]
    if any(sign in stderr.lower() for sign in _NETWORK_SIGNS):
        return Retry(f"git {command}: {message}")
    return GitError(command, message)
