"""Each part is tried for real, and what does not work comes with what to do about it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from harness.nats import NatsServer
from harness.programs import model_standin
from patchwright_common.bus import Bus
from standin_github.client import CreatedApp, StandinGitHub

from .administering import Operator, administering, free_port, http, rsa_pem
from .serving import asking

MODEL_KEY = "sk-standin-canary-check"
OWNER = "check-labs"


@dataclass
class Receiver:
    """What stands at the webhook's address."""

    url: str
    status: int = 202


@pytest.fixture(name="bus")
async def _bus(nats: NatsServer) -> AsyncIterator[Bus]:
    async with asking(nats) as connection:
        yield connection


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http(receiving.status, b""))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    receiving = Receiver(f"http://127.0.0.1:{port}/webhooks/github")
    async with server:
        yield receiving


@dataclass
class Checked:
    """An operator with an App at the stand-in."""

    operator: Operator
    github: StandinGitHub
    app: CreatedApp

    async def check(self, what: str) -> tuple[bool, str, str]:
        await self.github.settled()
        return await self.operator.check(what)

    async def install(self, *names: str, **permissions: str) -> int:
        full = [f"{OWNER}-{self.app.id}/{name}" for name in names]
        for name in full:
            await self.github.create_repository(name, {"README.md": "x"}, private=True)
        given = permissions or None
        return await self.github.install(self.app.id, full, permissions=given)


@asynccontextmanager
async def running(
    nats: NatsServer, bus: Bus, folder: Path, github: StandinGitHub, **more: str
) -> AsyncIterator[Checked]:
    made = await github.create_app(f"Checked {uuid4().hex[:8]}")
    async with administering(nats, bus, folder, **more) as operator:
        checked = Checked(operator, github, made)
        await hold_app(checked, made.private_key, str(made.id))
        yield checked


@pytest.fixture
async def checked(
    nats: NatsServer, bus: Bus, tmp_path: Path, github: StandinGitHub
) -> AsyncIterator[Checked]:
    async with running(nats, bus, tmp_path, github) as ready:
        yield ready


async def hold_app(checked: Checked, pem: str, app_id: str, api_url: str = "") -> None:
    value = {
        "app_id": app_id,
        "private_key": pem,
        "slug": checked.app.slug,
        "api_url": api_url or checked.github.api_url,
        "html_url": f"{checked.github.base_url}/apps/{checked.app.slug}",
    }
    await checked.operator.put("github-app", json.dumps(value))


# --- webhook -------------------------------------------------------------------------------


async def test_webhook_without_an_address(checked: Checked) -> None:
    ok, detail, advice = await checked.check("webhook")
    assert not ok
    assert "no webhook address" in detail
    assert f"/apps/{checked.app.slug}" in advice


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "webhook secret"), (404, "/webhooks/github"), (302, "/webhooks/github"),
     (413, "too small"), (503, "just logs ingest"), (418, "Something else")],
)  # fmt: skip
async def test_webhook_that_is_refused(
    checked: Checked, receiver: Receiver, status: int, said: str
) -> None:
    receiver.status = status
    await checked.github.change_app(checked.app.id, webhook_url=receiver.url)
    await checked.install("doorbell")
    ok, detail, advice = await checked.check("webhook")
    assert not ok
    assert f"was answered with {status}" in detail
    assert receiver.url in detail
    assert said in advice


async def test_webhook_at_which_nobody_listens(checked: Checked) -> None:
    url = f"http://127.0.0.1:{free_port()}/webhooks/github"
    await checked.github.change_app(checked.app.id, webhook_url=url)
    await checked.install("doorbell")
    ok, detail, advice = await checked.check("webhook")
    assert not ok
    assert "got no answer: failed to connect to host" in detail
    assert "cannot reach this address" in advice


async def test_webhook_that_works_counts_the_newest_delivery_only(
    checked: Checked, receiver: Receiver
) -> None:
    receiver.status = 401
    await checked.github.change_app(checked.app.id, webhook_url=receiver.url)
    await checked.install("doorbell")
    assert not (await checked.check("webhook"))[0]
    receiver.status = 202
    await checked.install("chime")
    ok, detail, advice = await checked.check("webhook")
    assert ok
    assert "was taken with 202" in detail
    assert advice == ""


# --- token ---------------------------------------------------------------------------------


async def test_without_an_app_it_says_how_to_make_one(
    nats: NatsServer, bus: Bus, tmp_path: Path
) -> None:
    async with administering(nats, bus, tmp_path) as operator:
        for what in ("webhook", "token"):
            ok, detail, advice = await operator.check(what)
            assert not ok
            assert detail == "The vault holds no GitHub App."
            assert "just setup" in advice


async def test_app_that_is_not_installed(checked: Checked) -> None:
    ok, detail, advice = await checked.check("token")
    assert not ok
    assert "not installed anywhere" in detail
    assert f"/apps/{checked.app.slug}/installations/new" in advice


async def test_token_can_be_had_and_is_revoked(checked: Checked) -> None:
    await checked.install("doorbell", "chime")
    ok, detail, advice = await checked.check("token")
    assert ok, (detail, advice)
    owner = f"{OWNER}-{checked.app.id}"
    assert f"{owner}/doorbell, {owner}/chime" in detail
    revoked = await checked.github.requests("DELETE", "/installation/token")
    assert revoked[-1]["status"] == 204
    minted = await checked.github.requests("POST", "/access_tokens")
    mine = [m for m in minted if m["actor"] == f"app:{checked.app.slug}"]
    assert len(mine) == 1


async def test_installation_that_lacks_a_permission(checked: Checked) -> None:
    await checked.install("doorbell", contents="read", issues="write", metadata="read")
    ok, detail, advice = await checked.check("token")
    assert not ok
    assert "contents: write, pull_requests: write" in detail
    assert "issues" not in detail
    assert "accept" in advice


async def test_wrong_private_key(checked: Checked) -> None:
    await hold_app(checked, rsa_pem(), str(checked.app.id))
    for what in ("webhook", "token"):
        ok, detail, advice = await checked.check(what)
        assert not ok
        assert "does not accept the App's private key" in detail
        assert "new private key" in advice


async def test_wrong_app_id(checked: Checked) -> None:
    await hold_app(checked, checked.app.private_key, "999999")
    ok, detail, _ = await checked.check("token")
    assert not ok
    assert "does not know the App's id" in detail


async def test_github_that_is_away(checked: Checked) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    await hold_app(checked, checked.app.private_key, "7", address)
    ok, detail, advice = await checked.check("token")
    assert not ok
    assert detail == f"GitHub's API at 127.0.0.1:{port} gave no answer: it cannot be reached."
    assert "Nothing was changed" in advice


async def test_github_that_is_slow_or_broken(checked: Checked) -> None:
    await checked.github.fault(path=".*/app/installations", status=503)
    ok, detail, advice = await checked.check("token")
    assert not ok
    assert "answered 503 to app/installations." in detail
    assert "again" in advice
    await checked.github.fault(path=".*/app/installations", delay=6.0)
    ok, detail, _ = await checked.check("token")
    assert not ok
    assert "did not answer in 4 s" in detail


async def test_address_that_is_not_githubs_api(checked: Checked) -> None:
    await hold_app(checked, checked.app.private_key, "7", checked.github.base_url)
    ok, _, advice = await checked.check("token")
    assert not ok
    assert "address of GitHub's API" in advice


# --- model ---------------------------------------------------------------------------------


async def test_model_without_a_key(checked: Checked) -> None:
    ok, detail, advice = await checked.check("model")
    assert not ok
    assert "no key for the model" in detail
    assert "just secrets set model-key" in advice


async def test_model_that_takes_the_key(
    nats: NatsServer, bus: Bus, tmp_path: Path, github: StandinGitHub
) -> None:
    async with (
        model_standin(MODEL_KEY) as model,
        running(nats, bus, tmp_path, github, ANTHROPIC_BASE_URL=f"{model}/") as checked,
    ):
        await checked.operator.put("model-key", MODEL_KEY)
        ok, detail, advice = await checked.check("model")
        assert ok, detail
        assert detail == f"{model.removeprefix('http://')} takes the model's key."
        await checked.operator.put("model-key", f"{MODEL_KEY}-wrong")
        ok, detail, advice = await checked.check("model")
        assert not ok
        assert "answered 401" in detail
        assert "key is not accepted" in advice
        assert not [line for line in checked.operator.program.lines if MODEL_KEY in line]


async def test_model_that_is_away_or_something_else(
    nats: NatsServer, bus: Bus, tmp_path: Path, github: StandinGitHub, receiver: Receiver
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    async with running(nats, bus, tmp_path, github, ANTHROPIC_BASE_URL=nobody) as checked:
        await checked.operator.put("model-key", MODEL_KEY)
        ok, detail, advice = await checked.check("model")
        assert not ok
        assert "cannot be reached" in detail
        assert "ANTHROPIC_BASE_URL" in advice
        assert await checked.operator.program.stop() == 0
    address = receiver.url.removesuffix("/webhooks/github")
    async with running(nats, bus, tmp_path, github, ANTHROPIC_BASE_URL=address) as checked:
        for status, said in ((200, "ANTHROPIC_BASE_URL"), (429, "over its limit"), (529, "later")):
            receiver.status = status
            ok, detail, advice = await checked.check("model")
            assert not ok
            assert said in advice, detail
