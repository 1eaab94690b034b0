"""The repository that is measured: generated once, served over HTTP, one commit newer at will."""

from __future__ import annotations

import base64
import hashlib
import random
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.repositories import git
from services.runner.tests.git_over_http import serve

_SEED = 4
_AHEAD = 64
"""Commits on top of the history, which `advance` makes public one by one."""


@dataclass(frozen=True)
class Shape:
    """How much there is: the history weighs about `commits * changed * file_bytes * 0.75`."""

    files: int = 20_000
    commits: int = 1_000
    changed: int = 75
    """Files that each commit writes anew."""
    file_bytes: int = 4_000
    """On average; base64 of random bytes, which packs to three quarters."""


@dataclass
class Origin:
    """A bare repository with a branch `main`."""

    path: Path
    url: str
    step: int = 0

    @property
    def head(self) -> str:
        """The commit of `main`."""
        return git(self.path, "rev-parse", "main")

    def advance(self) -> str:
        """Move `main` one commit on, and return it."""
        self.step += 1
        git(self.path, "update-ref", "refs/heads/main", f"refs/ahead/{self.step % _AHEAD}")
        return self.head

    def megabytes(self) -> int:
        """Of all objects together."""
        files = (file for file in (self.path / "objects").rglob("*") if file.is_file())
        return sum(file.stat().st_size for file in files) // 1_000_000


@contextmanager
def served(shape: Shape, cache: Path) -> Iterator[Origin]:
    """The repository of that shape behind the real `git http-backend`."""
    path = cache / f"{_name(shape)}.git"
    if not path.exists():
        _generate(shape, path)
    git(path, "update-ref", "refs/heads/main", "refs/ahead/0")
    with serve(cache) as server:
        yield Origin(path, server.address(path.name))


def _name(shape: Shape) -> str:
    return f"origin-{hashlib.sha256(repr((shape, _SEED, _AHEAD)).encode()).hexdigest()[:12]}"


def _generate(shape: Shape, path: Path) -> None:
    fresh = path.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    git(fresh, "init", "--quiet", "--bare", "--initial-branch=main")
    # Deltas between random bytes do not exist: looking for them takes minutes.
    command = ["git", "-C", str(fresh), "-c", "core.compression=1", "fast-import", "--quiet"]
    with subprocess.Popen([*command, "--depth=0"], stdin=subprocess.PIPE) as importing:
        assert importing.stdin is not None
        for piece in _stream(shape):
            importing.stdin.write(piece)
    if importing.returncode != 0:
        raise RuntimeError("the repository could not be generated")
    # With a bitmap, as hosts have one: the server of the clones shall not be the slow part.
    git(fresh, "repack", "-a", "-d", "-q", "--window=0", "--write-bitmap-index")
    fresh.rename(path)


def _stream(shape: Shape) -> Iterator[bytes]:
    chance = random.Random(_SEED)  # noqa: S311 - the same repository every time
    every = range(shape.files)
    yield from _commit(chance, shape, "refs/heads/main", 0, every)
    few = min(shape.changed, shape.files)
    for number in range(1, shape.commits + _AHEAD + 1):
        yield from _commit(chance, shape, "refs/heads/main", number, chance.sample(every, few))
        if number > shape.commits:
            ahead = number - shape.commits - 1
            yield b"reset refs/ahead/%d\nfrom refs/heads/main\n\n" % ahead


def _commit(
    chance: random.Random, shape: Shape, branch: str, number: int, files: Iterable[int]
) -> Iterator[bytes]:
    date = 1_700_000_000 + number
    yield b"commit %s\ncommitter Bench <b@example.com> %d +0000\n" % (branch.encode(), date)
    yield b"data 4\nstep\n"
    for file in files:
        size = chance.randint(shape.file_bytes // 2, shape.file_bytes * 3 // 2)
        content = base64.encodebytes(chance.randbytes(size * 3 // 4))
        place = b"src/part_%03d/group_%d/file_%05d.txt" % (file // 200, file // 20 % 10, file)
        yield b"M 100644 inline %s\ndata %d\n%s\n" % (place, len(content), content)
    yield b"\n"
