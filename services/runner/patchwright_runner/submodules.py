"""Submodules of the base, as read-only files in the workspace: no repository, no history.

A `.gitmodules` is the repository's own text. Only addresses on the same GitHub are followed,
and without a token: the job's opens its own repository alone, so that only public submodules
can be had. The change leaves them as they are.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import urljoin, urlsplit

from patchwright_common.errors import Permanent
from patchwright_git.command import GitFailed, git
from patchwright_git.remote import TokenRefusedError
from patchwright_git.scratch import scratch
from patchwright_github.address import lies_on
from patchwright_runner.mirror import Mirror
from patchwright_runner.sandbox.entries import check_path
from patchwright_runner.sandbox.protocol import ToolError

MOST = 100
"""Submodules of one repository; those of submodules are left out."""
_ARCHIVE_SECONDS = 300.0
_PIECE = 1 << 20
_READ_ONLY = {"tar.umask": "0222"}

log = logging.getLogger(__name__)


class Unpacking(Protocol):
    """What is asked of a box here."""

    async def unpack(self, pieces: AsyncIterator[bytes]) -> None:
        """Put a tar stream into the workspace."""
        ...


@dataclass(frozen=True, slots=True)
class Submodule:
    """One that the base refers to."""

    path: str
    commit: str
    url: str
    """As it is to be fetched; empty when it lies elsewhere, or nowhere."""


async def submodules(mirror: Path, base: str, *, clone_url: str) -> list[Submodule]:
    """Those of the base's tree, wherever they lie."""
    commits = await _commits(mirror, base)
    if not commits:
        return []
    urls = addresses(await _gitmodules(mirror, base))
    return [
        Submodule(path, commit, resolved(urls.get(path, ""), clone_url))
        for path, commit in commits.items()
    ][:MOST]


async def _gitmodules(mirror: Path, base: str) -> str:
    """It may be missing, or no configuration at all: then nobody knows where they lie."""
    blob = f"{base}:.gitmodules"
    try:
        listed = await git("config", "--blob", blob, "--list", "-z", directory=mirror)
    except GitFailed as error:
        log.info("no .gitmodules can be read: %s", error)
        return ""
    return listed.decode(errors="replace")


async def _commits(mirror: Path, base: str) -> dict[str, str]:
    listed = await git("ls-tree", "-r", "-z", "--full-tree", base, directory=mirror)
    found = {}
    for row in filter(None, listed.split(b"\0")):
        about, _, name = row.partition(b"\t")
        if about.startswith(b"160000 "):
            found[os.fsdecode(name)] = about.decode().split(" ")[2]
    return found


def addresses(listed: str) -> dict[str, str]:
    """From `git config --list -z` of a .gitmodules: addresses by path."""
    modules: dict[str, dict[str, str]] = {}
    for row in filter(None, listed.split("\0")):
        key, _, value = row.partition("\n")
        section, _, rest = key.partition(".")
        name, _, variable = rest.rpartition(".")
        if section == "submodule":
            modules.setdefault(name, {})[variable] = value
    return {one["path"]: one["url"] for one in modules.values() if {"path", "url"} <= one.keys()}


def resolved(url: str, clone_url: str) -> str:
    """The address on the same GitHub, or nothing. Relative ones start at the repository."""
    if url.startswith(("./", "../")):
        url = urljoin(f"{clone_url.rstrip('/')}/", url)
    host = urlsplit(clone_url).hostname
    if url.startswith(f"git@{host}:"):
        url = urljoin(clone_url, "/" + url.partition(":")[2])
    plain = "@" not in url and "?" not in url and "#" not in url
    return url if plain and lies_on(url, clone_url) else ""


async def place(
    box: Unpacking, mirror: Mirror, repository_id: int, clone_url: str, base: str
) -> list[str]:
    """Bring the base's submodules into its fresh checkout; the paths of those left out.

    The repository's own mirror holds `base` already. Raises Retry when the network fails.
    """
    left_out = []
    for submodule in await submodules(mirror.path(repository_id), base, clone_url=clone_url):
        try:
            check_path(submodule.path)
            if not submodule.url:
                raise Permanent("It lies on another host.")
            await _place(box, mirror, repository_id, submodule)
        except (Permanent, TokenRefusedError, ToolError) as error:
            # Without a token, GitHub answers for a private repository as for a bad token.
            log.info("the submodule %r is left out: %s", submodule.path, error)
            left_out.append(submodule.path)
    return left_out


async def _place(box: Unpacking, mirror: Mirror, repository_id: int, submodule: Submodule) -> None:
    name = f"{repository_id}-{hashlib.sha256(submodule.url.encode()).hexdigest()[:16]}"
    with scratch("submodule") as folder:
        archive = folder / "files.tar"
        async with mirror.held(name):
            path = await mirror.fetch(name, submodule.url, None, sha=submodule.commit)
            await _archive(path, submodule, archive)
        with archive.open("rb") as file:
            await box.unpack(_pieces(file))


async def _archive(mirror: Path, submodule: Submodule, output: Path) -> None:
    options = ("--format=tar", f"--prefix=workspace/{submodule.path}/", f"--output={output}")
    try:
        await git(
            *("archive", *options, submodule.commit),
            directory=mirror,
            timeout=_ARCHIVE_SECONDS,
            settings=_READ_ONLY,
        )
    except GitFailed as error:
        raise Permanent(f"It cannot be read: {error}") from error


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, _PIECE):
        yield piece
