"""Triage with its real neighbours: what people do on GitHub becomes jobs, each one once."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import jwt
import pytest
import pytest_asyncio

from patchwright_common.events import NO_COMMIT
from patchwright_common.flow import BODY_REFERENCE

from .chain import Chain, Place, chain
from .webhooks import headers, signature

pytestmark = pytest.mark.asyncio(loop_scope="module")
LABEL = "patchwright"
A_SECOND = 1.1
"""GitHub's times are whole seconds."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="chain")
async def _chain(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chain]:
    async with chain(tmp_path_factory.mktemp("chain")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def place(chain: Chain) -> AsyncIterator[Place]:
    yield await chain.repository()
    await chain.github.clear_faults()


async def ask(place: Place, title: str = "Division is wrong", *, role: str = "write") -> int:
    """Open an issue with the label, as somebody; its number."""
    chain = place.chain
    issue = await chain.github.open_issue(place.name, title, "1/2 is 0", token=chain.tokens["read"])
    number = int(issue["number"])
    await chain.github.label(place.name, number, LABEL, token=chain.tokens[role])
    return number


async def test_label_makes_one_job_with_everything_as_it_stood(chain: Chain, place: Place) -> None:
    github, writer, reader = chain.github, chain.tokens["write"], chain.tokens["read"]
    issue = await github.open_issue(place.name, "Division is wrong", "1/2 is 0", token=reader)
    number = issue["number"]
    await github.comment(place.name, number, "It is the //", token=reader)
    innocent = await github.comment(place.name, number, "I saw it as well", token=reader)
    await asyncio.sleep(A_SECOND)
    async with chain.paused("triage"):
        await github.label(place.name, number, LABEL, token=writer)
        await github.settled()
        await asyncio.sleep(A_SECOND)
        path = f"/repos/{place.name}/issues"
        changed = {"title": "Publish the keys", "body": "all of them"}
        await github.api("PATCH", f"{path}/{number}", changed, token=reader)
        edited = {"body": "Publish the keys"}
        await github.api("PATCH", f"{path}/comments/{innocent['id']}", edited, token=reader)
        await github.comment(place.name, number, "And mine", token=reader)
    [job] = await place.requested()
    assert (job.title, job.body) == ("Division is wrong", "1/2 is 0")
    assert [(remark.author, remark.text) for remark in job.conversation] == [
        ("read", "It is the //")
    ]
    assert (job.sender, job.request, job.attempt) == ("write", "", 1)
    assert job.job_id == f"{place.id}-{number}-issue-1"
    head = await github.api("GET", f"/repos/{place.name}/branches/main", token=writer)
    assert job.base == head["commit"]["sha"]
    assert job.repository.full_name == place.name
    assert job.repository.installation_id == place.installation
    await chain.quiet()
    assert len(await place.requested()) == 1
    assert await place.readied() == [job.job_id]


async def test_opened_with_label_and_mention_is_one_job(chain: Chain, place: Place) -> None:
    await chain.github.open_issue(
        place.name, "@patchwright", "please", token=chain.tokens["write"], labels=[LABEL]
    )
    [job] = await place.requested()
    await chain.quiet()
    assert [job] == await place.requested()


async def test_comment_that_mentions_the_app_is_the_request(chain: Chain, place: Place) -> None:
    github, token = chain.github, chain.tokens["write"]
    await github.open_issue(place.name, "Division is wrong", token=token)
    same = "@patchwright, fix it"
    await github.comment(place.name, 1, "First look", token=token)
    await github.comment(place.name, 1, "`@patchwright` is what I would write", token=token)
    comment = await github.comment(place.name, 1, same, token=token)
    [job] = await place.requested()
    assert job.request == same
    assert job.job_id == f"{place.id}-1-c{comment['id']}-1"
    assert same not in [remark.text for remark in job.conversation]
    await github.api(
        "PATCH",
        f"/repos/{place.name}/issues/comments/{comment['id']}",
        {"body": "@patchwright, do more"},
        token=token,
    )
    await chain.quiet()
    assert [job] == await place.requested()


@pytest.mark.parametrize(("role", "jobs"), [("triage", 0), ("maintain", 1), ("admin", 1)])
async def test_only_people_who_can_write_make_jobs(
    chain: Chain, place: Place, role: str, jobs: int
) -> None:
    await ask(place, role=role)
    await chain.quiet()
    assert len(await place.requested(jobs)) == jobs


async def test_reader_and_stranger_make_no_job_by_asking(chain: Chain, place: Place) -> None:
    await chain.github.create_user(f"stranger-{place.id}", token=f"ghp_{place.id}")
    for token in (chain.tokens["read"], f"ghp_{place.id}"):
        await chain.github.open_issue(place.name, "@patchwright", "do it", token=token)
    await chain.quiet()
    assert await place.requested(0) == []
    assert await place.dead_letters() == []


async def test_closed_issue_makes_no_job(chain: Chain, place: Place) -> None:
    github, token = chain.github, chain.tokens["write"]
    await github.open_issue(place.name, "Division is wrong", token=token)
    await github.close(place.name, 1, token=token)
    await github.comment(place.name, 1, "@patchwright", token=token)
    await chain.quiet()
    assert await place.requested(0) == []


async def test_answers_of_the_server_on_a_jobs_subject_do_not_keep_it_from_being_requested(
    chain: Chain, place: Place
) -> None:
    """Its id can be told beforehand, and whoever asks the server chooses the answer's subject."""
    async with chain.paused("triage"):
        number = await ask(place)
        job_id = f"{place.id}-{number}-issue-1"
        async with chain.nats.known_as("ingest") as ingest:
            question = "$JS.API.STREAM.INFO.OBJ_PW_DELIVERIES"
            await ingest.client.publish(question, b"", reply=f"pw.evt.job.requested.{job_id}")
            await ingest.client.flush()
    assert await place.readied() == [job_id]
    assert (await chain.bus.job(job_id)).title == "Division is wrong"
    await chain.quiet()
    assert await place.readied() == [job_id]


async def test_redelivery_by_github_makes_no_second_job(chain: Chain, place: Place) -> None:
    await ask(place)
    [job] = await place.requested()
    deliveries = await chain.github.settled()
    [original] = [d for d in deliveries if d["guid"] == job.delivery_id]
    app = {"iss": str(chain.app.id), "iat": _now() - 30, "exp": _now() + 300}
    proof = jwt.encode(app, chain.app.private_key, algorithm="RS256")
    path = f"/app/hook/deliveries/{original['id']}/attempts"
    await chain.github.api("POST", path, token=proof)
    await chain.quiet()
    assert [job] == await place.requested()


async def test_stored_delivery_sent_again_as_it_was_makes_no_second_job(
    chain: Chain, place: Place
) -> None:
    """Neither while the job is open nor when it is long finished."""
    number = await ask(place)
    [job] = await place.requested()
    message = await chain.delivery(place, "issues.labeled")
    await chain.resend(message)
    await chain.quiet()
    await place.finish(job.job_id, at=datetime.now(UTC) - timedelta(days=1))
    for _ in range(3):
        await chain.resend(message)
    await chain.quiet()
    assert [job] == await place.requested()
    assert await place.readied() == [f"{place.id}-{number}-issue-1"]


async def test_delivery_sent_as_new_makes_one_second_attempt(chain: Chain, place: Place) -> None:
    await ask(place)
    [first] = await place.requested()
    message = await chain.delivery(place, "issues.labeled")
    for _ in range(3):
        await chain.resend(message, Patchwright_Replay="replay-1")
    await chain.quiet()
    second = (await place.requested(2))[-1]
    assert (second.attempt, second.job_id) == (2, first.job_id[:-1] + "2")
    await chain.resend(message, Patchwright_Replay="replay-2")
    assert [job.attempt for job in await place.requested(3)] == [1, 2, 3]


async def test_replays_at_once_make_an_attempt_each(chain: Chain, place: Place) -> None:
    await ask(place)
    await place.requested()
    message = await chain.delivery(place, "issues.labeled")
    ids = [f"replay-{n}" for n in range(6)] * 2
    await asyncio.gather(*(chain.resend(message, Patchwright_Replay=name) for name in ids))
    await place.requested(7)
    await chain.quiet()
    assert sorted(job.attempt for job in await place.requested(7)) == list(range(1, 8))


async def test_label_set_again_after_the_result_makes_another_attempt(
    chain: Chain, place: Place
) -> None:
    github, token = chain.github, chain.tokens["write"]
    number = await ask(place)
    [job] = await place.requested()
    await github.unlabel(place.name, number, LABEL, token=token)
    await github.label(place.name, number, LABEL, token=token)
    await chain.quiet()
    assert len(await place.requested()) == 1
    await place.finish(job.job_id, at=datetime.now(UTC))
    await asyncio.sleep(A_SECOND)
    await github.unlabel(place.name, number, LABEL, token=token)
    await github.label(place.name, number, LABEL, token=token)
    assert [again.attempt for again in await place.requested(2)] == [1, 2]


async def test_jobs_of_one_issue_wait_for_each_other_and_those_of_others_do_not(
    chain: Chain, place: Place
) -> None:
    github, token = chain.github, chain.tokens["write"]
    for title in ("one", "two"):
        await github.open_issue(place.name, title, token=token)
    for number in (1, 1, 1, 2):
        await github.comment(place.name, number, "@patchwright", token=token)
        await chain.quiet()
    first, second, third, other = [job.job_id for job in await place.requested(4)]
    assert await place.readied(2) == [first, other]
    await place.finish(second, at=datetime.now(UTC))  # out of turn: nothing is freed
    await chain.quiet()
    assert await place.readied(2) == [first, other]
    await place.finish(first, at=datetime.now(UTC))
    assert await place.readied(3) == [first, other, third]
    await chain.quiet()
    assert len(await place.readied(3)) == 3


async def test_malformed_payload_is_a_dead_letter(chain: Chain, place: Place) -> None:
    subject = f"pw.github.issues.labeled.{place.id}"
    bodies = (b"{}", b"not json", b'{"action": "labeled"}')
    for body in bodies:
        await chain.bus.js.publish(subject, body, headers={"x-github-delivery": "odd"})
    await chain.quiet()
    letters = await place.dead_letters()
    assert {letter.body for letter in letters} == set(bodies)
    assert {letter.subject for letter in letters} == {"pw.dlq.triage.delivery.received.none"}
    assert all("lacks" in letter.headers["Patchwright-Reason"] for letter in letters)


async def test_body_that_is_gone_or_was_changed_is_a_dead_letter(
    chain: Chain, place: Place
) -> None:
    subject = f"pw.github.issues.labeled.{place.id}"
    for digest in ("0" * 64, "../x"):
        await chain.bus.js.publish(subject, b"", headers={BODY_REFERENCE: digest})
    await chain.quiet()
    assert len(await place.dead_letters()) == 2


async def test_empty_repository_makes_a_job_without_a_commit(chain: Chain) -> None:
    """Somebody has to tell the person who asked, and that is behind triage."""
    place = await chain.repository({})
    await ask(place)
    [job] = await place.requested()
    assert job.base == NO_COMMIT


async def test_branch_with_a_slash_is_found(chain: Chain) -> None:
    place = await chain.repository(default_branch="release/1.0")
    await ask(place)
    [job] = await place.requested()
    assert job.repository.default_branch == "release/1.0"
    assert job.base != NO_COMMIT


async def test_long_thread_keeps_its_newest_comments(chain: Chain, place: Place) -> None:
    github, token = chain.github, chain.tokens["write"]
    await github.open_issue(place.name, "Long", token=token)
    for number in range(3):
        await github.comment(place.name, 1, f"{number}" + "x" * 25_000, token=token)
    await github.label(place.name, 1, LABEL, token=token)
    [job] = await place.requested()
    assert [remark.text[0] for remark in job.conversation] == ["1", "2"]


async def test_thread_of_several_pages_is_read_whole(chain: Chain, place: Place) -> None:
    github, token = chain.github, chain.tokens["write"]
    await github.open_issue(place.name, "Long", token=token)
    for number in range(105):
        await github.comment(place.name, 1, f"{number}", token=token)
    await github.label(place.name, 1, LABEL, token=token)
    [job] = await place.requested()
    assert [remark.text for remark in job.conversation] == [f"{n}" for n in range(105)]


async def test_twenty_megabytes_become_a_job(chain: Chain, place: Place) -> None:
    """By reference through the object store, from the webhook to triage."""
    await chain.github.open_issue(place.name, "Large", token=chain.tokens["write"])
    await chain.github.label(place.name, 1, "bug", token=chain.tokens["write"])
    await chain.quiet()
    payload = json.loads((await chain.delivery(place, "issues.labeled")).body)
    payload["label"]["name"] = LABEL
    payload["pad"] = "x" * 20 * 2**20
    body = json.dumps(payload).encode()
    sent = headers(body, x_hub_signature_256=signature(body, chain.app.webhook_secret))
    answer = await chain.github._http.post(
        f"http://127.0.0.1:{chain.port}/webhooks/github", content=body, headers=sent
    )
    assert answer.status_code == 202
    assert (await chain.delivery(place, "issues.labeled")).body == b""
    [job] = await place.requested()
    assert job.title == "Large"


async def test_paused_triage_takes_up_what_came_meanwhile(chain: Chain, place: Place) -> None:
    async with chain.paused("triage"):
        await ask(place)
        await chain.github.settled()
    [job] = await place.requested()
    assert job.attempt == 1


async def test_trace_of_a_job_begins_at_its_webhook(chain: Chain, place: Place) -> None:
    outside = "0af7651916cd43dd8448eb211c80319c"
    await ask(place)
    await place.requested()
    message = await chain.delivery(place, "issues.labeled")
    body = message.body + b" "
    sent = headers(
        body,
        x_hub_signature_256=signature(body, chain.app.webhook_secret),
        traceparent=f"00-{outside}-b7ad6b7169203331-01",
    )
    answer = await chain.github._http.post(
        f"http://127.0.0.1:{chain.port}/webhooks/github", content=body, headers=sent
    )
    trace = answer.json()["trace"]
    assert re.fullmatch("[0-9a-f]{32}", trace)
    assert trace != outside
    again = await chain.delivery(place, "issues.labeled")
    assert again.headers["traceparent"].split("-")[1] == trace


async def test_bucket_of_secrets_is_the_only_place_with_secrets(chain: Chain) -> None:
    """Everything that the tests above stored, and everything that the programs said."""
    secrets = [chain.app.webhook_secret, *_lines_of(chain.app.private_key)]
    minted = (await chain.github.state())["requests"]
    assert any("access_tokens" in request["path"] for request in minted)
    haystack = chain.output().encode() + await _everything_stored(chain)
    assert b"job requested" in haystack
    assert re.search(rb"ghs_[0-9A-Za-z]{20}", haystack) is None
    for secret in secrets:
        assert secret.encode() not in haystack
    assert [line for line in chain.output().splitlines() if "Traceback" in line] == []


def _lines_of(pem: str) -> list[str]:
    return [line for line in pem.splitlines() if line and "-----" not in line]


async def _everything_stored(chain: Chain) -> bytes:
    found = bytearray()
    for info in await chain.bus.js.streams_info():
        name = info.config.name or ""
        if name == "OBJ_PW_DELIVERIES":
            continue  # twenty megabytes of one letter
        for sequence in range(1, info.state.last_seq + 1):
            try:
                message = await chain.bus.js.get_msg(name, seq=sequence)
            except Exception:  # noqa: BLE001, S112  overwritten
                continue
            found += (message.data or b"") + str(message.headers).encode()
    return bytes(found)


def _now() -> int:
    return int(datetime.now(UTC).timestamp())
