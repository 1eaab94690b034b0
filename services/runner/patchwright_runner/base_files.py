"""Files of a commit, read by git from the mirror's objects: never from a tree of an agent's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from patchwright_git.command import git

_ENTRY = re.compile(r"(?P<mode>\d{6}) \w+ (?P<object>[0-9a-f]+)\t(?P<name>.+)", re.DOTALL)
_PLAIN = frozenset({"100644", "100755"})


@dataclass(frozen=True, slots=True)
class BaseFile:
    """An entry of a commit's tree."""

    mirror: Path
    mode: str
    object: str

    @property
    def is_link(self) -> bool:
        """A symbolic link, whose content is a path."""
        return self.mode == "120000"

    @property
    def is_plain(self) -> bool:
        """Neither a link, nor a folder, nor a submodule."""
        return self.mode in _PLAIN

    async def size(self) -> int:
        """In bytes. Raises GitFailed where a mirror without all blobs lacks it."""
        return int(await git("cat-file", "-s", self.object, directory=self.mirror))

    async def content(self) -> bytes:
        """Raises GitFailed, as above."""
        return await git("cat-file", "blob", self.object, directory=self.mirror)


async def find(mirror: Path, base: str, *paths: str) -> dict[str, BaseFile]:
    """Those of the paths that commit `base` of the bare repository holds.

    Raises GitFailed for a commit that is not there.
    """
    listing = await git(
        "ls-tree", "-z", "--full-tree", "--end-of-options", base, "--", *paths, directory=mirror
    )
    entries = [_ENTRY.fullmatch(line) for line in listing.decode("utf-8", "replace").split("\0")]
    return {
        entry["name"]: BaseFile(mirror, entry["mode"], entry["object"])
        for entry in entries
        if entry
    }
