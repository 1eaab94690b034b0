"""What is asked of the database, as functions of a connection."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from patchwright_traces.rows import SELECT, from_row
from patchwright_traces.search import Search
from patchwright_traces.spans import Span


@dataclass(frozen=True, slots=True)
class Service:
    """A service's part in a trace; `id` stays the same from page to page (it picks the colour)."""

    id: int
    name: str
    span_count: int
    error_count: int


@dataclass(frozen=True, slots=True)
class Summary:
    """A trace's line of the list; services in the order in which they came into it."""

    trace_id: str
    start_ns: int
    duration_ns: int
    span_count: int
    error_count: int
    job_id: str | None
    root_name: str
    rootless: bool
    services: Sequence[Service]


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of a search, and how many traces it found in all."""

    total: int
    summaries: Sequence[Summary]


def revision(connection: sqlite3.Connection) -> int:
    """Changes whenever any trace does."""
    newest = connection.execute("SELECT MAX(revision) FROM traces").fetchone()[0]
    return int(newest or 0)


def trace_revision(connection: sqlite3.Connection, trace_id: str) -> int | None:
    """Changes whenever the trace does; None where nothing of it has arrived."""
    row = connection.execute(
        "SELECT revision FROM traces WHERE trace_id = ?", (trace_id,)
    ).fetchone()
    return None if row is None else int(row[0])


def listing(connection: sqlite3.Connection, search: Search, *, limit: int, offset: int) -> Listing:
    """The traces that match, newest first."""
    where, values = search.where()
    count = f"SELECT COUNT(*) FROM traces WHERE {where}"  # noqa: S608 - no value, only placeholders
    total = connection.execute(count, values).fetchone()[0]
    return Listing(total, _summaries(connection, where, [*values, limit, offset]))


def summary(connection: sqlite3.Connection, trace_id: str) -> Summary | None:
    """One trace's line of the list; None where nothing of it has arrived."""
    return next(iter(_summaries(connection, "traces.trace_id = ?", [trace_id, 1, 0])), None)


def spans(connection: sqlite3.Connection, trace_id: str) -> list[Span]:
    """All spans of a trace by their start; none for an unknown trace."""
    rows = connection.execute(
        f"{SELECT} WHERE spans.trace_id = ? ORDER BY spans.start_ns, spans.end_ns DESC", (trace_id,)
    )
    return [from_row(row) for row in rows]


def services(connection: sqlite3.Connection) -> list[str]:
    """The names of all services."""
    rows = connection.execute("SELECT name FROM services ORDER BY name")
    return [name for (name,) in rows]


def operations(connection: sqlite3.Connection, service: str) -> list[tuple[str, str]]:
    """Every span name of a service, with the kinds it came with."""
    rows = connection.execute(
        """
        SELECT DISTINCT spans.name, spans.kind
        FROM services
        JOIN processes ON processes.service_id = services.id
        JOIN spans ON spans.process_id = processes.id
        WHERE services.name = ? ORDER BY spans.name, spans.kind
        """,
        (service,),
    )
    return [(name, kind) for name, kind in rows]


def _summaries(
    connection: sqlite3.Connection, where: str, values: Sequence[str | int]
) -> list[Summary]:
    rows = connection.execute(
        f"""
        SELECT traces.trace_id, traces.start_ns, traces.end_ns - traces.start_ns,
               traces.span_count, traces.error_count, traces.job_id,
               root.name, root.parent_id IS NOT NULL
        FROM traces
        JOIN spans AS root ON root.trace_id = traces.trace_id AND root.span_id = traces.root_id
        WHERE {where}
        ORDER BY traces.start_ns DESC, traces.trace_id LIMIT ? OFFSET ?
        """,  # noqa: S608 - no value, only placeholders
        values,
    ).fetchall()
    services = _services_of(connection, [row[0] for row in rows])
    return [
        Summary(trace_id, start, duration, spans, errors, job, name, rootless, services[trace_id])
        for trace_id, start, duration, spans, errors, job, name, rootless in rows
    ]


def _services_of(
    connection: sqlite3.Connection, trace_ids: Sequence[str]
) -> defaultdict[str, list[Service]]:
    rows = connection.execute(
        f"""
        SELECT spans.trace_id, services.id, services.name, COUNT(*), SUM(spans.status = 'ERROR')
        FROM spans
        JOIN processes ON processes.id = spans.process_id
        JOIN services ON services.id = processes.service_id
        WHERE spans.trace_id IN ({", ".join("?" for _ in trace_ids)})
        GROUP BY spans.trace_id, services.id
        ORDER BY MIN(spans.start_ns), services.id
        """,  # noqa: S608 - no value, only placeholders
        trace_ids,
    )
    found: defaultdict[str, list[Service]] = defaultdict(list)
    for trace_id, *service in rows:
        found[trace_id].append(Service(*service))
    return found
