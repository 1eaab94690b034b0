"""Floods: what is refused costs little, is told when to come back, and never reaches the bus."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import psutil
import pytest

from patchwright_common.bus import Bus
from patchwright_ingest.admission import Limits
from patchwright_ingest.rates import Rate
from patchwright_ingest.webhook import BODY_LIMIT

from .webhooks import ISSUE, UNLIMITED, Endpoint, endpoint, headers, padded, stored
from .webhooks import without_stack_trace as reason

MIB = 2**20
WRONG = "sha256=" + "0" * 64
FEW = Limits(unsigned=Rate(0.2, 5), installation=Rate(0.2, 5))


def installed(installation: int, number: int = 0) -> bytes:
    return json.dumps({"installation": {"id": installation}, "n": number}).encode()


def refused(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status
    assert 1 <= int(answer.headers["retry-after"]) <= 10
    reason(answer.text)


async def test_unsigned_flood_is_429_and_reaches_neither_bus_nor_body(bus: Bus) -> None:
    async with endpoint(bus, limits=FEW) as ingest:
        answers = [await ingest.post(x_hub_signature_256=WRONG) for _ in range(5)]
        assert {answer.status_code for answer in answers} == {401}
        refused(await ingest.post(x_hub_signature_256=WRONG), 429)
        # Answered before a byte of the body was sent.
        head = b"POST /webhooks/github HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n"
        answer = await ingest.raw(head)
        assert answer.startswith(b"HTTP/1.1 429")
    assert await stored(bus) == []


@pytest.mark.parametrize("changed", [{"content_type": "text/plain"}, {"x_github_event": None}])
async def test_what_is_refused_for_its_headers_counts_too(
    bus: Bus, changed: dict[str, str | None]
) -> None:
    async with endpoint(bus, limits=FEW) as ingest:
        for _ in range(5):
            assert (await ingest.post(**changed)).status_code in (400, 415)
        refused(await ingest.post(**changed), 429)


async def test_signed_deliveries_never_add_up_against_their_address(bus: Bus) -> None:
    limits = Limits(unsigned=FEW.unsigned, installation=Rate(0, 1))
    async with endpoint(bus, limits=limits) as ingest:
        answers = await asyncio.gather(*(ingest.post(installed(1, n)) for n in range(4)))
        answers += [await ingest.post(installed(1, n)) for n in range(20)]
    assert {answer.status_code for answer in answers} == {202}


async def test_noisy_installation_is_429_and_the_others_are_not(bus: Bus) -> None:
    async with endpoint(bus, limits=FEW) as ingest:
        answers = [await ingest.post(installed(1, n)) for n in range(6)]
        assert [answer.status_code for answer in answers[:5]] == [202] * 5
        refused(answers[5], 429)
        assert (await ingest.post(installed(2))).status_code == 202
    assert len(await stored(bus)) == 6


async def test_delivery_that_was_429_is_taken_in_later_under_the_same_id(bus: Bus) -> None:
    """As it comes from GitHub's delivery log."""
    limits = Limits(unsigned=UNLIMITED.unsigned, installation=Rate(2, 1))
    async with endpoint(bus, limits=limits) as ingest:
        assert (await ingest.post(installed(1))).status_code == 202
        again = await ingest.post(installed(1, 1), x_github_delivery="again")
        refused(again, 429)
        await asyncio.sleep(int(again.headers["retry-after"]))
        assert (await ingest.post(installed(1, 1), x_github_delivery="again")).status_code == 202
    assert len(await stored(bus)) == 2


async def test_large_bodies_at_once_are_bounded_and_small_ones_pass(bus: Bus) -> None:
    """Slow senders hold the memory; the bound is on what came, not on what was announced."""
    limits = Limits(unsigned=UNLIMITED.unsigned, body_bytes=4 * MIB)
    async with endpoint(bus, limits=limits) as ingest, AsyncExitStack() as holding:
        for _ in range(2):
            writer = await slow_sender(ingest, sent=2 * MIB - 100_000)
            holding.callback(writer.close)
        await asyncio.sleep(0.5)
        refused(await ingest.post(padded({}, MIB)), 503)
        assert (await ingest.post()).status_code == 202
    async with endpoint(bus, limits=limits) as ingest:
        answers = [await ingest.post(padded({"n": n}, 2 * MIB)) for n in range(5)]
        assert {answer.status_code for answer in answers} == {202}, "freed with each answer"


async def slow_sender(ingest: Endpoint, *, sent: int) -> asyncio.StreamWriter:
    """A request whose body stops in the middle."""
    _, writer = await asyncio.open_connection("127.0.0.1", ingest.port)
    names = {
        "Host": "x", "Content-Type": "application/json", "X-GitHub-Event": "issues",
        "X-GitHub-Delivery": "slow", "X-Hub-Signature-256": WRONG,
        "Content-Length": str(BODY_LIMIT),
    }  # fmt: skip
    lines = "".join(f"{name}: {value}\r\n" for name, value in names.items())
    writer.write(f"POST /webhooks/github HTTP/1.1\r\n{lines}\r\n".encode() + b"x" * sent)
    await writer.drain()
    return writer


async def test_flood_of_largest_bodies_does_not_fill_the_memory(bus: Bus) -> None:
    """40 times 25 MB would be a gigabyte."""
    limits = Limits(unsigned=UNLIMITED.unsigned, body_bytes=64 * MIB)
    given = headers(b"", x_hub_signature_256=WRONG, content_length=str(BODY_LIMIT))
    process, peak = psutil.Process(), 0

    async def body() -> AsyncIterator[bytes]:
        # Piece by piece: this process is the sender, too, and its memory is not what is measured.
        for _ in range(BODY_LIMIT // 65_536):
            yield b"x" * 65_536

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, process.memory_info().rss)
            await asyncio.sleep(0.01)

    async with endpoint(bus, limits=limits) as ingest:
        before = process.memory_info().rss
        watching = asyncio.create_task(watch())
        try:
            answers = await asyncio.gather(
                *(
                    ingest.http.post("/webhooks/github", content=body(), headers=given)
                    for _ in range(40)
                ),
                return_exceptions=True,
            )
        finally:
            watching.cancel()
        codes = {a.status_code for a in answers if isinstance(a, httpx.Response)}
        # A sender that writes on may see the connection closed in place of the answer.
        odd = [a for a in answers if not isinstance(a, httpx.Response | httpx.TransportError)]
        assert odd == []
        assert codes <= {401, 503}
        assert 503 in codes
        assert (await ingest.post(ISSUE)).status_code == 202
    # The senders are in this process too, with what their sockets hold.
    assert peak - before < 400 * MIB


async def test_too_many_at_once_are_503(bus: Bus) -> None:
    limits = Limits(unsigned=UNLIMITED.unsigned, requests=3)
    async with endpoint(bus, limits=limits) as ingest, AsyncExitStack() as holding:
        for _ in range(3):
            writer = await slow_sender(ingest, sent=10)
            holding.callback(writer.close)
        await asyncio.sleep(0.3)
        refused(await ingest.post(), 503)
        assert (await ingest.http.get("/healthz")).status_code == 200
    async with endpoint(bus, limits=limits) as ingest:
        for _ in range(5):
            assert (await ingest.post()).status_code == 202
