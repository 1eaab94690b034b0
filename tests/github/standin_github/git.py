"""The bare repositories: git as a subprocess, without the machine's own git configuration."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

GIT_TIMEOUT = 60.0
"""Seconds for one git command."""
ZERO = "0" * 40
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
CONFIG = """
[core]
\thooksPath = "{hooks}"
[http]
\treceivepack = true
[uploadpack]
\tallowAnySHA1InWant = true
\tallowFilter = true
[receive]
\thideRefs = refs/pull
\tprocReceiveRefs = refs/
[gc]
\tauto = 0
"""


class GitError(Exception):
    """git said no; the text is its standard error."""


@dataclass(frozen=True, slots=True)
class Author:
    name: str
    email: str


class Git:
    """Repositories are named by id, so that no owner or name ever becomes a path."""

    def __init__(self, data: Path) -> None:
        self.root = data / "git"
        self.hooks = data / "hooks"
        self.root.mkdir(parents=True, exist_ok=True)
        self._write_hook()

    def _write_hook(self) -> None:
        self.hooks.mkdir(exist_ok=True)
        hook = self.hooks / "proc-receive"
        program = Path(__file__).with_name("proc_receive.py")
        hook.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{program}"\n')
        hook.chmod(hook.stat().st_mode | stat.S_IXUSR)

    def path(self, repository_id: int) -> Path:
        return self.root / f"{repository_id}.git"

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.root),
            "LC_ALL": "C.UTF-8",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
        }

    async def run(self, repository_id: int, *arguments: str, stdin: bytes = b"") -> bytes:
        """Standard output. Raises GitError for a status other than 0, TimeoutError in the end."""
        process = await asyncio.create_subprocess_exec(
            "git",
            *arguments,
            cwd=self.path(repository_id),
            env=self.environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(GIT_TIMEOUT):
                output, errors = await process.communicate(stdin)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        if process.returncode:
            raise GitError(errors.decode(errors="replace").strip())
        return output

    async def text(self, repository_id: int, *arguments: str) -> str:
        return (await self.run(repository_id, *arguments)).decode(errors="replace").strip()

    async def create(self, repository_id: int, default_branch: str) -> None:
        self.path(repository_id).mkdir()
        await self.run(repository_id, "init", "--quiet", "--bare", "--template=", ".")
        await self.text(repository_id, "symbolic-ref", "HEAD", f"refs/heads/{default_branch}")
        with (self.path(repository_id) / "config").open("a", encoding="utf-8") as config:
            config.write(CONFIG.format(hooks=self.hooks))

    async def resolve(self, repository_id: int, name: str) -> str | None:
        """The commit that a full ref, branch, tag or sha names; None when there is none."""
        for candidate in (f"refs/heads/{name}", f"refs/tags/{name}", name):
            if candidate.startswith("-"):
                continue
            try:
                return await self.text(
                    repository_id, "rev-parse", "--verify", "--quiet", f"{candidate}^{{commit}}"
                )
            except GitError:
                continue
        return None

    async def refs(self, repository_id: int, prefix: str = "refs/heads") -> dict[str, str]:
        listing = await self.text(
            repository_id, "for-each-ref", "--format=%(objectname) %(refname)", prefix
        )
        pairs = (line.split(" ", 1) for line in listing.splitlines())
        return {name: sha for sha, name in pairs}

    async def set_ref(self, repository_id: int, ref: str, sha: str, expected: str = "") -> None:
        """Raises GitError when `expected` is given and the ref is elsewhere by now."""
        arguments = ["update-ref", ref, sha] + ([expected] if expected else [])
        await self.run(repository_id, *arguments)

    async def delete_ref(self, repository_id: int, ref: str) -> None:
        await self.run(repository_id, "update-ref", "-d", ref)

    async def is_ancestor(self, repository_id: int, older: str, newer: str) -> bool:
        try:
            await self.run(repository_id, "merge-base", "--is-ancestor", older, newer)
        except GitError:
            return False
        return True

    async def commit(
        self,
        repository_id: int,
        branch: str,
        message: str,
        files: Mapping[str, str | None],
        author: Author,
    ) -> str:
        """Commit onto a branch, creating it when absent; None deletes a file, `#!` makes it run."""
        parent = await self.resolve(repository_id, f"refs/heads/{branch}")
        stream = _fast_import(branch, parent, message, files, author)
        await self.run(repository_id, "fast-import", "--quiet", stdin=stream)
        return await self.text(repository_id, "rev-parse", f"refs/heads/{branch}")


def _fast_import(
    branch: str,
    parent: str | None,
    message: str,
    files: Mapping[str, str | None],
    author: Author,
) -> bytes:
    who = f"{author.name} <{author.email}> {int(time.time())} +0000"
    lines = [f"commit refs/heads/{branch}", f"author {who}", f"committer {who}"]
    stream = "\n".join(lines).encode() + b"\n" + _data(message)
    if parent is not None:
        stream += f"from {parent}\n".encode()
    for path, content in files.items():
        stream += _file_change(path, content)
    return stream


def _file_change(path: str, content: str | None) -> bytes:
    quoted = '"' + path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if content is None:
        return f"D {quoted}\n".encode()
    mode = "100755" if content.startswith("#!") else "100644"
    return f"M {mode} inline {quoted}\n".encode() + _data(content)


def _data(text: str) -> bytes:
    body = text.encode()
    return f"data {len(body)}\n".encode() + body + b"\n"
