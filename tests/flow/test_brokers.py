"""A broker set up by `just topology` holds the map: nothing more, nothing less."""

from __future__ import annotations

from patchwright_common import flow
from patchwright_common.bus import Bus

BUCKET_PREFIX = {"kv": "KV_", "objects": "OBJ_"}


async def test_streams_and_buckets_are_those_of_the_map(bus: Bus) -> None:
    found = {info.config.name: info.config for info in await bus.js.streams_info()}
    buckets = {BUCKET_PREFIX[bucket.kind] + bucket.name: bucket for bucket in flow.BUCKETS}
    assert set(found) == {stream.name for stream in flow.STREAMS} | set(buckets)
    for stream in flow.STREAMS:
        config = found[stream.name]
        assert tuple(config.subjects or ()) == stream.subjects
        assert config.max_age == stream.max_age
        assert config.max_bytes == stream.max_bytes
        assert config.duplicate_window == stream.duplicate_window
    for name, bucket in buckets.items():
        assert (found[name].max_age or 0) == bucket.max_age


async def test_consumers_are_those_of_the_map(bus: Bus) -> None:
    for stream in flow.STREAMS:
        found = {info.name: info.config for info in await bus.js.consumers_info(stream.name)}
        declared = {c.name: c for c in flow.consumers() if flow.route_of(c).stream is stream}
        assert set(found) == set(declared)
        for name, consumer in declared.items():
            config = found[name]
            filters = config.filter_subjects or [config.filter_subject]
            assert tuple(filters) == consumer.subjects
            assert config.ack_wait == consumer.ack_wait
            assert config.max_ack_pending == consumer.max_ack_pending
            assert config.deliver_subject is None
