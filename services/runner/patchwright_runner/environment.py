"""What a repository's set-up commands leave behind, kept for later boxes.

A kept environment is a tar stream, made inside a box and unpacked inside a box, by the agent's
own user. Outside it is one opaque file, whose name tells what it was made from and the digest
of its bytes. Only a box in which nothing but the set-up has run can add one, and only for the
default branch: no job can leave something for another.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Protocol

from patchwright_git.command import git
from patchwright_runner.room import Kept, make_room
from patchwright_runner.sandbox.protocol import BoxLost, ToolError

SET_UP_FILES = (
    "package.json",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "requirements*.txt",
    "pyproject.toml",
    "setup.py",
    "setup.cfg",
    "uv.lock",
    "poetry.lock",
    "Pipfile.lock",
    "Cargo.toml",
    "Cargo.lock",
    "go.mod",
    "go.sum",
    "Gemfile.lock",
    "composer.lock",
    "pom.xml",
    "*.gradle",
    "*.gradle.kts",
    ".tool-versions",
    ".python-version",
    ".nvmrc",
)
"""Names, in any folder, of the files that set-up commands usually read."""
ENTRY_BYTES = 1024**3
"""The most that one environment may weigh; a box's workspace and home hold little more."""
_SUBMODULE = "160000"
_PIECE = 1 << 20
_DRAFT_SECONDS = 3600.0
"""After this a file that is being written was left by a runner that died."""

log = logging.getLogger(__name__)


class Preparable(Protocol):
    """What is asked of a box here."""

    prepared: str
    """The digest of the recipe whose result was restored in it."""

    @property
    def used(self) -> bool:
        """Whether a command or a file tool has run in it."""
        ...

    async def checkout(self, base: str) -> None:
        """See Sandbox.checkout."""
        ...

    def pack(self, most: int) -> AsyncIterator[bytes]:
        """Stream out what git does not track, and the home; raises ToolError beyond `most`."""
        ...

    async def unpack(self, pieces: AsyncIterator[bytes]) -> None:
        """Take such a stream in; raises ToolError when it is refused."""
        ...


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that an environment depends on; two that differ in anything share nothing."""

    repository_id: int
    made_by: str
    """The backend and its programs, such as the image's digest."""
    commands: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    """Set-up files and submodules of the base tree: path and object id, sorted."""

    @property
    def digest(self) -> str:
        """SHA-256, hexadecimal."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()


async def recipe(
    mirror: Path,
    base: str,
    *,
    repository_id: int,
    made_by: str,
    commands: Sequence[str],
    files: Sequence[str] = SET_UP_FILES,
) -> Recipe:
    """What the environment of this base depends on.

    `files` are patterns for whole paths, or for the name alone where they hold no slash.
    """
    listed = await git("ls-tree", "-r", "-z", "--full-tree", base, directory=mirror)
    found = {}
    for row in filter(None, listed.split(b"\0")):
        about, _, name = row.partition(b"\t")
        path = os.fsdecode(name)
        mode, _, identity = about.decode().split(" ")
        if mode == _SUBMODULE or any(_matches(path, pattern) for pattern in files):
            found[path] = identity
    return Recipe(repository_id, made_by, tuple(commands), tuple(sorted(found.items())))


def _matches(path: str, pattern: str) -> bool:
    return fnmatchcase(path if "/" in pattern else path.rpartition("/")[2], pattern)


class EnvironmentCache:
    """All kept environments beneath `root`, which belongs to us alone."""

    def __init__(self, root: Path, *, disk_bytes: int, entry_bytes: int = ENTRY_BYTES) -> None:
        self._root = root
        self._disk_bytes = disk_bytes
        self._entry_bytes = min(entry_bytes, disk_bytes)

    async def prepared(
        self,
        box: Preparable,
        wanted: Recipe,
        *,
        base: str,
        of_default_branch: bool,
        set_up: Callable[[], Awaitable[None]],
    ) -> bool:
        """Bring the set-up's result into a fresh box that stands at `base`.

        Whether it was kept. If not, `set_up` runs the commands in the box, and what they leave
        is kept when `base` is of the default branch; afterwards tracked files are as in `base`.
        Raises what `set_up` raises, and BoxLost when the box is spoiled.
        """
        if box.prepared == wanted.digest or await self.restored(box, wanted):
            return True
        fresh = not box.used
        await set_up()
        await box.checkout(base)
        if not fresh:
            log.error("an environment is not kept: something else had run in its box")
        elif of_default_branch:
            await self._keep(box, wanted)
        return False

    async def restored(self, box: Preparable, wanted: Recipe) -> bool:
        """Whether the environment was kept, and is now in the box."""
        with contextlib.ExitStack() as stack:
            file = await asyncio.to_thread(self._open, wanted)
            if file is None:
                return False
            stack.enter_context(file)
            try:
                await box.unpack(_pieces(file))
            except ToolError as error:
                self._discard(wanted)
                raise BoxLost(f"A kept environment could not be restored: {error}") from error
        box.prepared = wanted.digest
        return True

    def _open(self, wanted: Recipe) -> IO[bytes] | None:
        """The kept file, if it still has the digest that it was kept under."""
        for path in self._root.glob(f"{wanted.digest}.*.tar"):
            try:
                file = path.open("rb")
            except FileNotFoundError:  # another job made room
                continue
            if hashlib.file_digest(file, "sha256").hexdigest() == path.name.split(".")[1]:
                file.seek(0)
                with contextlib.suppress(FileNotFoundError):
                    os.utime(path)
                return file
            file.close()
            log.error("the kept environment %s was changed on the disk: thrown away", path.name)
            path.unlink(missing_ok=True)
        return None

    def _discard(self, wanted: Recipe) -> None:
        for path in self._root.glob(f"{wanted.digest}.*.tar"):
            path.unlink(missing_ok=True)

    async def _keep(self, box: Preparable, wanted: Recipe) -> None:
        """What cannot be kept costs the next job its time, and nobody anything else."""
        try:
            with self._draft() as file:
                digest = await _written(box.pack(self._entry_bytes), file)
                file.close()
                _publish(file.name, self._root / f"{wanted.digest}.{digest}.tar")
            await asyncio.to_thread(self._make_room)
        except (ToolError, OSError) as error:
            log.warning("an environment is not kept: %s", error)

    @contextlib.contextmanager
    def _draft(self) -> Iterator[IO[bytes]]:
        """A file beside the kept ones, which is gone afterwards unless it was renamed."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._root, suffix=".new", delete=False) as file:
            try:
                yield file
            finally:
                Path(file.name).unlink(missing_ok=True)

    def _make_room(self) -> None:
        for left in self._root.glob("*.new"):
            with contextlib.suppress(FileNotFoundError):
                if left.stat().st_mtime < time.time() - _DRAFT_SECONDS:
                    left.unlink()
        kept = []
        for path in self._root.glob("*.tar"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                kept.append(Kept(path, status.st_size, status.st_mtime))
        make_room(kept, self._disk_bytes, _remove)


async def _written(pieces: AsyncIterator[bytes], file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    async for piece in pieces:
        digest.update(piece)
        await asyncio.to_thread(file.write, piece)
    return digest.hexdigest()


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, _PIECE):
        yield piece


def _publish(draft: str, path: Path) -> None:
    Path(draft).rename(path)


def _remove(kept: Kept) -> bool:
    log.info("removed the kept environment %s (%d MB)", kept.path.name, kept.size // 1_000_000)
    kept.path.unlink(missing_ok=True)
    return True
