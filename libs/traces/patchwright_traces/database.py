"""The SQLite file: its schema, and two threads that keep it off the event loop.

One connection writes and one reads. In WAL mode neither waits for the other,
so that a slow search does not hold up an exporter.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

SCHEMA_VERSION = 1
"""Raise it with every change of the schema: an older file is emptied, as it is only a cache."""

_BUSY_SECONDS = 5.0

_SCHEMA = """
CREATE TABLE services (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE processes (
    id INTEGER PRIMARY KEY,
    service_id INTEGER NOT NULL REFERENCES services (id),
    tags TEXT NOT NULL,
    UNIQUE (service_id, tags)
);
CREATE TABLE spans (
    trace_id TEXT NOT NULL,
    span_id TEXT NOT NULL,
    parent_id TEXT,
    process_id INTEGER NOT NULL REFERENCES processes (id),
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    start_ns INTEGER NOT NULL,
    end_ns INTEGER NOT NULL,
    status TEXT NOT NULL,
    job_id TEXT,
    details TEXT NOT NULL,
    words TEXT NOT NULL,
    UNIQUE (trace_id, span_id)
);
CREATE INDEX spans_in_order ON spans (trace_id, start_ns, end_ns, status, process_id);
CREATE INDEX spans_of_process ON spans (process_id, name, kind);
CREATE TABLE traces (
    trace_id TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    start_ns INTEGER NOT NULL,
    end_ns INTEGER NOT NULL,
    span_count INTEGER NOT NULL,
    error_count INTEGER NOT NULL,
    root_id TEXT NOT NULL,
    job_id TEXT
);
CREATE INDEX traces_by_start ON traces (start_ns);
CREATE INDEX traces_by_revision ON traces (revision);
"""


def connect(path: Path) -> sqlite3.Connection:
    """Open the file for one thread at a time, making or renewing its schema.

    Raises `sqlite3.Error` where the file cannot be opened or is no database.
    """
    connection = sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    with transaction(connection):
        if connection.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
            _renew(connection)
    return connection


def _renew(connection: sqlite3.Connection) -> None:
    for table in ("traces", "spans", "processes", "services"):
        connection.execute(f"DROP TABLE IF EXISTS {table}")
    for statement in _SCHEMA.split(";\n"):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Everything inside happens, or nothing. Takes the write lock at once."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


class Database:
    """The file, opened for the time of an `async with`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def __aenter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = _Lane("traces-writer", connect(self._path))
        self._reader = _Lane("traces-reader", connect(self._path))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reader.close()
        self._writer.close()

    async def write(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Call `work(connection, …)` on the writing thread, one at a time."""
        return await self._writer.run(lambda connection: work(connection, *args, **kwargs))

    async def read(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Call `work(connection, …)` on the reading thread."""
        return await self._reader.run(lambda connection: work(connection, *args, **kwargs))


class _Lane:
    """A connection and the only thread that uses it."""

    def __init__(self, name: str, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, work, self._connection)

    def close(self) -> None:
        self._thread.shutdown(wait=True)
        self._connection.close()
