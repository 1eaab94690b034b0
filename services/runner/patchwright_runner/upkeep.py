"""Looks after the mirrors while no job waits for them: joins packs, drops what nobody needs.

Running boxes read a mirror's objects without a lock. Nothing that a job began from is ever
dropped while it may run: its ref under `refs/patchwright/base/` stays for days. Git itself
finds an object again that has moved from one pack into another.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from patchwright_common.beside import repeated
from patchwright_common.errors import Retry
from patchwright_git.command import GitFailed, git
from patchwright_runner.locks import locked_at_once
from patchwright_runner.origin import BASES

log = logging.getLogger(__name__)

PAUSE = 900.0
"""Seconds between two rounds."""
DAY = 24 * 3600.0
BASE_SECONDS = 7 * DAY
"""How long what a job began from is kept: longer than any job with all its attempts."""
COLLECT_SECONDS = 7 * DAY
_PACKS = 10
_LOOSE = 2000
_SECONDS = 120.0
"""A job that comes meanwhile waits no longer than this."""
_STAMP = "patchwright-collected"

Work = Literal["join", "collect"]


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What a mirror looks like from outside."""

    packs: int
    loose: int
    """Objects in files of their own, estimated as git does: from one folder of 256."""
    collected: float
    """Seconds since it was last cleared of what nothing refers to."""


def due(mirror: Mirrored) -> Work | None:
    """Joining packs drops nothing and is quick; collecting reads everything."""
    if mirror.collected >= COLLECT_SECONDS and mirror.packs > 0:
        return "collect"
    if mirror.packs > _PACKS or mirror.loose > _LOOSE:
        return "join"
    return None


class Upkeep:
    """Of all mirrors beneath `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def beside(self, *, pause: float = PAUSE) -> AbstractAsyncContextManager[None]:
        """A round now and then, for as long as the context lasts."""
        return repeated(self.round, pause=pause, what="tidied (mirrors)")

    async def round(self) -> list[tuple[str, Work]]:
        """Do what is due for mirrors that no job uses; what was done."""
        done = []
        for path in sorted(self._root.glob("*.git")):
            try:
                work = await self._care(path)
            except (GitFailed, Retry, OSError) as error:
                log.warning("the mirror %s could not be tidied: %s", path.name, error)
                continue
            if work is not None:
                log.info("the mirror %s was tidied (%s)", path.name, work)
                done.append((path.name, work))
        return done

    async def _care(self, path: Path) -> Work | None:
        used, fetched = path.with_suffix(".use"), path.with_suffix(".lock")
        with locked_at_once(used) as unused:
            if unused is None:
                return None
        with locked_at_once(fetched) as mine:
            if mine is None:
                return None
            work = due(look(path))
            if work == "join":
                await _git(path, mine, "repack", "-d", "--geometric=2", "-q")
            elif work == "collect":
                await _collect(path, mine)
            return work


async def _collect(path: Path, lock: int) -> None:
    """The stamp first: one that takes too long is not tried again at every round."""
    (path / _STAMP).touch()
    for base in _old_bases(path):
        await _git(path, lock, "update-ref", "-d", f"{BASES}/{base.name}")
    await _git(path, lock, "repack", "-a", "-d", "-q")
    await _git(path, lock, "prune", "--expire=now")


def _old_bases(path: Path) -> Iterator[Path]:
    oldest = time.time() - BASE_SECONDS
    for base in (path / BASES).glob("*"):
        if base.stat().st_mtime < oldest:
            yield base


def look(path: Path) -> Mirrored:
    """A mirror's state, from a few directory listings."""
    objects = path / "objects"
    if not objects.exists() or any(objects.glob("pack/*.promisor")):
        # Git before 2.44 loses track of what a lean mirror lacks when it joins packs.
        return Mirrored(packs=0, loose=0, collected=0.0)
    stamp = path / _STAMP
    since = stamp if stamp.exists() else path / "HEAD"
    return Mirrored(
        packs=len(list(objects.glob("pack/*.pack"))),
        loose=256 * len(list(objects.glob("17/*"))),
        collected=time.time() - since.stat().st_mtime,
    )


async def _git(path: Path, lock: int, *arguments: str) -> None:
    """The lock goes to git as well, so that it holds while an orphaned git still writes."""
    await git(*arguments, directory=path, timeout=_SECONDS, descriptors=[lock])
