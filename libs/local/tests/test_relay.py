"""From a channel to the real ingest: nothing is lost that was heard, and nothing comes twice."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import pytest
from nats.aio.msg import Msg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from harness.nats import NatsServer
from harness.nats import bus as connect
from harness.programs import Program, program
from harness.stored import messages_of
from harness.vault import ScriptedVault, scripted_vault
from patchwright_common.bus import Bus
from patchwright_local.buffer import ROOM, Buffer
from patchwright_local.channel import Delivery
from patchwright_local.relay import FAILURES, is_final, process

from . import smee as forms
from .smee import Form, Smee, running_smee, serving

READY = r'"text": "ready'
LISTENS = r"listening on 127\.0\.0\.1 port (\d+)"
SECRET = secrets.token_hex(20)
PATIENCE = 30.0


@dataclass
class Laptop:
    """A stack behind a channel."""

    nats: NatsServer
    bus: Bus
    vault: ScriptedVault
    smee: Smee
    channel: str = field(default_factory=lambda: uuid4().hex)
    ingest: Program | None = None
    relay: Program | None = None
    port: int = 0

    @property
    def url(self) -> str:
        return f"{self.smee.url}/{self.channel}"

    @asynccontextmanager
    async def ingesting(self) -> AsyncIterator[Program]:
        """Ingest, on the port that it had before."""
        given = self.nats.environment("ingest") | {"PATCHWRIGHT_INGEST_PORT": str(self.port)}
        async with program("patchwright-ingest", environment=given) as running:
            self.port = int((await running.line(LISTENS))[1])
            await running.line(READY)
            yield running

    @asynccontextmanager
    async def relaying(self) -> AsyncIterator[Program]:
        described = process(self.url, f"http://127.0.0.1:{self.port}/webhooks/github", {})
        async with program(
            "python", *described.command[1:], environment=described.environment
        ) as running:
            await running.line(described.ready)
            self.relay = running
            yield running
            assert await running.stop() == 0
        said = "\n".join(running.lines)
        assert "Traceback" not in said
        assert self.channel not in said
        assert not any(self.channel in part for part in described.command)

    async def deliver(self, body: bytes, *, secret: str = SECRET, number: str = "") -> str:
        """As GitHub does; returns the delivery's id."""
        number = number or str(uuid4())
        signed = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/044aadd",
            "X-GitHub-Delivery": number,
            "X-GitHub-Event": "issues",
            "X-Hub-Signature-256": f"sha256={signed}",
        }
        await self.smee.deliver(self.url, body, headers)
        return number

    async def stored(self, count: int) -> list[Msg]:
        """What ingest took, once it is that many."""
        async with asyncio.timeout(PATIENCE):
            while (await self.bus.js.stream_info("PW_GITHUB")).state.messages < count:
                await asyncio.sleep(0.05)
        return [message async for message in messages_of(self.bus.js, "PW_GITHUB")]

    async def ids(self, count: int) -> list[str]:
        return [(m.headers or {})["x-github-delivery"] for m in await self.stored(count)]


@asynccontextmanager
async def laptop(nats: NatsServer) -> AsyncIterator[Laptop]:
    async with connect(nats.url) as bus, scripted_vault(bus) as vault, running_smee() as smee:
        vault.secrets(SECRET)
        yield Laptop(nats, bus, vault, smee)


@pytest.fixture(name="world")
async def _world(nats: NatsServer) -> AsyncIterator[Laptop]:
    """Everything runs."""
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(laptop(nats))
        world.ingest = await stack.enter_async_context(world.ingesting())
        await stack.enter_async_context(world.relaying())
        await world.smee.listened(world.channel)
        yield world


def issue(**fields: object) -> bytes:
    """As JavaScript writes it: compact, and nothing escaped without need."""
    payload = {"action": "labeled", "repository": {"id": 7}} | fields
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()


BODIES = {
    "plain": issue(),
    "unicode": issue(title="Ünïcødé 漢字 🎉 \u2028 \x85 \ufeff"),
    "escapes": issue(title='quote " back \\ line \n tab \t bell \x07 slash / <b> & \x7f'),
    "lone surrogates": rb'{"action":"labeled","title":"\ud83d and \udc00"}',
    "floats": b'{"n":[0,-1,1.5,0.1,1e+21,1e-7,123456789012345680000,5e-324]}',
    "empty": b"{}",
    "one megabyte": issue(pad="ü" * 500_000),
}
FORMS = {"smee": forms.smee, "newer smee": forms.newer_smee, "gosmee": forms.gosmee}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
async def test_every_body_passes_the_real_signature_check_as_it_was(
    world: Laptop, form: Form
) -> None:
    world.smee.form = form
    sent = [await world.deliver(body) for body in BODIES.values()]
    stored = await world.stored(len(BODIES))
    assert [(m.headers or {})["x-github-delivery"] for m in stored] == sent
    for body, message in zip(BODIES.values(), stored, strict=True):
        reference = (message.headers or {}).get("Patchwright-Body-Sha256")
        assert reference in (None, hashlib.sha256(body).hexdigest())
        assert (message.data or b"") == (b"" if reference else body)


async def test_bytes_survive_a_channel_that_reformats_if_they_come_along(world: Laptop) -> None:
    world.smee.form = forms.gosmee
    body = b'{\r\n "price": 1.0,  "10": 1, "2": "\\u00fc" }'
    await world.deliver(body)
    [message] = await world.stored(1)
    assert message.data == body


async def test_body_that_the_channel_changed_is_named_with_the_probable_reason(
    world: Laptop,
) -> None:
    world.smee.form = forms.reformatted
    number = await world.deliver(issue())
    assert world.relay is not None
    line = (await world.relay.line(rf".*given up.*{number}.*"))[0]
    assert "the signature does not match" in line
    assert "the channel changed the body" in line
    world.smee.form = forms.gosmee
    number = await world.deliver(issue(), secret="another-secret")
    line = (await world.relay.line(rf".*given up.*{number}.*"))[0]
    assert "another one than the vault's" in line
    assert "changed the body" not in line


async def test_relay_listens_again_when_the_channel_ends_the_connection(world: Laptop) -> None:
    first = await world.deliver(issue())
    await world.ids(1)
    world.smee.drop()
    await world.smee.listened(world.channel, 0)
    await world.smee.listened(world.channel)
    second = await world.deliver(issue())
    assert await world.ids(2) == [first, second]
    assert world.relay is not None
    await world.relay.line("listening again after .* Recent Deliveries")
    # A server that keeps messages is told where to go on.
    assert world.smee.last_event_ids[0] == ""
    assert len(world.smee.last_event_ids[1]) == 32


async def test_relay_outlives_a_channel_that_turns_it_away_for_a_while(world: Laptop) -> None:
    world.smee.status = 404
    world.smee.drop()
    assert world.relay is not None
    await world.relay.line("it answers 404; again")
    world.smee.status = 200
    await world.smee.listened(world.channel)
    number = await world.deliver(issue())
    assert await world.ids(1) == [number]


async def test_nothing_is_lost_or_doubled_while_ingest_is_away(nats: NatsServer) -> None:
    async with laptop(nats) as world, AsyncExitStack() as stack:
        async with world.ingesting():
            await stack.enter_async_context(world.relaying())
            await world.smee.listened(world.channel)
            sent = [await world.deliver(issue(n=0))]
            await world.ids(1)
        assert world.relay is not None
        sent += [await world.deliver(issue(n=n)) for n in range(1, 20)]
        await world.relay.line("ingest does not take deliveries .*ConnectError")
        async with world.ingesting():
            assert await world.ids(20) == sent


async def test_delivery_that_ingest_could_not_store_is_sent_again_under_its_id(
    world: Laptop, nats: NatsServer
) -> None:
    await nats.stop()
    sent = [await world.deliver(issue(n=n)) for n in range(3)]
    assert world.relay is not None
    await world.relay.line("ingest does not take deliveries .*cannot be stored at the moment")
    await nats.start()
    assert await world.ids(3) == sent


async def test_delivery_that_the_channel_sends_twice_is_stored_once(world: Laptop) -> None:
    number = str(uuid4())
    for _ in range(3):
        await world.deliver(issue(), number=number)
    last = await world.deliver(issue())
    assert await world.ids(2) == [number, last]


async def test_noise_on_the_channel_disturbs_nothing(world: Laptop) -> None:
    for data in ("nonsense", "[]", '{"body":{}}', "ready", '{"message":"connected"}'):
        world.smee.say(world.channel, data)
    world.smee.say(world.channel, "{}", event="ping", number="é" * 10)
    number = await world.deliver(issue())
    assert await world.ids(1) == [number]
    world.smee.drop()
    await world.smee.listened(world.channel, 0)
    await world.smee.listened(world.channel)
    number = await world.deliver(issue())
    assert (await world.ids(2))[1] == number


async def test_what_still_waits_at_the_end_is_named(nats: NatsServer) -> None:
    async with laptop(nats) as world:
        async with world.ingesting():
            pass
        async with world.relaying() as relay:
            await world.smee.listened(world.channel)
            sent = [await world.deliver(issue(n=n)) for n in range(2)]
            await relay.line("ingest does not take deliveries")
        line = (await relay.line(".*given up, the relay stops.*"))[0]
        assert ", ".join(sent) in line
        assert "Recent Deliveries: redeliver from there" in line


async def test_delivery_that_finds_no_room_is_named(nats: NatsServer) -> None:
    async with laptop(nats) as world:
        async with world.ingesting():
            pass
        async with world.relaying() as relay:
            await world.smee.listened(world.channel)
            for number in range(ROOM + 1):
                await world.deliver(b"{}", number=f"number-{number}")
            line = (await relay.line(".*given up, 1000 wait for ingest already.*"))[0]
            assert f": number-{ROOM}. GitHub has them" in line


async def test_bug_of_ingest_holds_up_the_others_for_a_few_tries_only(nats: NatsServer) -> None:
    seen: list[str] = []

    async def answer(request: Request) -> Response:
        seen.append(request.headers["x-github-delivery"])
        return JSONResponse({"error": "ingest failed"}, 500 if seen[-1] == "bad" else 202)

    app = Starlette(routes=[Route("/webhooks/github", answer, methods=["POST"])])
    async with laptop(nats) as world, serving(app) as world.port, world.relaying() as relay:
        await world.smee.listened(world.channel)
        for number in ("bad", "good"):
            await world.deliver(b"{}", number=number)
        await relay.line("given up, ingest answers 500, ingest failed: bad")
        await relay.line("issues good: 202")
    assert seen == ["bad"] * FAILURES + ["good"]


@pytest.mark.parametrize("url", ["", "https://smee.io", "ftp://smee.io/secret-id"])
async def test_address_that_is_none_is_one_line(url: str) -> None:
    given = {"PATCHWRIGHT_RELAY_URL": url}
    async with program("python", "-m", "patchwright_local.relay", environment=given) as relay:
        assert await asyncio.wait_for(relay.process.wait(), 20) == 1
    [line] = relay.lines
    assert "https://smee.io/your-channel" in line
    assert "secret-id" not in line


async def test_channel_that_never_was_one_ends_the_start(nats: NatsServer) -> None:
    async with running_smee() as smee:
        smee.status = 404
        given = {"PATCHWRIGHT_RELAY_URL": f"{smee.url}/secret-id"}
        async with program("python", "-m", "patchwright_local.relay", environment=given) as relay:
            assert await asyncio.wait_for(relay.process.wait(), 20) == 1
    assert "it answers 404" in relay.lines[-1]
    assert "secret-id" not in "\n".join(relay.lines)


async def test_full_buffer_takes_no_more_and_keeps_the_order() -> None:
    def delivery(number: int, size: int = 10) -> Delivery:
        return Delivery(str(number), "issues", {}, b"x" * size, exact=True)

    buffer = Buffer(room=3, room_bytes=100)
    assert [buffer.add(delivery(n)) for n in range(4)] == [True, True, True, False]
    assert (await buffer.first()).id == "0"
    buffer.done()
    assert [buffer.add(delivery(n, 90)) for n in (5, 6)] == [False, False]
    assert buffer.add(delivery(7, 80))
    assert buffer.ids() == ["1", "2", "7"]
    for _ in range(3):
        buffer.done()
    await asyncio.wait_for(buffer.empty(), 1)
    assert buffer.add(delivery(8, 1000))


@pytest.mark.parametrize(
    ("status", "final"),
    [(0, False), (301, True), (400, True), (401, True), (408, False), (413, True), (429, False),
     (500, False), (502, False), (503, False)],
)  # fmt: skip
def test_only_an_answer_that_would_come_again_is_final(status: int, final: bool) -> None:
    assert is_final(status) is final
