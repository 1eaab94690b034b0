"""The brokers match the map; a service finds out where they do not, and mends nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from nats.js import api
from nats.js.errors import APIError, KeyNotFoundError, NotFoundError

from harness.nats import NatsServer, connected
from patchwright_common import flow, topology
from patchwright_common.bus import Bus
from patchwright_common.errors import Permanent, Retry

from .handling import JOB, paused

CONFIGURATION = Path(__file__).parents[3] / "deploy" / "nats" / "server.conf"
TRIAGE = flow.TRIAGE_DELIVERY_RECEIVED


async def pictures(bus: Bus) -> list[object]:
    """Everything there is and since when."""
    found: list[object] = [
        (s.config, s.created, s.state.messages) for s in await bus.js.streams_info()
    ]
    for consumer in flow.consumers():
        info = await bus.js.consumer_info(flow.route_of(consumer).stream.name, consumer.name)
        found.append((info.config, info.created))
    return found


async def test_making_everything_twice_changes_nothing(bus: Bus) -> None:
    await bus.js.publish("pw.github.issues.opened.7", b"{}")
    await (await bus.js.key_value("PW_CLAIMS")).put("claim.x", b"{}")
    before = await pictures(bus)
    await topology.ensure(bus.js)
    assert await pictures(bus) == before


async def test_what_was_made_is_said(bus: Bus) -> None:
    await bus.js.delete_stream("PW_DLQ")
    done = await topology.ensure(bus.js)
    assert "stream PW_DLQ made" in done
    assert "stream PW_EVENTS up to date" in done
    assert len(done) == len(flow.STREAMS) + len(flow.BUCKETS) + len(list(flow.consumers()))


@pytest.mark.parametrize(
    "change",
    [
        {"ack_wait": 5.0},
        {"max_deliver": 3},
        {"filter_subjects": ["pw.github.issues.>"]},
    ],
    ids=str,
)
async def test_changed_consumer_is_refused_by_the_service_and_mended_by_topology(
    bus: Bus, change: dict[str, object]
) -> None:
    config = (await bus.js.consumer_info("PW_GITHUB", TRIAGE.name)).config
    await bus.js.add_consumer("PW_GITHUB", config.evolve(**change))
    with pytest.raises(Retry, match=f"{TRIAGE.name} differs"):
        await topology.check(bus.js, "triage")
    await topology.ensure(bus.js)
    await topology.check(bus.js, "triage")


async def test_order_of_the_filters_does_not_matter(bus: Bus) -> None:
    config = (await bus.js.consumer_info("PW_GITHUB", TRIAGE.name)).config
    turned = list(reversed(TRIAGE.subjects))
    await bus.js.add_consumer("PW_GITHUB", config.evolve(filter_subjects=turned))
    await topology.check(bus.js, "triage")


async def test_consumer_that_cannot_be_mended_is_an_error(bus: Bus) -> None:
    await bus.js.delete_consumer("PW_GITHUB", TRIAGE.name)
    wrong = api.ConsumerConfig(durable_name=TRIAGE.name, ack_policy=api.AckPolicy.NONE)
    await bus.js.add_consumer("PW_GITHUB", wrong)
    with pytest.raises(Retry, match="differs"):
        await topology.check(bus.js, "triage")
    with pytest.raises(APIError):
        await topology.ensure(bus.js)


async def test_missing_durable_is_named_and_not_made(bus: Bus) -> None:
    await bus.js.delete_consumer("PW_GITHUB", TRIAGE.name)
    with pytest.raises(Retry, match=f"{TRIAGE.name} is missing"):
        await topology.check(bus.js, "triage")
    with pytest.raises(NotFoundError):
        await bus.js.consumer_info("PW_GITHUB", TRIAGE.name)
    await topology.check(bus.js, "publisher")


async def test_changed_stream_is_mended(bus: Bus) -> None:
    config = (await bus.js.stream_info("PW_EVENTS")).config
    await bus.js.update_stream(config.evolve(max_age=7200.0, subjects=["pw.evt.job.>"]))
    await topology.ensure(bus.js)
    mended = (await bus.js.stream_info("PW_EVENTS")).config
    assert (mended.max_age, mended.subjects) == (flow.PW_EVENTS.max_age, ["pw.evt.>"])


async def test_everything_is_bounded_and_fits_into_the_servers_own_room(bus: Bus) -> None:
    """The server reserves it all; `deploy/nats/server.conf` has to have that much."""
    for info in await bus.js.streams_info():
        assert (info.config.max_bytes or 0) > 0
        assert info.config.discard == api.DiscardPolicy.NEW
    [gigabytes] = re.findall(r"max_file_store: (\d+)GB", CONFIGURATION.read_text())
    assert int(gigabytes) * flow.GIB > flow.STORE_BYTES


async def test_less_room_is_shared_out_and_may_be_changed(bus: Bus) -> None:
    await topology.ensure(bus.js, gigabytes=1)
    sizes = [info.config.max_bytes or 0 for info in await bus.js.streams_info()]
    assert 0.99e9 < sum(sizes) <= 1e9
    await topology.ensure(bus.js)
    sizes = [info.config.max_bytes or 0 for info in await bus.js.streams_info()]
    assert sum(sizes) == flow.STORE_BYTES


async def test_server_without_that_much_room_is_one_sentence(tmp_path: Path) -> None:
    """By default it takes three quarters of what the disk has free."""
    server = NatsServer(tmp_path, "jetstream { max_file_store: 2GB }")
    await server.start()
    try:
        async with connected(server.url) as client:
            js = client.jetstream(timeout=10)
            with pytest.raises(Permanent, match=r"cannot reserve 21\.5 GB") as refused:
                await topology.ensure(js)
            assert "max_file_store" in refused.value.advice
            await topology.ensure(js, gigabytes=1)
    finally:
        await server.stop()


async def stored(bus: Bus) -> dict[str, int]:
    return {
        str(s.config.name): s.state.messages
        for s in await bus.js.streams_info()
        if s.state.messages
    }


async def test_requests_are_stored_nowhere(bus: Bus) -> None:
    for subject in ("pw.rpc.vault.runner.token", "pw.rpc.vault.x.y", "pw.rpc.x", "pw.x"):
        await bus.client.publish(subject, b"a token")
    await bus.client.flush()
    assert await stored(bus) == {}


@pytest.mark.parametrize(
    ("subject", "stream"),
    [
        ("pw.github.issues.opened.7", "PW_GITHUB"),
        ("pw.github.push.none.7", "PW_GITHUB"),
        ("pw.evt.job.requested.7-1-i-1", "PW_EVENTS"),
        ("pw.dlq.triage.delivery.received.none", "PW_DLQ"),
    ],
)
async def test_stream_captures_its_subjects_and_no_other_does(
    bus: Bus, subject: str, stream: str
) -> None:
    await bus.js.publish(subject, b"{}")
    assert await stored(bus) == {stream: 1}


async def test_streams_do_not_overlap(bus: Bus) -> None:
    subjects: list[tuple[str, Sequence[str]]] = [
        (str(s.config.name), s.config.subjects or []) for s in await bus.js.streams_info()
    ]
    assert len(subjects) == len(flow.STREAMS) + len(flow.BUCKETS)
    for name, mine in subjects:
        for other, theirs in subjects:
            if name != other:
                assert not any(overlap(a, b) for a in mine for b in theirs), (name, other)


def overlap(a: str, b: str) -> bool:
    """Whether a subject exists that both patterns take."""
    for left, right in zip(a.split("."), b.split("."), strict=False):
        if ">" in (left, right):
            return True
        if left != right and "*" not in (left, right):
            return False
    return len(a.split(".")) == len(b.split("."))


async def test_server_never_drops_a_message_by_itself(bus: Bus) -> None:
    for consumer in flow.consumers():
        home = flow.route_of(consumer).stream.name
        config = (await bus.js.consumer_info(home, consumer.name)).config
        assert config.max_deliver == -1
        assert config.ack_policy == api.AckPolicy.EXPLICIT
        assert config.inactive_threshold in (None, 0)
    for stream in flow.STREAMS:
        stored_as = (await bus.js.stream_info(stream.name)).config
        assert stored_as.discard == api.DiscardPolicy.NEW
        assert stored_as.retention == api.RetentionPolicy.LIMITS
        assert stored_as.storage == api.StorageType.FILE


async def test_claims_are_read_from_the_leader_and_kept_for_ever(bus: Bus) -> None:
    config = (await bus.js.stream_info("KV_PW_CLAIMS")).config
    assert not config.allow_direct
    assert not config.max_age


@pytest.mark.parametrize("made", ["anew", "by an older version"])
async def test_message_on_one_key_cannot_take_the_others_away(
    nats: NatsServer, bus: Bus, made: str
) -> None:
    if made == "by an older version":
        config = (await bus.js.stream_info("KV_PW_CLAIMS")).config
        await bus.js.update_stream(config.evolve(allow_rollup_hdrs=True))
        await topology.ensure(bus.js)
    claims = await bus.js.key_value("PW_CLAIMS")
    await claims.put(f"outcome.{JOB}", b"{}")
    async with nats.known_as("runner") as runner:
        with pytest.raises(APIError):
            await runner.js.publish("$KV.PW_CLAIMS.claim.x", headers={"Nats-Rollup": "all"})
    assert (await claims.get(f"outcome.{JOB}")).value == b"{}"


async def test_keys_are_made_changed_and_deleted_without_rollups(bus: Bus) -> None:
    claims = await bus.js.key_value("PW_CLAIMS")
    revision = await claims.create("claim.x", b"1")
    await claims.update("claim.x", b"2", revision)
    await claims.delete("claim.x")
    with pytest.raises(KeyNotFoundError):
        await claims.get("claim.x")
    await claims.create("claim.x", b"3")
    assert (await claims.get("claim.x")).value == b"3"


async def test_silent_server_is_not_taken_for_a_good_one(nats: NatsServer, bus: Bus) -> None:
    bus.js._timeout = 0.3
    async with paused(nats):
        with pytest.raises(TimeoutError):
            await topology.check(bus.js, "triage")
