"""What GitHub has really sent, as octokit collected it: every payload goes in and is decided on."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio

from harness.npm import Package

from .chain import Chain, Place, chain
from .webhooks import Stored, headers, signature, stored

pytestmark = pytest.mark.asyncio(loop_scope="module")
EXAMPLES = Package(
    "@octokit/webhooks-examples",
    "7.6.1",
    "sha512-De6U3XB6O3DtCa7bKgCMzTHdeopqqZ6SNivMYJnK65ierKL1AnNIA0tkRYCRS7lwGT792d+Ps1WbfHlso6MynQ==",
)
OURS = "octokit-"
"""What our deliveries' ids begin with: the stand-in delivers too."""
DECIDED = ("no job: ", "job requested", "triage-delivery-received gives up: ")
"""Triage's last word on a delivery."""


@dataclass(frozen=True)
class Sent:
    chain: Chain
    place: Place
    payloads: list[tuple[str, dict[str, Any]]]
    answers: list[int]

    def events(self, *names: str) -> list[str]:
        return [event for event, _ in self.payloads if event in names]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sent(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sent]:
    """All of them, signed, as fast as they go in; behind them somebody asks for something."""
    payloads = [
        (kind["name"], example)
        for kind in json.loads(EXAMPLES.read("api.github.com/index.json"))
        for example in kind["examples"]
    ]
    async with chain(tmp_path_factory.mktemp("chain")) as running:
        place = await running.repository()
        secret = running.app.webhook_secret
        url = f"http://127.0.0.1:{running.port}/webhooks/github"
        limit = asyncio.Semaphore(16)
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:

            async def post(number: int, event: str, payload: dict[str, Any]) -> int:
                # Most were recorded from webhooks of a repository; an App's name the installation.
                body = json.dumps({"installation": {"id": place.installation}} | payload).encode()
                signed = signature(body, secret)
                named = {"x_github_event": event, "x_github_delivery": f"{OURS}{number}"}
                given = headers(body, x_hub_signature_256=signed, **named)
                async with limit:
                    answer = await http.post(url, content=body, headers=given)
                return answer.status_code

            answers = await asyncio.gather(
                *(post(number, *one) for number, one in enumerate(payloads))
            )
        yield Sent(running, place, payloads, answers)


async def test_every_payload_is_let_in_and_stored(sent: Sent) -> None:
    assert len(sent.payloads) > 300
    assert len({event for event, _ in sent.payloads}) > 50
    expected = [200 if event == "ping" else 202 for event, _ in sent.payloads]
    assert sent.answers == expected
    ours = [
        message.subject.split(".")[2]
        for message in await stored(sent.chain.bus)
        if message.headers["x-github-delivery"].startswith(OURS)
    ]
    assert Counter(ours) == Counter(event for event, _ in sent.payloads if event != "ping")


async def test_triage_has_a_word_for_each_and_nothing_waits(sent: Sent) -> None:
    await sent.chain.quiet()
    lines = sent.chain.programs["triage"].lines
    words = [line for line in lines if any(word in line for word in DECIDED)]
    assert len(words) == len(sent.events("issues", "issue_comment"))
    assert not any("failed unexpectedly" in line or "Traceback" in line for line in lines)


async def test_vault_takes_them_all(sent: Sent) -> None:
    await sent.chain.quiet()
    consumer = await sent.chain.bus.js.consumer_info("PW_GITHUB", "vault-delivery-received")
    async with asyncio.timeout(20):
        while consumer.num_pending:
            await asyncio.sleep(0.1)
            consumer = await sent.chain.bus.js.consumer_info("PW_GITHUB", consumer.name)
    lines = sent.chain.programs["vault"].lines
    assert not any("failed unexpectedly" in line or "Traceback" in line for line in lines)


async def test_request_behind_them_is_heard(sent: Sent) -> None:
    github, token = sent.chain.github, sent.chain.tokens["write"]
    issue = await github.open_issue(sent.place.name, "Division is wrong", token=token)
    await github.label(sent.place.name, int(issue["number"]), "patchwright", token=token)
    [job] = await sent.place.requested()
    assert job.issue_number == issue["number"]
    dead: list[Stored] = await stored(sent.chain.bus, "PW_DLQ")
    reasons = {message.headers["Patchwright-Reason"] for message in dead}
    # Repositories of other people: nobody here can be told.
    assert all("lacks what a request needs" in r or "not installed" in r for r in reasons), reasons
