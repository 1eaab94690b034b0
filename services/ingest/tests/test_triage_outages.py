"""GitHub and the vault are away in every way they can be; the request waits and is taken up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from harness.programs import program

from .chain import READY, Chain, Place, chain

pytestmark = pytest.mark.asyncio(loop_scope="module")
LABEL = "patchwright"
PATHS = ("collaborators", "branches", "issues/1/comments")
HANG = 60.0
"""Seconds; triage gives up on an answer after 20."""
RESET = 3.0
"""Seconds until a rate limit ends."""


@dataclass(frozen=True)
class Outage:
    """The first requests to a path fail; `statuses` are what GitHub answered in the end."""

    path: str
    times: int
    fault: dict[str, Any]
    statuses: tuple[int, ...]
    at_least: float = 0.0
    """Seconds that triage waits, because GitHub asked for it."""


@dataclass
class Happening:
    place: Place
    began: float = field(default_factory=time.monotonic)


def limited(status: int) -> dict[str, Any]:
    reset = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(time.time() + RESET) + 1)}
    message = {"message": "API rate limit exceeded for installation ID 1."}
    return {"status": status, "headers": reset, "body": message}


SECONDARY = {
    "status": 403,
    "headers": {"retry-after": "2"},
    "body": {"message": "You have exceeded a secondary rate limit."},
}
CUT = {"status": 200, "body": '{"name": "main", "com'}
GATEWAY = {"status": 502, "body": "<html>Bad gateway</html>"}
REVOKED = {"status": 401, "body": {"message": "Bad credentials"}}

OUTAGES = {
    "a hang": Outage("collaborators", 1, {"delay": HANG}, (0, 200)),
    **{f"{p} answers 502": Outage(p, 3, GATEWAY, (502, 502, 502, 200)) for p in PATHS},
    **{f"{p} drops connections": Outage(p, 2, {"drop": True}, (0, 0, 200)) for p in PATHS},
    "an answer is cut off": Outage("branches", 2, CUT, (200, 200, 200)),
    "rate limit by 403": Outage("collaborators", 1, limited(403), (403, 200), 1.0),
    "rate limit by 429": Outage("branches", 1, limited(429), (429, 200), 1.0),
    "secondary rate limit": Outage("issues/1/comments", 1, SECONDARY, (403, 200), 2.0),
    "a token is revoked": Outage("collaborators", 2, REVOKED, (401, 401, 200)),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="chain")
async def _chain(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chain]:
    async with chain(tmp_path_factory.mktemp("chain")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def happening(chain: Chain) -> dict[str, Happening]:
    """All outages begin at once, each in a repository of its own; the tests see how they end."""
    places = {name: await new_issue(chain) for name in OUTAGES}
    await chain.quiet()
    found = {}
    for name, outage in OUTAGES.items():
        found[name] = Happening(places[name])
        await ask_during(found[name].place, outage.path, outage.times, **outage.fault)
    return found


async def new_issue(chain: Chain) -> Place:
    place = await chain.repository()
    await chain.github.open_issue(place.name, "Division is wrong", token=chain.tokens["write"])
    return place


async def ask_during(place: Place, path: str, times: int, **fault: Any) -> None:
    github = place.chain.github
    await github.fault("GET", f"/repos/{place.name}/{path}", times=times, **fault)
    await github.label(place.name, 1, LABEL, token=place.chain.tokens["write"])


async def mention(place: Place) -> None:
    token = place.chain.tokens["write"]
    await place.chain.github.comment(place.name, 1, "@patchwright", token=token)


@pytest.mark.parametrize("name", [name for name in OUTAGES if name != "a hang"])
async def test_outage_is_waited_for(
    chain: Chain, happening: dict[str, Happening], name: str
) -> None:
    outage, place = OUTAGES[name], happening[name].place
    [job] = await place.requested()
    created = (job.requested_at.timestamp() - time.time()) + time.monotonic()
    assert created - happening[name].began >= outage.at_least
    requests = await chain.github.requests("GET", f"/repos/{place.name}/{outage.path}")
    assert tuple(request["status"] or 0 for request in requests) == outage.statuses


@pytest.mark.parametrize("path", ["branches", "issues/1/comments"])
async def test_refusal_for_good_of_somebody_who_may_ask_is_a_job_that_failed(
    chain: Chain, path: str
) -> None:
    place = await new_issue(chain)
    body = {"message": "Resource not accessible by integration"}
    await ask_during(place, path, 1, status=403, body=body)
    [job] = await place.requested()
    assert "Resource not accessible" in job.refused
    [failed] = await place.failed(1)
    assert (failed.job_id, failed.reason) == (job.job_id, job.refused)
    assert failed.trace_id
    await asyncio.sleep(1)
    assert await place.readied(0) == []
    assert len(await place.failed(1)) == 1
    assert await place.dead_letters() == []


async def test_refusal_before_it_is_known_who_may_ask_is_a_dead_letter(chain: Chain) -> None:
    """A comment for anybody who sets it off would be a way to make the App write."""
    place = await new_issue(chain)
    body = {"message": "Resource not accessible by integration"}
    await ask_during(place, "collaborators", 1, status=403, body=body)
    [letter] = await place.dead_letters(1)
    assert "Resource not accessible" in letter.headers["Patchwright-Reason"]
    assert await place.requested(0) == []


async def test_removed_installation_is_a_dead_letter(chain: Chain) -> None:
    """Nobody can be told: the App may not write there any more."""
    place = await new_issue(chain)
    await mention(place)
    await place.requested()
    message = await chain.delivery(place, "issue_comment.created")
    ours = f'"installation":{{"id":{place.installation},'.encode()
    assert ours in message.body
    gone = message.body.replace(ours, b'"installation":{"id":99999999,')
    headers = {"x-github-delivery": "gone", "Patchwright-Replay": "gone"}
    await chain.bus.js.publish(message.subject, gone, headers=headers)
    [letter] = await place.dead_letters(1)
    assert "not installed" in letter.headers["Patchwright-Reason"]


async def test_hang_holds_up_nobody_else_and_is_given_up(
    chain: Chain, happening: dict[str, Happening]
) -> None:
    hanging, other = happening["a hang"], await new_issue(chain)
    assert await hanging.place.requested(0) == []
    started = time.monotonic()
    await mention(other)
    await other.requested()
    assert time.monotonic() - started < 5
    await hanging.place.requested()
    assert time.monotonic() - hanging.began < HANG


async def test_vault_that_is_away_is_waited_for(chain: Chain) -> None:
    """Its records are sealed, so the next one needs no more than its key."""
    assert await chain.programs["vault"].stop() == 0
    place = await new_issue(chain)
    await mention(place)
    await asyncio.sleep(1)
    assert await place.requested(0) == []
    environment = chain.nats.environment("vault") | {
        "PATCHWRIGHT_GITHUB_API_URL": chain.github.api_url,
        "PATCHWRIGHT_VAULT_KEY_FILE": str(chain.folder / "vault.key"),
    }
    async with program("patchwright-vault", environment=environment) as again:
        await again.line(READY)
        await place.requested()
        assert not any("sealed" in line for line in again.lines)


async def test_triage_and_ingest_stop_when_told_with_nothing_to_complain_of(chain: Chain) -> None:
    for name in ("triage", "ingest"):
        assert await chain.programs[name].stop() == 0
        assert not any("Traceback" in line for line in chain.programs[name].lines)
