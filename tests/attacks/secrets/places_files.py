"""Every file below a stack's folder, whoever wrote it, except where secrets belong."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from harness.stack import RunningStack

from .canaries import homes
from .git_objects import objects, repositories
from .places import (
    CORES,
    FILES,
    GIT_CONFIGURATION,
    HISTORY,
    LOGS,
    MIRRORS,
    SPANS,
    STORE_FILES,
    TEMPORARY,
    TERMINAL,
    Place,
)

KINDS = {
    re.compile("up.log$"): TERMINAL,
    re.compile("tmp(/|$)"): TEMPORARY,
    re.compile("home/logs(/|$)"): LOGS,
    re.compile("home/nats(/|$)"): STORE_FILES,
    re.compile("home/traces.db"): SPANS,
    re.compile("home/github(/|$)"): HISTORY,
    re.compile("home/runner/mirrors/[^/]+/objects(/|$)"): MIRRORS,
    re.compile("home/runner(/|$)"): GIT_CONFIGURATION,
}
"""By the beginning of the path."""


def files(stack: RunningStack) -> Iterator[Place]:
    """Beside the stack's folder `home` lie its TMPDIR `tmp` and what its terminal showed."""
    root, known = stack.folder.root.parent, homes(stack)
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        kind = kind_of(path.relative_to(root))
        yield Place(kind, f"the name of {name}", name.encode())
        if path.is_file() and not path.is_symlink() and path not in known:
            try:
                yield Place(kind, name, path.read_bytes())
            except FileNotFoundError:
                continue  # a file of a moment, such as NATS's drafts
    yield from _spans(stack.folder.root / "traces.db")
    yield from _unpacked(stack.folder.root)


def kind_of(path: Path) -> str:
    """By where it is, relative to `root`."""
    if path.name == "core" or path.name.startswith("core."):
        return CORES
    return next((kind for pattern, kind in KINDS.items() if pattern.match(str(path))), FILES)


def _spans(database: Path) -> Iterator[Place]:
    """Row by row too: SQLite may spread a long text over several pages of its file."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        for (table,) in rows.fetchall():
            for row in connection.execute(f'SELECT * FROM "{table}"'):  # noqa: S608  its own name
                yield Place(SPANS, f"a row of {table}", repr(row).encode())
                yield Place(SPANS, f"a row of {table}", "\n".join(map(str, row)).encode())
    finally:
        connection.close()


def _unpacked(home: Path) -> Iterator[Place]:
    for part, kind in (("github", HISTORY), ("runner", MIRRORS)):
        for repository in repositories(home / part):
            yield Place(kind, f"objects of {part}/{repository.name}", objects(repository))
