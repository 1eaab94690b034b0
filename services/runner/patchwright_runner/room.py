"""How much may lie on the disk: what was used longest ago goes first."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Kept:
    """One thing on the disk that can be made again."""

    path: Path
    size: int
    """Bytes."""
    used: float
    """When, in seconds of the system's clock."""


def make_room(kept: Iterable[Kept], limit: int, remove: Callable[[Kept], bool]) -> list[Kept]:
    """Remove until all that is left fits into `limit` bytes; what went.

    `remove` may refuse by returning False: the next one is tried instead.
    """
    oldest_first = sorted(kept, key=lambda one: one.used)
    left = sum(one.size for one in oldest_first)
    removed = []
    for one in oldest_first:
        if left <= limit:
            break
        if remove(one):
            left -= one.size
            removed.append(one)
    return removed


def size_of(folder: Path) -> int:
    """Bytes on the disk below `folder`; files that vanish meanwhile count nothing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).lstat().st_blocks * 512
            except FileNotFoundError:
                continue
    return total
