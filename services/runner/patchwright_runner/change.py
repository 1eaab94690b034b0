"""Turns what a box reports into one commit in a bundle, without ever making a work tree.

The entries go straight into git's object store by `git fast-import`, in a repository of the
job's own that borrows the mirror's objects: no filter, hook or configuration has a say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from patchwright_git.command import git
from patchwright_git.scratch import scratch
from patchwright_runner.sandbox.protocol import Entry

_SECONDS = 120.0
BRANCH = "refs/heads/patchwright"
"""The bundle's only ref."""


@dataclass(frozen=True, slots=True)
class Author:
    """Whom the commit names as author and committer."""

    name: str
    email: str

    def at(self, date: datetime) -> str:
        """As git stores it; what would end a field early is left out."""
        name = "".join(c for c in self.name if c.isprintable() and c not in "<>").strip()
        email = "".join(c for c in self.email if c.isprintable() and c not in "<> ")
        return f"{name} <{email}> {int(date.timestamp())} +0000"


@dataclass(frozen=True, slots=True)
class FileChange:
    """One path of a change. A binary file counts no lines."""

    path: str
    status: str
    """A added, M modified, D deleted, T type changed."""
    additions: int
    deletions: int


@dataclass(frozen=True, slots=True)
class Change:
    """A bundle with one commit on top of `base`, which whoever applies it must have."""

    data: bytes
    """The bundle."""
    digest: str
    """Its SHA-256, hexadecimal."""
    commit: str
    base: str
    files: tuple[FileChange, ...]
    diffstat: str


async def bundle(
    entries: Sequence[Entry],
    *,
    mirror: Path,
    base: str,
    message: str,
    author: Author,
    date: datetime,
) -> Change | None:
    """One commit with these entries on top of `base`; None when nothing differs from it.

    Entries are taken as the sandbox's `collect` yields them, that is validated. The same
    entries and `date` give the same commit id.
    """
    with scratch("change") as repository:
        await _create(repository, mirror)
        stream = _stream(entries, base, message, author.at(date))
        await _git(repository, "fast-import", "--quiet", "--done", stdin=stream)
        if await _tree(repository, BRANCH) == await _tree(repository, base):
            return None
        create = ("bundle", "create", "--quiet", "-", f"{base}..{BRANCH}")
        data = await _git(repository, *create)
        return Change(
            data=data,
            digest=hashlib.sha256(data).hexdigest(),
            commit=(await _git(repository, "rev-parse", BRANCH)).decode().strip(),
            base=base,
            files=await _files(repository, base),
            diffstat=await _diff(repository, base, "--stat=100"),
        )


async def _create(repository: Path, mirror: Path) -> None:
    await _git(repository, "init", "--quiet", "--bare", "--template=")
    information = repository / "objects" / "info"
    information.mkdir(parents=True, exist_ok=True)
    (information / "alternates").write_text(f"{(mirror / 'objects').resolve()}\n")


def _stream(entries: Sequence[Entry], base: str, message: str, signed: str) -> bytes:
    """git-fast-import(1). Deletions come first: a file may have become a directory."""
    text = message.encode(errors="replace")
    parts = [
        f"commit {BRANCH}\nauthor {signed}\ncommitter {signed}\n".encode(),
        b"data %d\n%s\nfrom %s\n" % (len(text), text, base.encode()),
    ]
    parts += [b"D %s\n" % _quoted(entry.path) for entry in entries if entry.mode is None]
    for entry in entries:
        if entry.mode is not None:
            parts.append(b"M %s inline %s\n" % (entry.mode.encode(), _quoted(entry.path)))
            parts.append(b"data %d\n%s\n" % (len(entry.content), entry.content))
    parts.append(b"done\n")
    return b"".join(parts)


def _quoted(path: str) -> bytes:
    escaped = path.encode().replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"%s"' % escaped


async def _files(repository: Path, base: str) -> tuple[FileChange, ...]:
    names = (await _diff(repository, base, "-z", "--name-status")).split("\0")
    statuses = dict(zip(names[1::2], names[0::2], strict=False))
    files = []
    for row in filter(None, (await _diff(repository, base, "-z", "--numstat")).split("\0")):
        added, deleted, path = row.split("\t", 2)
        files.append(FileChange(path, statuses[path], _count(added), _count(deleted)))
    return tuple(files)


def _count(text: str) -> int:
    return 0 if text == "-" else int(text)


async def _diff(repository: Path, base: str, *form: str) -> str:
    """Renames count as a deletion and an addition: what is shown is what is checked."""
    plain = ("--no-renames", "--no-ext-diff", "--no-textconv", "-r", *form)
    return (await _git(repository, "diff-tree", *plain, base, BRANCH)).decode(errors="replace")


async def _tree(repository: Path, commit: str) -> bytes:
    return await _git(repository, "rev-parse", "--verify", f"{commit}^{{tree}}")


async def _git(repository: Path, *arguments: str, stdin: bytes | None = None) -> bytes:
    return await git(*arguments, directory=repository, timeout=_SECONDS, stdin=stdin)
