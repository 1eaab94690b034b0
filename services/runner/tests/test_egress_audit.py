"""The audit of a job's way out: which hosts, why not, how much, and never too much of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from patchwright_common.errors import Overtaken, Retry
from patchwright_common.events import EgressAllowed, EgressEnded, EgressRefused
from patchwright_common.flow import EGRESS_ALLOWED, EGRESS_ENDED, EGRESS_REFUSED
from patchwright_runner.egress import (
    Allowed,
    EgressLimits,
    Ended,
    Ledger,
    Refused,
    announcement,
    proxied,
)
from patchwright_runner.egress.refusal import Refusal
from patchwright_runner.egress.reports import Contact

from .egress_parts import MIRROR, Origin, Tape, way

JOB = "7-1-issue-1"


@pytest.fixture
async def web() -> AsyncIterator[Origin]:
    async with Origin({"/": b"hello"}).serving() as served:
        yield served


def document(web: Origin, host: str = MIRROR) -> str:
    return f"GET http://{host}:{web.port}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"


async def test_each_host_is_reported_once_and_counted_at_the_end(web: Origin) -> None:
    tape = Tape()
    async with way(f"http://{MIRROR}:{web.port}", tape=tape) as proxy:
        for _ in range(3):
            assert "hello" in await proxy.asks(document(web))
            assert "403" in await proxy.asks(document(web, "evil.example"))
    assert tape.of(Allowed) == [Allowed("agent", MIRROR, web.port)]
    assert [(r.host, r.port, r.times) for r in tape.of(Refused)] == [("evil.example", web.port, 1)]
    (ended,) = tape.of(Ended)
    (contact,) = ended.allowed
    assert (contact.host, contact.connections) == (MIRROR, 3)
    assert contact.bytes_up == len(web.received)
    assert contact.bytes_down > 3 * len("hello")
    assert [(r.host, r.times) for r in ended.refused] == [("evil.example", 3)]


async def test_job_without_a_way_out_has_no_report() -> None:
    tape = Tape()
    async with way(MIRROR, tape=tape):
        pass
    assert tape.reports == []


async def test_no_host_is_contacted_before_that_is_stored(web: Origin) -> None:
    tape = Tape(failure=Retry("the bus is away"))
    async with way(f"http://{MIRROR}:{web.port}", tape=tape) as proxy:
        answer = await proxy.asks(document(web))
        assert answer.startswith("HTTP/1.1 503 The connection could not be recorded")
        assert web.connections == 0
        assert proxy.names.asked == []
        tape.failure = None
        assert "hello" in await proxy.asks(document(web))
    assert len(tape.of(Allowed)) == 1


async def test_audit_that_hangs_holds_nothing_up_for_long(web: Origin) -> None:
    class Hanging(Tape):
        async def __call__(self, _report: object) -> None:
            await asyncio.Event().wait()

    limits = EgressLimits(connect_seconds=0.2)
    async with way(f"http://{MIRROR}:{web.port}", tape=Hanging(), limits=limits) as proxy:
        assert "503" in await proxy.asks(document(web))
        assert "403" in await proxy.asks(document(web, "evil.example"))


async def test_job_that_was_taken_over_reaches_nothing_new(web: Origin) -> None:
    tape = Tape(failure=Overtaken("another runner has it"))
    async with way(f"http://{MIRROR}:{web.port}", tape=tape) as proxy:
        assert "503" in await proxy.asks(document(web))
    assert web.connections == 0


async def test_flood_of_refused_hosts_does_not_flood_the_audit(
    web: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    tape = Tape()
    caplog.set_level("INFO", "patchwright_runner")
    async with way(f"http://{MIRROR}:{web.port}", tape=tape) as proxy:
        for number in range(150):
            assert "403" in await proxy.connect(f"h{number}.evil.example:443")
        assert "hello" in await proxy.asks(document(web))
    assert len(tape.of(Refused)) == 100
    assert len(tape.of(Allowed)) == 1
    (ended,) = tape.of(Ended)
    assert len(ended.refused) == 100
    assert ended.unlisted == 50
    assert len(caplog.records) == 100


async def test_flood_of_allowed_hosts_ends_too() -> None:
    """A `*.example.com` allows endless names, and each is a way to say something."""
    tape = Tape()
    async with way("*.example.com", tape=tape, limits=EgressLimits(hosts=3)) as proxy:
        answers = [await proxy.connect(f"h{number}.example.com:443") for number in range(5)]
        assert ["502" in answer for answer in answers] == [True] * 3 + [False] * 2
        assert "may not reach more than 3 hosts" in answers[3]
        assert len(proxy.names.asked) == 3
    assert len(tape.of(Allowed)) == 3


async def test_host_contacted_twice_at_once_is_reported_once() -> None:
    tape = Tape()
    async with Ledger(tape) as ledger:
        contacts = await asyncio.gather(*(ledger.contact("agent", MIRROR, 443) for _ in range(9)))
        await ledger.contact("set-up", MIRROR, 443)
    assert {id(contact) for contact in contacts} == {id(contacts[0])}
    assert ledger.connections == 10
    assert [report.purpose for report in tape.of(Allowed)] == ["agent", "set-up"]


async def test_names_in_the_audit_are_printable_and_bounded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tape = Tape()
    caplog.set_level("INFO", "patchwright_runner")
    async with way(MIRROR, tape=tape) as proxy:
        await proxy.asks(f"CONNECT {'e' * 5000}:443 HTTP/1.1\r\nHost: x\r\n\r\n")
        await proxy.asks("CONNECT a\x1b[31m\r\nforged: line\r\n\r\n")
        await proxy.asks("CONNECT user\x7f@evil HTTP/1.1\r\nHost: \x85\r\n\r\n")
        await proxy.asks("\x00\xff\r\n\r\n")
    hosts = [refused.host for refused in tape.of(Refused)]
    assert hosts[0] == "e" * 97 + "..."
    for text in (*hosts, *(refused.reason for refused in tape.of(Refused))):
        assert text.isascii()
        assert text.isprintable()
        assert len(text) < 300
    for record in caplog.records:
        assert record.getMessage().isprintable()


async def test_job_that_wanted_too_much_gets_no_more_connections() -> None:
    ledger = Ledger(Tape(), EgressLimits(up_bytes=10, down_bytes=10))
    contact = await ledger.contact("agent", MIRROR, 443)
    ledger.sent(contact, 10)
    ledger.got(contact, 9)
    await ledger.contact("set-up", MIRROR, 443)
    with pytest.raises(Refusal, match="received all that it may"):
        ledger.got(contact, 2)
    with pytest.raises(Refusal, match="received all that it may"):
        await ledger.contact("set-up", MIRROR, 443)
    assert contact == Contact("agent", MIRROR, 443, 1, 10, 9)


def test_reports_become_events() -> None:
    allowed = announcement(Allowed("set-up", "pypi.org", 443), JOB, 2)
    assert allowed == (
        EGRESS_ALLOWED,
        EgressAllowed(job_id=JOB, epoch=2, purpose="set-up", host="pypi.org", port=443),
        "egress-allowed:set-up:pypi.org:443",
    )
    refused = Refused("agent", "evil.example", 443, "No.")
    route, event, step = announcement(refused, JOB, 2)
    assert (route, step) == (EGRESS_REFUSED, "egress-refused:agent:evil.example:443")
    assert isinstance(event, EgressRefused)
    assert event.reason == "No."
    contact = Contact("set-up", "pypi.org", 443, 2, 300, 4000)
    route, event, step = announcement(Ended((contact,), (replace(refused, times=3),), 7), JOB, 2)
    assert (route, step) == (EGRESS_ENDED, "egress-ended")
    assert isinstance(event, EgressEnded)
    assert event.allowed[0].bytes_down == 4000
    assert (event.refused[0].times, event.unlisted) == (3, 7)


def test_environment_names_the_proxy_as_each_program_reads_it() -> None:
    variables = proxied(3128)
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "npm_config_proxy"):
        assert variables[name] == "http://127.0.0.1:3128"
    assert variables["no_proxy"] == variables["NO_PROXY"] == "localhost,127.0.0.1,::1"
