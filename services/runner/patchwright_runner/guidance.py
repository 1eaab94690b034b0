"""The repository's own word to agents, `CLAUDE.md` and `AGENTS.md`, as the base commit has it.

Read by git from the mirror's objects, never from a tree that an agent could have written. Only the
root's plain files count: a link or a submodule of that name is said to be there and not followed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from patchwright_git.command import GitFailed
from patchwright_runner.agent.protocol import Guide
from patchwright_runner.base_files import BaseFile, find

NAMES: Final = ("CLAUDE.md", "AGENTS.md")
CHARACTERS: Final = 30_000
"""Of one file; what is longer is cut off."""
MOST_BYTES: Final = 1_000_000
"""Of a file that is read at all."""


async def guidance(mirror: Path, base: str) -> tuple[Guide, ...]:
    """What the commit `base` of the bare repository `mirror` holds of it; one of two that agree.

    Raises GitFailed for a commit that is not there.
    """
    found = await find(mirror, base, *NAMES)
    guides = [await _read(name, found[name]) for name in NAMES if name in found]
    if len(guides) == 2 and guides[0].text.strip() == guides[1].text.strip() != "":
        return (guides[0],)
    return tuple(guides)


async def _read(name: str, file: BaseFile) -> Guide:
    if file.is_link:
        return Guide(name, note="It is a symbolic link, which was not followed.")
    if not file.is_plain:
        return Guide(name, note="It is not a file.")
    try:
        size = await file.size()
        if size > MOST_BYTES:
            return Guide(name, note=f"It was not read: it has {size:,} bytes.")
        return _shown(name, await file.content())
    except GitFailed:
        # A mirror without all blobs may lack it.
        return Guide(name, note="It could not be read.")


def _shown(name: str, data: bytes) -> Guide:
    if b"\0" in data:
        return Guide(name, note="It was not read: it is not a text.")
    text = data.decode("utf-8", "replace")
    left_out = len(text) - CHARACTERS
    if left_out <= 0:
        return Guide(name, text)
    return Guide(name, text[:CHARACTERS], f"Its last {left_out:,} characters were left out.")
