"""The store keeps the last traces, and nothing that only older ones used."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchwright_traces import queries
from patchwright_traces.database import Database, connect
from patchwright_traces.recording import Limits, record
from patchwright_traces.search import Search
from patchwright_traces.spans import Process, Span

KEEP_THREE = Limits(traces=3)


def span(trace: int, number: int = 1, *, service: str = "runner", start: int = 0) -> Span:
    return Span(
        trace_id=f"{trace:032x}",
        span_id=f"{number:016x}",
        parent_id=None,
        name=f"trace {trace}",
        kind="internal",
        start_ns=start or trace,
        end_ns=(start or trace) + 1,
        status="UNSET",
        status_message="",
        process=Process(service, ()),
    )


async def kept(database: Database) -> list[int]:
    found = await database.read(queries.listing, Search(), limit=100, offset=0)
    return [int(summary.trace_id, 16) for summary in found.summaries]


async def test_the_oldest_traces_make_room(tmp_path: Path) -> None:
    async with Database(tmp_path / "traces.db") as database:
        for trace in range(1, 6):
            await database.write(record, [span(trace)], KEEP_THREE)

        assert await kept(database) == [5, 4, 3]
        assert await database.read(queries.spans, f"{1:032x}") == []


async def test_a_trace_that_still_grows_outlives_quiet_ones(tmp_path: Path) -> None:
    async with Database(tmp_path / "traces.db") as database:
        for trace in (1, 2, 3):
            await database.write(record, [span(trace)], KEEP_THREE)
        await database.write(record, [span(1, number=2)], KEEP_THREE)
        await database.write(record, [span(4)], KEEP_THREE)

        assert await kept(database) == [4, 3, 1]


async def test_one_batch_of_too_many_traces_keeps_the_newest(tmp_path: Path) -> None:
    async with Database(tmp_path / "traces.db") as database:
        await database.write(record, [span(trace) for trace in range(1, 10)], KEEP_THREE)

        assert await kept(database) == [9, 8, 7]


async def test_a_service_goes_with_its_last_trace(tmp_path: Path) -> None:
    async with Database(tmp_path / "traces.db") as database:
        await database.write(record, [span(1, service="gone")], KEEP_THREE)
        await database.write(record, [span(trace) for trace in (2, 3, 4)], KEEP_THREE)

        assert await database.read(queries.services) == ["runner"]


async def test_traces_outlive_the_program(tmp_path: Path) -> None:
    async with Database(tmp_path / "traces.db") as database:
        await database.write(record, [span(1)], KEEP_THREE)
    async with Database(tmp_path / "traces.db") as database:
        assert await kept(database) == [1]


async def test_a_file_of_another_version_is_emptied(tmp_path: Path) -> None:
    async with Database(tmp_path / "traces.db") as database:
        await database.write(record, [span(1)], KEEP_THREE)
    connection = connect(tmp_path / "traces.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()

    async with Database(tmp_path / "traces.db") as database:
        assert await kept(database) == []


async def test_a_batch_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    async with Database(tmp_path / "traces.db") as database:
        with pytest.raises(OverflowError):
            await database.write(record, [span(1), span(2, start=2**63)], KEEP_THREE)

        assert await kept(database) == []
        await database.write(record, [span(3)], KEEP_THREE)
        assert await kept(database) == [3]
