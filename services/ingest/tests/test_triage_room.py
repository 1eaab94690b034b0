"""Nearly full streams: new jobs wait in front, and nothing that was asked is forgotten."""

from __future__ import annotations

import asyncio
from pathlib import Path

from patchwright_common import flow
from patchwright_common.storage import FRESH, HOLD, SPARE, fill

from .chain import Chain, chain


async def nearly_full(running: Chain) -> None:
    """Less room than a new job is given, and enough for what an old one says."""
    await running.bus.js.publish("pw.evt.egress.allowed.x", b"x" * 300_000)
    used = (await fill(running.bus.js, "PW_EVENTS")).used
    config = (await running.bus.js.stream_info("PW_EVENTS")).config
    await running.bus.js.update_stream(config.evolve(max_bytes=int(used / (SPARE + 0.02))))


async def test_request_waits_for_room_and_is_taken_up_then(tmp_path: Path) -> None:
    async with chain(tmp_path) as running:
        place = await running.repository()
        for title in ("first", "second"):
            issue = await running.github.open_issue(
                place.name, title, token=running.tokens["write"]
            )
        await running.github.label(place.name, 1, "patchwright", token=running.tokens["write"])
        [first] = await place.requested()
        await running.quiet()
        await nearly_full(running)
        await asyncio.sleep(FRESH)

        number = int(issue["number"])
        await running.github.label(place.name, number, "patchwright", token=running.tokens["write"])
        await running.programs["triage"].line("no new job begins: PW_EVENTS is 9")
        assert [job.job_id for job in await place.requested()] == [first.job_id]
        # What has begun goes on in the room that is left.
        await place.finish(first.job_id, at=first.requested_at)

        await asyncio.sleep(0.5)
        config = (await running.bus.js.stream_info("PW_EVENTS")).config
        await running.bus.js.update_stream(config.evolve(max_bytes=flow.PW_EVENTS.max_bytes))
        assert HOLD < 40, "what the next line waits for at most"
        assert len(await place.requested(2)) == 2
        assert len(await place.readied(2)) == 2
