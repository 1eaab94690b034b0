"""Who may do what at NATS: the file is the map's, and a real server refuses all the rest.

Every subject that anything in Patchwright uses is tried by every identity. What the map
declares goes through, everything else is refused; so a route, bucket or verb that is
added without permissions shows here as the service that cannot use it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nats as nats_py
import pytest
from nats.aio.client import Client

from harness.nats import NatsServer
from patchwright_common import flow, permissions, requests
from patchwright_common.permissions import bucket_stream, inbox
from patchwright_common.requests import IDENTITIES, OPERATOR, SERVICES, VERBS

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "nats" / "identities.conf"
SERVED = (*SERVICES, requests.SETUP)
"""Everyone but people."""
END = "pw.rpc.end"
"""Refused to everybody, the operator too."""


def test_configuration_is_what_the_map_says() -> None:
    variables = {name: f"${permissions.variable(name)}" for name in IDENTITIES}
    assert CONFIGURATION.read_text().endswith(permissions.render(variables)), (
        "run `just nats-identities`"
    )


@dataclass
class Identity:
    """A connection, and what the server refused to it."""

    client: Client
    refused: list[str] = field(default_factory=list)

    async def publishes(self, subjects: list[str]) -> list[str]:
        """Those that go through."""
        self.refused.clear()
        for subject in subjects:
            await self.client.publish(subject, b"")
        return await self._allowed(subjects, "publish")

    async def subscribes(self, subjects: list[str]) -> list[str]:
        """Those that may be listened to."""
        self.refused.clear()
        for subject in subjects:
            name, _, queue = subject.partition(" ")
            await self.client.subscribe(name, queue=queue)
        return await self._allowed(subjects, "subscription")

    async def _allowed(self, subjects: list[str], kind: str) -> list[str]:
        # Refusals come in order, but after the answer to a flush: one more marks the end.
        await self.client.publish(END, b"")
        async with asyncio.timeout(20):
            while not any(END in line for line in self.refused):
                await asyncio.sleep(0.01)
        refused = "\n".join(self.refused)
        # nats-py writes what the server says in lower case.
        return [s for s in subjects if f'{kind} to "{s.partition(" ")[0].lower()}"' not in refused]


@pytest.fixture
async def identities(nats: NatsServer) -> AsyncIterator[dict[str, Identity]]:
    found = {}
    for name in IDENTITIES:
        refused: list[str] = []

        async def note(error: Exception, refused: list[str] = refused) -> None:
            refused.append(str(error))

        client = await nats_py.connect(
            nats.address,
            nkeys_seed=str(nats.identities.seed(name)),
            inbox_prefix=inbox(name),
            error_cb=note,
            allow_reconnect=False,
        )
        found[name] = Identity(client, refused)
    yield found
    for identity in found.values():
        await identity.client.close()


def concrete(pattern: str) -> str:
    """A subject that the pattern covers."""
    return pattern.replace(">", "a").replace("*", "a")


def routes() -> Iterator[tuple[str, set[str]]]:
    """Subjects that are sent, and who sends them."""
    for route in flow.ROUTES:
        if route == flow.DEAD_LETTER:
            for service in SERVICES:
                yield f"{route.prefix}.{service}.a.b.c", {service} & set(route.producers)
        else:
            yield concrete(permissions.sent(route, "")), set(route.producers)
    for verb in VERBS:
        for caller in SERVED:
            mine = {caller} if caller in verb.callers else set()
            yield requests.subject(caller, verb.name), mine
    yield requests.CHANGED, {"vault"}
    yield requests.ENDED, {"vault"}
    yield f"{requests.PREFIX}.runner.made-up", set()


def broker() -> Iterator[tuple[str, set[str]]]:
    """The server's own interface, and who needs which part of it."""
    for consumer in flow.consumers():
        stream, mine = flow.route_of(consumer).stream.name, {consumer.service}
        yield f"$JS.API.CONSUMER.INFO.{stream}.{consumer.name}", mine
        yield f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer.name}", mine
        yield f"$JS.ACK.{stream}.{consumer.name}.1.1.1.1.0", mine
        yield f"$JS.API.CONSUMER.DELETE.{stream}.{consumer.name}", set()
        yield f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{consumer.name}", set()
    streams = {stream.name: set(stream.readers) for stream in flow.STREAMS}
    for bucket in flow.BUCKETS:
        users = {*bucket.readers, *bucket.writers}
        streams[bucket_stream(bucket)] = users
        watchers = users | set(bucket.watchers)
        yield f"$JS.API.STREAM.INFO.{bucket_stream(bucket)}", watchers
    for stream in flow.STREAMS:
        yield f"$JS.API.STREAM.INFO.{stream.name}", set(stream.watchers)
    for name, readers in streams.items():
        yield f"$JS.API.STREAM.MSG.GET.{name}", readers
        for action in ("CREATE", "UPDATE", "DELETE", "PURGE", "SNAPSHOT", "MSG.DELETE"):
            yield f"$JS.API.STREAM.{action}.{name}", set()
        for action in ("DIRECT.GET", "CONSUMER.CREATE", "CONSUMER.LIST"):
            yield f"$JS.API.{action}.{name}", set()
        yield f"$JS.API.CONSUMER.CREATE.{name}.a.b", set()


def keys() -> Iterator[tuple[str, set[str]]]:
    """Records and objects, and who writes them."""
    for bucket in flow.BUCKETS:
        for service in SERVED:
            for subject in permissions.written(bucket, service):
                writers = {s for s in SERVED if subject in permissions.written(bucket, s)}
                yield concrete(subject), writers
        prefix = "$KV" if bucket.kind == "kv" else "$O"
        everything = {s for s, names in bucket.writers.items() if ">" in names}
        yield f"{prefix}.{bucket.name}.unheard-of.a", everything


@pytest.mark.parametrize("name", SERVED)
async def test_identity_sends_what_the_map_says_and_nothing_else(
    identities: dict[str, Identity], name: str
) -> None:
    table = {**dict(routes()), **dict(broker()), **dict(keys())}
    for other in SERVED:
        if other != name:
            # The vault answers everybody.
            table[f"{inbox(other)}.a"] = {"vault"}
    table |= {"$SYS.REQ.SERVER.PING": set(), "$JS.API.INFO": set(), "pw.other": set()}
    allowed = await identities[name].publishes(list(table))
    assert sorted(allowed) == sorted(s for s, users in table.items() if name in users)


@pytest.mark.parametrize("name", SERVED)
async def test_identity_hears_its_own_replies_and_nobody_elses(
    identities: dict[str, Identity], name: str
) -> None:
    mine = {f"{inbox(name)}.>"}
    if name == "vault":
        mine |= {f"{requests.PREFIX}.*.{verb.name} vault" for verb in VERBS} | {requests.ENDED}
    elif name in SERVICES:
        mine |= {requests.CHANGED}
    everything = {
        *(f"{inbox(other)}.>" for other in IDENTITIES),
        *(f"{requests.PREFIX}.*.{verb.name} vault" for verb in VERBS),
        *(f"{requests.PREFIX}.{other}.token" for other in SERVED),
        *(name for stream in flow.STREAMS for name in stream.subjects),
        *(f"$KV.{b.name}.>" for b in flow.BUCKETS),
        *(f"$O.{b.name}.>" for b in flow.BUCKETS),
        *("_INBOX.>", "pw.rpc.>", "pw.>", ">", "$JS.ACK.>", "$JS.API.>"),
        *(requests.CHANGED, requests.ENDED),
    }
    allowed = await identities[name].subscribes(sorted(everything))
    if name == "vault":
        # Without the queue group it would hear what another vault is asked.
        assert await identities[name].subscribes([f"{requests.PREFIX}.*.token"]) == []
    assert sorted(allowed) == sorted(mine)


async def test_operator_does_everything_but_speak_for_a_service_or_touch_the_vault(
    identities: dict[str, Identity],
) -> None:
    table = dict(routes()) | dict(keys()) | dict(broker())
    vault = bucket_stream(flow.PW_VAULT)
    sent = [s for s in table if f".{vault}" not in s]
    allowed = await identities[OPERATOR].publishes([*sent, "_INBOX_runner.a"])
    forbidden = (requests.PREFIX, "pw.note.", f"$KV.{flow.PW_VAULT.name}.", "_INBOX_")
    assert allowed == [s for s in sent if not s.startswith(forbidden)]

    secret = [
        f"$JS.API.STREAM.MSG.GET.{vault}",
        f"$JS.API.DIRECT.GET.{vault}",
        f"$JS.API.DIRECT.GET.{vault}.$KV.PW_VAULT.model-key",
        f"$JS.API.CONSUMER.CREATE.{vault}",
        f"$JS.API.CONSUMER.CREATE.{vault}.a.b",
        f"$JS.API.CONSUMER.DURABLE.CREATE.{vault}.a",
        f"$JS.API.STREAM.SNAPSHOT.{vault}",
    ]
    assert await identities[OPERATOR].publishes(secret) == []
    heard = ["pw.rpc.>", "pw.>", ">", "_INBOX_runner.>", f"$KV.{flow.PW_VAULT.name}.>"]
    assert await identities[OPERATOR].subscribes([*heard, "pw.evt.>"]) == ["pw.evt.>"]


async def test_nobody_comes_in_without_a_key(nats: NatsServer) -> None:
    """By hand: nats-py leaves its socket behind when it is turned away."""
    reader, writer = await asyncio.open_connection("127.0.0.1", nats.port)
    assert b'"nonce"' in await reader.readline()
    writer.write(b'CONNECT {"verbose":false,"pedantic":false}\r\nPING\r\n')
    assert b"Authorization Violation" in await reader.readline()
    writer.close()
    await writer.wait_closed()
