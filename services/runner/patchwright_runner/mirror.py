"""One bare repository per GitHub repository, fetched incrementally, borrowed from by boxes.

Running boxes read its objects without a lock: nothing is dropped that a job may need (see
`upkeep.py`). What a job starts from stays under `refs/patchwright/base/`, which also tells
without a network that it is there, whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from patchwright_common.errors import Permanent, Retry
from patchwright_git.command import GitFailed, git
from patchwright_git.remote import explained
from patchwright_runner.locks import locked, locked_at_once
from patchwright_runner.origin import BASES, Origin, is_kept, is_lean
from patchwright_runner.room import Kept, make_room, size_of

_LOCAL_SECONDS = 60.0
_SHA = re.compile(r"[0-9a-f]{40}")
_BROKEN = re.compile(
    r"not a git repository|bad object|is corrupt|unable to read (tree|sha1)|broken (ref|link)|"
    r"index file .* is too small|did not send all necessary objects|"
    r"pack .*(invalid|far too short)|bad config|inflate",
    re.IGNORECASE,
)

log = logging.getLogger(__name__)


class Mirror:
    """All mirrors beneath `root`, which belongs to us alone (they may be private)."""

    def __init__(
        self,
        root: Path,
        *,
        environment: Mapping[str, str] | None = None,
        disk_bytes: int | None = None,
        lean: Iterable[str] = (),
    ) -> None:
        """`environment`: proxy and certificate variables for git, if the network needs any.

        `disk_bytes` is what all mirrors together may take; None: what there is. `lean` are
        huge repositories, as `owner/name`: of their history only commits and trees are
        fetched, and all files of what a job begins from.
        """
        self._root = root
        self._environment = dict(environment or {})
        self._disk_bytes = disk_bytes
        self._lean = frozenset(name.lower() for name in lean)
        self._sizes: dict[Path, int] = {}

    def path(self, repository_id: int | str) -> Path:
        """Where the mirror lies, fetched or not."""
        return self._root / f"{repository_id}.git"

    @asynccontextmanager
    async def held(self, repository_id: int | str) -> AsyncIterator[None]:
        """Keep this repository's mirror from being removed, from before its fetch to the end."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.path(repository_id)
        async with locked(path.with_suffix(".use"), shared=True):
            try:
                yield
            finally:
                _touch(path)

    async def fetch(
        self,
        repository_id: int | str,
        clone_url: str,
        token: str | None,
        *,
        sha: str,
        timeout: float = 600.0,
    ) -> Path:
        """The bare repository, with commit `sha` and its history in it.

        What was fetched with one repository's token lies under that repository's id alone.

        Goes to the network only when it must. Raises Retry for what time may cure and
        Permanent with a sentence for the maintainer; neither shows the token.
        """
        _check_request(clone_url, sha)
        try:
            async with asyncio.timeout(timeout):
                return await self._fetch(repository_id, clone_url, token, sha)
        except TimeoutError as error:
            raise Retry(f"Fetching the repository took over {timeout:.0f} s.") from error

    async def _fetch(self, repository_id: int | str, url: str, token: str | None, sha: str) -> Path:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.path(repository_id)
        async with locked(path.with_suffix(".lock")) as lock:
            await _prepare(path)
            if not await is_kept(path, sha):
                lean = _name(url) in self._lean or is_lean(path)
                secret = None if token is None else SecretStr(token)
                origin = Origin(url, secret, self._environment, lean)
                await _fetched(origin, path, sha, lock)
                await asyncio.to_thread(self._make_room, path)
            _touch(path)
            _touch(path / BASES / sha)
            return path

    def _make_room(self, fetched: Path) -> None:
        """Of mirrors that nobody holds or fetches, which `fetched` is not."""
        if self._disk_bytes is None:
            return
        for abandoned in self._root.glob("*.git.old-*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        self._sizes.pop(fetched, None)
        kept = list(self._kept())
        removed = make_room(kept, self._disk_bytes, _remove)
        left = sum(one.size for one in kept) - sum(one.size for one in removed)
        for one in removed:
            self._sizes.pop(one.path, None)
            log.info("removed the mirror %s (%d MB)", one.path.name, one.size // 1_000_000)
        if left > self._disk_bytes:
            now, wanted = left // 1_000_000, self._disk_bytes // 1_000_000
            log.warning("the mirrors in use take %d MB: more than the %d MB allowed", now, wanted)

    def _kept(self) -> Iterator[Kept]:
        """Each is looked through once for each fetch: it may hold many thousands of files."""
        for path in self._root.glob("*.git"):
            with contextlib.suppress(FileNotFoundError):
                size = self._sizes.get(path) or size_of(path)
                self._sizes[path] = size
                yield Kept(path, size, path.stat().st_mtime)


async def _fetched(origin: Origin, path: Path, sha: str, lock: int) -> None:
    """Fetch, and once more into a new mirror when this one is broken."""
    try:
        await origin.fetch(path, sha, lock)
        return
    except GitFailed as error:
        if not _BROKEN.search(error.said):
            raise explained(error) from None
    log.warning("the mirror %s is broken and made anew", path)
    await asyncio.to_thread(shutil.rmtree, path)
    await _prepare(path)
    try:
        await origin.fetch(path, sha, lock)
    except GitFailed as error:
        raise explained(error) from None


def _remove(kept: Kept) -> bool:
    """Out of the way under both locks, then deleted at leisure."""
    path = kept.path
    old = path.with_name(f"{path.name}.old-{secrets.token_hex(4)}")
    with (
        locked_at_once(path.with_suffix(".use")) as unused,
        locked_at_once(path.with_suffix(".lock")) as unfetched,
    ):
        if unused is None or unfetched is None:
            return False
        path.rename(old)
    shutil.rmtree(old, ignore_errors=True)
    return True


def _touch(path: Path) -> None:
    """When it was last used; it may be packed away, or never have come to be."""
    with contextlib.suppress(FileNotFoundError):
        os.utime(path)


def _name(url: str) -> str:
    return urlsplit(url).path.strip("/").removesuffix(".git").lower()


def _check_request(url: str, sha: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise Permanent("The repository's address is not a plain http or https address.")
    if not _SHA.fullmatch(sha):
        raise Permanent("The base commit is not a full commit id.")


async def _prepare(path: Path) -> None:
    """A usable repository: made whole in one rename, freed of what a killed git left."""
    if _clean(path):
        return
    fresh = Path(tempfile.mkdtemp(dir=path.parent, prefix=f"{path.name}.new-"))
    try:
        # World-readable objects: a box reads them as a user of its own.
        options = ("--quiet", "--bare", "--template=", "--shared=0644")
        await git("init", *options, directory=fresh, timeout=_LOCAL_SECONDS)
        _publish(fresh, path)
    finally:
        await asyncio.to_thread(shutil.rmtree, fresh, ignore_errors=True)


def _publish(fresh: Path, path: Path) -> None:
    (fresh / "objects").chmod(0o755)
    fresh.rename(path)


def _clean(path: Path) -> bool:
    """Whether there is a mirror; we hold the lock, so whoever left these files is dead."""
    for pattern in ("*.lock", "refs/**/*.lock", "objects/pack/tmp_*", "objects/??/tmp_obj_*"):
        for left in path.glob(pattern):
            left.unlink(missing_ok=True)
    for left in path.parent.glob(f"{path.name}.new-*"):
        shutil.rmtree(left, ignore_errors=True)
    for left in path.glob("objects/tmp_objdir-*"):
        shutil.rmtree(left, ignore_errors=True)
    return path.exists()
