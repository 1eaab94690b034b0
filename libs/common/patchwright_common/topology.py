"""Makes the brokers match `flow.py`, idempotently; and lets a service check that they do.

Only `just topology` creates anything. A service that found its durable missing and
made it would make it with defaults, and one with a wrong filter binds silently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nats.js import api
from nats.js.errors import APIError, BucketNotFoundError, NotFoundError

from patchwright_common import flow
from patchwright_common.errors import Permanent, Retry

if TYPE_CHECKING:
    from nats.js import JetStreamContext


NO_ROOM = 10047
"""JetStream's error code when it cannot reserve what a stream may take up."""


async def ensure(
    js: JetStreamContext, *, replicas: int = 0, gigabytes: float | None = None
) -> list[str]:
    """Create or update everything; returns a line for each thing done.

    `replicas` are the copies that a cluster keeps; 0: as many as there are, one at first.
    `gigabytes` (10**9 bytes) is what all stores together may take up; None: what the map
    says. Raises `Permanent` where the server has less.
    """
    replicas = replicas or await _copies(js)
    wanted = gigabytes or flow.STORE_BYTES / 1e9
    part = wanted * 1e9 / flow.STORE_BYTES
    try:
        done = [await _ensure_stream(js, stream, replicas, part) for stream in flow.STREAMS]
        done += [await _ensure_bucket(js, bucket, replicas, part) for bucket in flow.BUCKETS]
    except APIError as error:
        if error.err_code != NO_ROOM:
            raise
        raise Permanent(
            f"NATS cannot reserve {wanted:.1f} GB for its streams.",
            advice="Raise its `max_file_store` (by default three quarters of the free disk), "
            "or ask for less: PATCHWRIGHT_STORE_GIGABYTES.",
        ) from None
    for consumer in flow.consumers():
        # add_consumer updates an existing durable, and refuses what cannot be changed.
        await js.add_consumer(flow.route_of(consumer).stream.name, _consumer_config(consumer))
        done.append(f"consumer {consumer.name}")
    return done


async def check(js: JetStreamContext, service: str) -> None:
    """Raises `Retry` naming what is missing or different for `service`."""
    for consumer in flow.consumers(service):
        stream = flow.route_of(consumer).stream.name
        try:
            found = (await js.consumer_info(stream, consumer.name)).config
        except NotFoundError as error:
            raise Retry(f"consumer {consumer.name} is missing: run `just topology`") from error
        if _rules(found) != _rules(_consumer_config(consumer)):
            raise Retry(f"consumer {consumer.name} differs from flow.py: run `just topology`")


async def _copies(js: JetStreamContext) -> int:
    """Somebody who forgets the number must not undo what a cluster was made for."""
    try:
        return (await js.stream_info(flow.PW_EVENTS.name)).config.num_replicas or 1
    except NotFoundError:
        return 1


async def _ensure_stream(
    js: JetStreamContext, stream: flow.Stream, replicas: int, part: float
) -> str:
    config = api.StreamConfig(
        name=stream.name,
        description=stream.about,
        subjects=list(stream.subjects),
        retention=api.RetentionPolicy.LIMITS,
        # A full stream refuses new work; dropping the oldest would lose requests.
        discard=api.DiscardPolicy.NEW,
        max_age=stream.max_age,
        max_bytes=int(stream.max_bytes * part),
        duplicate_window=stream.duplicate_window,
        num_replicas=replicas,
        allow_direct=False,
    )
    try:
        await js.stream_info(stream.name)
    except NotFoundError:
        await js.add_stream(config)
        return f"stream {stream.name} made"
    await js.update_stream(config)
    return f"stream {stream.name} up to date"


async def _ensure_bucket(
    js: JetStreamContext, bucket: flow.Bucket, replicas: int, part: float
) -> str:
    made, room = False, int(bucket.max_bytes * part)
    try:
        if bucket.kind == "kv":
            await js.key_value(bucket.name)
        else:
            await js.object_store(bucket.name)
    except (BucketNotFoundError, NotFoundError):
        await _make_bucket(js, bucket, replicas, room)
        made = True
    await _adjust(js, bucket, replicas, room)
    return f"bucket {bucket.name} {'made' if made else 'is there'}"


async def _make_bucket(js: JetStreamContext, bucket: flow.Bucket, replicas: int, room: int) -> None:
    name, about = bucket.name, bucket.about
    if bucket.kind == "kv":
        # Not `direct`: a follower may answer with the past, and claims decide by reads.
        kv = api.KeyValueConfig(
            bucket=name,
            description=about,
            max_bytes=room,
            history=bucket.history,
            replicas=replicas,
            direct=False,
        )
        await js.create_key_value(kv)
    else:
        objects = api.ObjectStoreConfig(
            description=about, max_bytes=room, ttl=bucket.max_age or None, replicas=replicas
        )
        await js.create_object_store(name, config=objects)


async def _adjust(js: JetStreamContext, bucket: flow.Bucket, replicas: int, room: int) -> None:
    """What nats-py does not let one choose, or made for another map or size of cluster.

    In a key-value bucket a message with `Nats-Rollup: all` takes every other key away, whoever
    may write one. nats-py always allows them, for `purge`, which nobody needs here.
    """
    config = (await js.stream_info(bucket.stream)).config
    wanted = config.evolve(max_bytes=room, num_replicas=replicas)
    if bucket.kind == "kv":
        wanted = wanted.evolve(allow_rollup_hdrs=False)
    if wanted != config:
        await js.update_stream(wanted)


def _rules(config: api.ConsumerConfig) -> tuple[object, ...]:
    """What a service relies on: which messages, for how long, and that none is dropped.

    A shorter `ack_wait` than our heartbeats assume would hand messages out twice.
    """
    filters = frozenset(config.filter_subjects or [config.filter_subject or ""])
    policy = api.AckPolicy(config.ack_policy)
    return filters, config.max_deliver, config.ack_wait, policy, bool(config.deliver_subject)


def _consumer_config(consumer: flow.Consumer) -> api.ConsumerConfig:
    single = len(consumer.subjects) == 1
    return api.ConsumerConfig(
        durable_name=consumer.name,
        description=consumer.about,
        ack_policy=api.AckPolicy.EXPLICIT,
        ack_wait=consumer.ack_wait,
        max_deliver=-1,
        max_ack_pending=consumer.max_ack_pending,
        filter_subject=consumer.subjects[0] if single else None,
        filter_subjects=None if single else list(consumer.subjects),
    )
