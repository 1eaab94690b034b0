"""A verified delivery is answered 202 once it is stored, as it was and no further."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.nats import bus as connect
from harness.nats import nats_server
from patchwright_common.bus import Bus
from patchwright_common.flow import BODY_REFERENCE, PW_DELIVERIES
from patchwright_ingest.webhook import BODY_LIMIT, KEPT_HEADERS

from .webhooks import ISSUE, Endpoint, endpoint, headers, padded, stored

ALLOWED = {*KEPT_HEADERS, "nats-msg-id", "nats-expected-stream", "traceparent"}
MIB = 2**20
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_bus(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bus]:
    async with nats_server(tmp_path_factory.mktemp("nats")) as server, connect(server.url) as bus:
        yield bus


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_ingest(one_bus: Bus) -> AsyncIterator[Endpoint]:
    async with endpoint(one_bus) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", name="bus")
async def _bus(one_bus: Bus) -> Bus:
    """Emptied for each test; a delivery id of one test is never used in another."""
    await one_bus.js.purge_stream("PW_GITHUB")
    return one_bus


@pytest.fixture(name="ingest")
def _ingest(one_ingest: Endpoint) -> Endpoint:
    return one_ingest


async def test_delivery_is_stored_byte_for_byte(ingest: Endpoint, bus: Bus) -> None:
    body = b' {"action" : "opened",\n"repository":{"id":42}, "title": "\xc3\xa9\\u0000"}\r\n'
    answer = await ingest.post(body, x_github_delivery="d-1")
    assert answer.status_code == 202
    assert answer.json()["delivery"] == "d-1"
    [message] = await stored(bus)
    assert message.subject == "pw.github.issues.opened.42"
    assert message.body == body


async def test_only_githubs_headers_are_stored(ingest: Endpoint, bus: Bus) -> None:
    hostile = {
        "Patchwright-Replay": "again",
        "Patchwright-Body-Sha256": "0" * 64,
        "Patchwright-Reason": "x",
        "Nats-Msg-Id": "mine",
        "Nats-Expected-Last-Subject-Sequence": "9",
        "Nats-Rollup": "all",
        "Nats-TTL": "1",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": "a=b",
        "baggage": "a=b",
        "Authorization": "Bearer abc",
        "Cookie": "a=b",
    }
    answer = await ingest.post(x_github_delivery="d-2", **hostile)
    assert answer.status_code == 202
    [message] = await stored(bus)
    assert {name.lower() for name in message.headers} <= ALLOWED
    assert message.headers["Nats-Msg-Id"] == "d-2"
    assert "0af7651916cd43dd8448eb211c80319c" not in str(message.headers)
    for name, value in headers(x_github_delivery="d-2").items():
        assert message.headers[name.lower()] == value


@pytest.mark.parametrize(
    "agent", ["é" * 10, "a" * 2000, "\x80\xff", "", "=?utf-8?q?x?=", "a\tb"], ids=ascii
)
async def test_odd_header_values_cannot_hurt_the_stored_message(
    ingest: Endpoint, bus: Bus, agent: str
) -> None:
    sent = [(k.encode(), v.encode("latin-1")) for k, v in headers(user_agent=agent).items()]
    answer = await ingest.http.post("/webhooks/github", content=ISSUE, headers=sent)
    assert answer.status_code == 202
    [message] = await stored(bus)
    assert message.headers["x-github-event"] == "issues"
    assert message.headers.get("user-agent", agent) == agent
    assert all(isinstance(value, str) and value.isascii() for value in message.headers.values())


async def test_body_at_the_border_with_long_headers_still_fits_a_message(
    ingest: Endpoint, bus: Bus
) -> None:
    for size in range(MIB - 17 * 1024, MIB + 1024, 3 * 1024):
        filler = "a" * 1024
        sent = {f"x_github_hook_{part}": filler for part in ("id", "installation_target_id")}
        body = padded({"action": "opened"}, size)
        assert (await ingest.post(body, user_agent=filler, **sent)).status_code == 202
    for message in await stored(bus):
        body = await body_of(bus, message.body, message.headers)
        assert json.loads(body)["action"] == "opened"


PARTS: dict[str, tuple[str, Any]] = {
    "push has no action": ("push.none.7", {"repository": {"id": 7}}),
    "installation has no repository": ("issues.created.none", {"action": "created"}),
    "neither": ("issues.none.none", {}),
    "a list": ("issues.none.none", {"action": [], "repository": []}),
    "numbers": ("issues.none.none", {"action": 7, "repository": 7}),
    "dots": ("issues.none.7", {"action": "a.b.c", "repository": {"id": 7}}),
    "wildcards": ("issues.none.none", {"action": ">", "repository": {"id": "*"}}),
    "spaces": ("issues.none.none", {"action": "a b", "repository": {"id": "1 2"}}),
    "line ends": ("issues.none.none", {"action": "opened\r\nPUB x 1", "repository": {}}),
    "a trailing line end": ("issues.none.none", {"action": "opened\n"}),
    "emptiness": ("issues.none.none", {"action": "", "repository": {"id": None}}),
    "capitals": ("issues.none.none", {"action": "Opened"}),
    "other letters": ("issues.none.none", {"action": "ópened", "repository": {"id": "٣"}}),
    "length": ("issues.none.none", {"action": "a" * 65, "repository": {"id": 10**4000}}),
    "truth": ("issues.none.none", {"action": True, "repository": {"id": True}}),
    "fractions": ("issues.none.none", {"repository": {"id": 1.5}}),
    "negative": ("issues.none.none", {"repository": {"id": -7}}),
}


@pytest.mark.parametrize(("subject", "payload"), PARTS.values(), ids=PARTS)
async def test_odd_parts_cannot_break_the_subject(
    ingest: Endpoint, bus: Bus, subject: str, payload: dict[str, Any]
) -> None:
    event = subject.partition(".")[0]
    answer = await ingest.post(json.dumps(payload).encode(), x_github_event=event)
    assert answer.status_code == 202
    [message] = await stored(bus)
    assert message.subject == f"pw.github.{subject}"


async def test_every_event_of_github_has_a_subject(ingest: Endpoint, bus: Bus) -> None:
    """https://docs.github.com/webhooks/webhook-events-and-payloads: one has a digit."""
    for event in ("projects_v2_item", "security_and_analysis", "issue_dependencies", "meta"):
        assert (await ingest.post(b"{}", x_github_event=event)).status_code == 202
    first, *_ = await stored(bus)
    assert first.subject == "pw.github.projects_v2_item.none.none"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


@given(action=JSON, repository=JSON | st.builds(lambda number: {"id": number}, JSON))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_any_signed_object_is_stored_under_three_tokens(
    ingest: Endpoint, bus: Bus, action: object, repository: object
) -> None:
    body = json.dumps({"action": action, "repository": repository}).encode()
    answer = await ingest.post(body)
    assert answer.status_code == 202
    state = (await bus.js.stream_info("PW_GITHUB")).state
    message = await bus.js.get_msg("PW_GITHUB", seq=state.last_seq)
    assert message.data == body
    assert len((message.subject or "").split(".")) == 5


async def test_delivery_that_comes_again_is_stored_once(ingest: Endpoint, bus: Bus) -> None:
    for _ in range(3):
        assert (await ingest.post(x_github_delivery="same")).status_code == 202
    together = [ingest.post(x_github_delivery="other") for _ in range(10)]
    assert {a.status_code for a in await asyncio.gather(*together)} == {202}
    assert len(await stored(bus)) == 2


async def test_twenty_megabytes_are_stored_by_reference(ingest: Endpoint, bus: Bus) -> None:
    body = padded({"action": "opened", "repository": {"id": 7}}, 20 * MIB)
    answer = await ingest.post(body)
    assert answer.status_code == 202
    [message] = await stored(bus)
    assert message.subject == "pw.github.issues.opened.7"
    assert message.body == b""
    assert await bus.get(PW_DELIVERIES, message.headers[BODY_REFERENCE], limit=BODY_LIMIT) == body


async def test_large_deliveries_leave_no_memory_behind(ingest: Endpoint) -> None:
    body = padded({"action": "opened"}, 5 * MIB)
    await ingest.post(body)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(3):
            assert (await ingest.post(body)).status_code == 202
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 5 * MIB


async def body_of(bus: Bus, body: bytes, kept: dict[str, str]) -> bytes:
    digest = kept.get(BODY_REFERENCE)
    return await bus.get(PW_DELIVERIES, digest, limit=BODY_LIMIT) if digest else body
