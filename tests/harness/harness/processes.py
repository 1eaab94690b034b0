"""The processes of this machine, as its kernel tells of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def told(entry: str) -> Iterator[tuple[int, bytes]]:
    """Process ids, and what is in this file of theirs: `cmdline`, `environ`.

    Without those that end meanwhile. A glob for the files would fail for one: between the look
    into the folder and the one at the file the kernel says ESRCH, which pathlib hands on.
    """
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            yield int(folder.name), (folder / entry).read_bytes()
        except OSError:
            continue
