"""Spans into the database: idempotent by span id, bounded by traces and by spans a trace."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from patchwright_traces.database import transaction
from patchwright_traces.rows import COLUMNS, dump_tags, to_row
from patchwright_traces.spans import Process, Span


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept: traces in all, and spans in one trace."""

    traces: int = 1_000
    spans_per_trace: int = 50_000


def record(connection: sqlite3.Connection, spans: Sequence[Span], limits: Limits) -> int:
    """Keep the spans in one transaction; returns how many had no room in their trace.

    A span that is already there stays as it is, so an export can be sent again.
    """
    by_trace: defaultdict[str, list[Span]] = defaultdict(list)
    for span in spans:
        by_trace[span.trace_id].append(span)
    with transaction(connection):
        revision = _next_revision(connection)
        processes = {
            process: _process_id(connection, process)
            for process in dict.fromkeys(span.process for span in spans)
        }
        refused = 0
        for trace_id, members in by_trace.items():
            kept = members[: _room(connection, trace_id, limits)]
            refused += len(members) - len(kept)
            if _insert(connection, kept, processes):
                _summarise(connection, trace_id, revision)
        _forget(connection, limits.traces)
    return refused


def _next_revision(connection: sqlite3.Connection) -> int:
    newest = connection.execute("SELECT MAX(revision) FROM traces").fetchone()[0]
    return int(newest or 0) + 1


def _process_id(connection: sqlite3.Connection, process: Process) -> int:
    connection.execute(
        "INSERT INTO services (name) VALUES (?) ON CONFLICT DO NOTHING", (process.service,)
    )
    key = (process.service, dump_tags(process.tags))
    connection.execute(
        "INSERT INTO processes (service_id, tags)"
        " VALUES ((SELECT id FROM services WHERE name = ?), ?) ON CONFLICT DO NOTHING",
        key,
    )
    found = connection.execute(
        "SELECT processes.id FROM processes JOIN services ON services.id = service_id"
        " WHERE services.name = ? AND processes.tags = ?",
        key,
    ).fetchone()
    return int(found[0])


def _room(connection: sqlite3.Connection, trace_id: str, limits: Limits) -> int:
    row = connection.execute(
        "SELECT span_count FROM traces WHERE trace_id = ?", (trace_id,)
    ).fetchone()
    return max(0, limits.spans_per_trace - (row[0] if row else 0))


def _insert(
    connection: sqlite3.Connection, spans: Sequence[Span], processes: dict[Process, int]
) -> int:
    places = ", ".join("?" for _ in COLUMNS.split(","))
    insert = f"INSERT INTO spans ({COLUMNS}) VALUES ({places})"  # noqa: S608 - a constant
    return connection.executemany(
        f"{insert} ON CONFLICT DO NOTHING",
        [to_row(span, processes[span.process]) for span in spans],
    ).rowcount


def _summarise(connection: sqlite3.Connection, trace_id: str, revision: int) -> None:
    """Write the trace's line of the list anew; its root is the best that has arrived so far."""
    connection.execute(
        """
        INSERT OR REPLACE INTO traces
            (trace_id, revision, start_ns, end_ns, span_count, error_count, root_id, job_id)
        SELECT
            :trace, :revision, MIN(start_ns), MAX(MAX(start_ns), MAX(end_ns)),
            COUNT(*), SUM(status = 'ERROR'),
            (SELECT span_id FROM spans WHERE trace_id = :trace
             ORDER BY parent_id IS NOT NULL, start_ns, span_id LIMIT 1),
            (SELECT job_id FROM spans WHERE trace_id = :trace AND job_id IS NOT NULL
             ORDER BY start_ns, span_id LIMIT 1)
        FROM spans WHERE trace_id = :trace
        """,
        {"trace": trace_id, "revision": revision},
    )


def _forget(connection: sqlite3.Connection, keep: int) -> None:
    """Drop the traces that have been quiet the longest, and what only they used."""
    excess = connection.execute(
        "SELECT trace_id FROM traces ORDER BY revision DESC, start_ns DESC, trace_id"
        " LIMIT -1 OFFSET ?",
        (keep,),
    ).fetchall()
    if not excess:
        return
    connection.executemany("DELETE FROM spans WHERE trace_id = ?", excess)
    connection.executemany("DELETE FROM traces WHERE trace_id = ?", excess)
    connection.execute(
        "DELETE FROM processes"
        " WHERE NOT EXISTS (SELECT 1 FROM spans WHERE process_id = processes.id)"
    )
    connection.execute(
        "DELETE FROM services"
        " WHERE NOT EXISTS (SELECT 1 FROM processes WHERE service_id = services.id)"
    )
