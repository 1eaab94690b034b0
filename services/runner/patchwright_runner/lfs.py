"""Git LFS: the base's large files are in the workspace to be read, built and tested with.

In git such a file is a short text, its pointer. The collector knows a file again whose pointer
stands in the base (`sandbox/inside/tree.py`); one that was changed cannot become part of a change,
because nobody here may upload its content.
https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from patchwright_common.errors import Permanent
from patchwright_common.events import Repository
from patchwright_git.command import git
from patchwright_runner import lfs_store
from patchwright_runner.lfs_store import LargeObject
from patchwright_runner.mirror import Mirror
from patchwright_runner.sandbox.protocol import Entry, Sandbox

POINTER_BYTES = 1024
"""A pointer is shorter."""
MOST = 10_000
"""Files of one repository."""
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n"
    rb"(?:ext-[^\n]*\n)*oid sha256:(?P<oid>[0-9a-f]{64})\nsize (?P<size>\d{1,15})\n"
)
_HIDE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class LargeFile:
    """One of the base's tree."""

    path: str
    mode: str
    content: LargeObject


def pointed_at(text: bytes) -> LargeObject | None:
    """What a blob stands for, if it is a pointer."""
    found = _POINTER.fullmatch(text)
    return LargeObject(found["oid"].decode(), int(found["size"])) if found else None


async def large_files(mirror: Path, base: str) -> list[LargeFile]:
    """Those of the base's tree. Raises Permanent for more than can be had."""
    listed = await git("ls-tree", "-r", "-l", "-z", "--full-tree", base, directory=mirror)
    short = dict(_short(listed))
    wanted = "".join(f"{blob}\n" for _, blob in short.values()).encode()
    texts = await git("cat-file", "--batch", directory=mirror, stdin=wanted)
    found = [
        LargeFile(path, mode, content)
        for (path, (mode, _)), text in zip(short.items(), _contents(texts), strict=True)
        if (content := pointed_at(text))
    ]
    if len(found) > MOST:
        raise Permanent(f"The repository has {len(found)} LFS files; the limit is {MOST}.")
    return found


def _short(listed: bytes) -> Iterator[tuple[str, tuple[str, str]]]:
    """Paths of ordinary files that may be pointers, with mode and blob."""
    for row in filter(None, listed.split(b"\0")):
        about, _, name = row.partition(b"\t")
        mode, kind, blob, size = about.decode().split()
        if kind == "blob" and mode != "120000" and int(size) < POINTER_BYTES:
            yield os.fsdecode(name), (mode, blob)


def _contents(output: bytes) -> Iterator[bytes]:
    """Of `git cat-file --batch`: `<id> <kind> <size>`, the content, each with a line's end."""
    at = 0
    while at < len(output):
        end = output.index(b"\n", at)
        size = int(output[at:end].rsplit(b" ", 1)[1])
        yield output[end + 1 : end + 1 + size]
        at = end + 1 + size + 1


async def place(
    box: Sandbox,
    mirror: Mirror,
    repository: Repository,
    token: SecretStr,
    files: list[LargeFile],
    *,
    most: int,
) -> None:
    """Put their content into a fresh checkout; `most` bytes in all.

    Raises Permanent with a sentence for the maintainer, Retry when the network fails.
    """
    total = sum(file.content.size for file in files)
    if total > most:
        raise Permanent(
            f"The repository's LFS files take {total / 1e6:.0f} MB, more than the "
            f"{most / 1e6:.0f} MB that fit into the sandbox's workspace.",
            advice="Operators: the limits are in services/runner/README.md.",
        )
    path = mirror.path(repository.id)
    async with mirror.held(repository.id):
        await lfs_store.fetch(path, repository.clone_url, token, [file.content for file in files])
        await box.restore(_entries(path, files))
    names = b"".join(os.fsencode(file.path) + b"\0" for file in files)
    # Or git in the box, which knows no filter, would call each of them modified.
    hide = "git update-index -z --skip-worktree --stdin"
    await box.run(hide, timeout=_HIDE_SECONDS, stdin=names)


def _entries(mirror: Path, files: Iterable[LargeFile]) -> Iterator[Entry]:
    """One at a time in memory."""
    for file in files:
        yield Entry(file.path, file.mode, file.content.place(mirror).read_bytes())


def refuse_changed(entries: Iterable[Entry], files: Iterable[LargeFile]) -> None:
    """Raises Permanent for a large file that was given another content."""
    large = {file.path for file in files}
    for entry in entries:
        if entry.path in large and entry.mode is not None and pointed_at(entry.content) is None:
            raise Permanent(
                f"The change gives {entry.path!a} another content, which Git LFS keeps; "
                "Patchwright can read LFS files and delete them, but not write them.",
                advice="Make this part of the change by hand.",
            )
