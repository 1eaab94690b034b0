"""Each kind of result, by the running publisher: one on GitHub, whatever is sent again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from patchwright_common import flow
from patchwright_common.claims import Outcome
from patchwright_common.errors import Permanent, Retry
from patchwright_common.messaging import Deliveries, Delivery
from patchwright_publisher.results import Results

from .service import Job, World, requested


async def test_change_becomes_a_pull_request(world: World) -> None:
    job = await world.job("Division | is <b>wrong</b>")
    await job.change(summary="Division is exact now.\n\nFixes #1 @everyone <!-- hidden -->")
    finished = await job.finished()
    [pull] = await job.pulls()
    assert pull["title"].replace("\u200b", "") == "Division | is <b>wrong</b>"
    assert pull["base_ref"] == "main"
    assert pull["body"].startswith(f"Fixes #{job.number}\n\nDivision is exact now.\n")
    assert "Fixes #1 " not in pull["body"]
    assert "hidden" not in pull["body"]
    for part in (
        "$0.0123",
        "| 7 | 1234 / 56 |",
        "1 min 5 s",
        "scripted",
        f"@{world.scene.person.login}",
    ):
        assert part in pull["body"]
    link = f'[`{job.trace}`](http://traces.example/{job.trace}?q={{"a":1}})'
    assert link in pull["body"]
    [comment] = await job.comments()
    assert f"/pull/{pull['number']}" in comment
    assert link in comment
    assert finished.result == "pull_request"
    assert finished.url.endswith(f"/pull/{pull['number']}")


async def test_branch_holds_the_change_and_no_other_branch_moves(world: World) -> None:
    job = await world.job()
    event = await job.change({"src/calculator.py": "x\n", "README.md": None})
    await job.finished()
    token = world.scene.person.token
    refs = await world.github.api(
        "GET", f"/repos/{world.scene.name}/git/matching-refs/heads/", token=token
    )
    heads = {ref["ref"]: ref["object"]["sha"] for ref in refs}
    assert heads[f"refs/heads/{job.branch}"] == event.commit
    assert heads["refs/heads/main"] == event.base


async def test_git_token_that_is_refused_is_replaced_for_the_next_attempt(world: World) -> None:
    job = await world.job()
    await job.handled()
    before = len(await world.github.requests("POST", "/access_tokens"))
    await world.github.fault("GET", "/info/refs", status=401)
    await job.change({"src/calculator.py": "x\n"})
    await job.finished()
    assert len(await job.pulls()) == 1
    assert len(await world.github.requests("POST", "/access_tokens")) == before + 1


async def test_answer_becomes_the_comment(world: World) -> None:
    job = await world.job()
    await job.answer("Because.\n\n```\nopen @ada")
    finished = await job.finished()
    [comment] = await job.comments()
    assert "Because.\n\n```\nopen @\u200bada\n```\n" in comment
    assert "no pull request" in comment
    assert job.trace in comment
    assert (finished.result, await job.pulls()) == ("answer", [])


async def test_failure_says_what_happened_with_trace_and_how_to_retry(world: World) -> None:
    job = await world.job()
    await job.failure("The budget of $1 is used up.", advice="Raise it.")
    finished = await job.finished()
    [comment] = await job.comments()
    assert "The budget of $1 is used up." in comment
    assert "Raise it." in comment
    assert "nothing was pushed" in comment
    assert "set it again" in comment
    assert f"`@{world.scene.app.slug}`" in comment
    assert job.trace in comment
    assert (finished.result, await job.pushes()) == ("failure", [])


async def test_one_comment_follows_the_job_from_start_to_result(world: World) -> None:
    job = await world.job()
    shown = []
    for send, text in (
        (None, "On it"),
        (job.started(), f"checked out `{job.record.base[:7]}` in a bubblewrap sandbox"),
        (job.progressed("ran @tests"), "Turn 3: ran @\u200btests"),
        (job.change(), "### ✅ Opened"),
    ):
        if send:
            await send
        await job.handled()
        [comment] = await job.comments()
        assert text in comment
        how = f"To stop it, comment `@{world.scene.app.slug} stop`."
        assert (how in comment) == ("✅" not in comment)
        shown.append(comment)
    assert len({text.rsplit("<!-- ", 1)[1] for text in shown}) == 1


async def test_final_event_sent_again_changes_nothing(world: World) -> None:
    """At the same moment, and after it ended: as JetStream does, and an operator's replay."""
    jobs = [await world.job() for _ in range(3)]
    events = [await jobs[0].change(), await jobs[1].answer(), await jobs[2].failure()]
    for job, event in zip(jobs, events, strict=True):
        await job.send(event)
    results = [await job.finished() for job in jobs]
    before = [(await job.pulls(), await job.comments(), await job.pushes()) for job in jobs]
    for job, event in zip(jobs, events, strict=True):
        await job.send(event)
        await job.handled()
    assert [(await job.pulls(), await job.comments(), await job.pushes()) for job in jobs] == before
    assert [len(pulls) for pulls, _, _ in before] == [1, 0, 0]
    assert [len(comments) for _, comments, _ in before] == [1, 1, 1]
    assert [await job.finished() for job in jobs] == results
    for job in jobs:
        subject = flow.JOB_FINISHED.subject(job.id)
        found = await world.bus.js.stream_info("PW_EVENTS", subjects_filter=subject)
        assert found.state.subjects == {subject: 1}


async def test_result_of_an_overtaken_runner_is_dropped(world: World) -> None:
    job = await world.job(epoch=2)
    await job.change(epoch=1)
    await job.answer(epoch=1)
    await job.failure(epoch=1)
    await job.handled()
    assert await job.pulls() == []
    assert "On it" in (await job.comments())[0]
    await job.answer("The second one's.", epoch=2)
    assert (await job.finished()).result == "answer"
    assert "The second one's." in (await job.comments())[0]


async def test_first_decision_holds(world: World) -> None:
    first = await world.job()
    await first.change()
    await first.finished()
    await first.failure()
    await first.answer()
    second = await world.job()
    await second.failure()
    await second.finished()
    await second.change()
    await second.answer()
    await second.handled()
    assert "### ✅ Opened" in (await first.comments())[0]
    assert "### ❌" in (await second.comments())[0]
    assert [len(await first.pulls()), len(await second.pulls())] == [1, 0]
    assert [len(await first.comments()), len(await second.comments())] == [1, 1]
    assert await second.pushes() == []


async def test_results_that_race_are_one(world: World) -> None:
    jobs = [await world.job() for _ in range(4)]
    for job in jobs:
        change = await job.change()
        await asyncio.gather(job.answer(), job.failure(), job.send(change), job.answer())
    for job in jobs:
        finished = await job.finished()
        await job.handled()
        assert len(await job.pulls()) == (finished.result == "pull_request")
        [comment] = await job.comments()
        sign = {"pull_request": "✅", "answer": "💬", "failure": "❌"}[finished.result]
        assert f"### {sign}" in comment


@pytest.mark.parametrize("path", [".github/workflows/ci.yml", ".GitHub/Workflows/deep/x.yml"])
async def test_protected_path_ends_as_a_failure_and_nothing_is_pushed(
    world: World, path: str
) -> None:
    job = await world.job()
    await job.change({path: "on: push\n", "ok.txt": "x"})
    assert (await job.finished()).result == "failure"
    [comment] = await job.comments()
    assert f"touches `{path}`, which is protected" in comment
    assert "Make this part of the change by hand." in comment
    assert "nothing was pushed" in comment
    assert (await job.pushes(), await job.pulls()) == ([], [])


async def test_path_that_is_no_text_ends_as_a_failure_and_not_in_silence(world: World) -> None:
    job = await world.job()
    await job.change({b".github/workflows/\xff\n.yml": "on: push\n"})
    assert (await job.finished()).result == "failure"
    assert "is protected" in (await job.comments())[0]


async def test_missing_bundle_ends_as_a_failure(world: World) -> None:
    job = await world.job()
    await job.change(bundle_sha256="0" * 64)
    assert (await job.finished()).result == "failure"
    assert "no longer there" in (await job.comments())[0]


async def test_pull_request_refused_for_good_names_the_branch(world: World) -> None:
    refusal = {
        "message": "Validation Failed",
        "errors": [{"code": "custom", "message": "Archived"}],
    }
    await world.github.fault("POST", f"{world.scene.name}/pulls$", status=422, body=refusal)
    job = await world.job()
    await job.change()
    assert (await job.finished()).result == "failure"
    [comment] = await job.comments()
    assert "Archived" in comment
    assert f"the work is on the branch `{job.branch}`" in comment
    assert (len(await job.pushes()), await job.pulls()) == (1, [])


async def test_pull_request_that_another_publisher_opened_a_moment_ago_is_the_result(
    world: World,
) -> None:
    body = {"message": "Validation Failed", "errors": [{"code": "custom", "message": "exists"}]}
    path = f"{world.scene.name}/pulls$"
    await world.github.fault("POST", path, status=422, body=body, after=True)
    job = await world.job()
    await job.change()
    finished = await job.finished()
    [comment] = await job.comments()
    assert f"### ✅ Opened [#{(await job.pulls())[0]['number']}]({finished.url})" in comment


async def test_pull_request_that_exists_after_all_is_the_result(world: World) -> None:
    await world.github.fault("POST", f"{world.scene.name}/pulls$", status=403, after=True)
    job = await world.job()
    await job.change()
    finished = await job.finished()
    [pull] = await job.pulls()
    assert finished.result == "pull_request"
    assert finished.url.endswith(f"/pull/{pull['number']}")
    [comment] = await job.comments()
    assert finished.url in comment
    assert "❌" not in comment
    # Progress that was under way makes it be shown again, from an event of another kind.
    await job.progressed("late")
    await job.handled()
    assert await job.comments() == [comment]


async def test_progress_after_the_result_does_not_replace_it(world: World) -> None:
    job = await world.job()
    await job.answer()
    await job.finished()
    await job.handled()
    before = await job.comments()
    edits = await world.github.requests("PATCH", "/issues/comments/")
    await job.started()
    await job.progressed("late")
    await job.handled()
    assert await job.comments() == before
    assert await world.github.requests("PATCH", "/issues/comments/") == edits


async def test_progress_that_lands_after_the_result_is_written_over(world: World) -> None:
    """Its request was under way when the result became visible."""
    job = await world.job()
    await job.handled()
    before = len(await world.github.requests("PATCH", "/issues/comments/"))
    await world.github.fault("PATCH", "/issues/comments/", delay=1.0)
    await job.progressed("slow")
    while len(await world.github.requests("PATCH", "/issues/comments/")) == before:
        await asyncio.sleep(0.02)
    await job.answer("The result.")
    await job.finished()
    assert "The result." in (await job.comments())[0]
    await job.handled()
    assert "The result." in (await job.comments())[0]
    assert len(await world.github.requests("PATCH", "/issues/comments/")) == before + 3


async def test_locked_issue_still_gets_its_pull_request(world: World) -> None:
    body = {"message": "Unable to create comment because issue is locked."}
    job = await world.job()
    await job.handled()
    await world.github.fault("PATCH", "/issues/comments/", status=403, body=body, times=99)
    await job.change()
    finished = await job.finished()
    assert (finished.result, len(await job.pulls())) == ("pull_request", 1)


async def test_answer_to_a_deleted_issue_ends_the_job(world: World) -> None:
    """Nobody can be told, and the issue's queue must not wait for ever."""
    job = await world.job()
    await job.handled()
    body = {"message": "This issue was deleted"}
    path = f"/issues/({job.number}/comments|comments/)"
    await world.github.fault(".*", path, status=410, body=body, times=99)
    await job.answer()
    finished = await job.finished()
    assert (finished.result, finished.url) == ("failure", "")


async def test_failure_of_an_app_that_was_removed_ends_the_job(world: World) -> None:
    """Installed anew it has another number, so the job's own would be refused for ever."""
    issue = await world.github.open_issue(
        world.scene.name, "Nobody is left", token=world.scene.person.token
    )
    record = requested(world.scene, issue["number"], "Nobody is left", world.workshop().base)
    former = record.repository.model_copy(update={"installation_id": 99_999_999})
    job = Job(world, record.model_copy(update={"repository": former}))
    await world.bus.emit(flow.JOB_REQUESTED, job.record, step="requested", once=True)
    await world.claims.take(job.id, "runner-1")
    await job.failure()
    finished = await job.finished()
    assert (finished.result, finished.url) == ("failure", "")


async def test_archived_repository_ends_the_job(world: World) -> None:
    job = await world.job()
    await job.handled()
    body = {"message": "Repository was archived so is read-only."}
    await world.github.fault("PATCH", "/issues/comments/", status=403, body=body, times=99)
    await job.failure()
    finished = await job.finished()
    await world.github.clear_faults()
    assert (finished.result, finished.url) == ("failure", "")


async def test_edit_between_the_result_and_its_report_is_looked_at_again(world: World) -> None:
    """The edit may have hidden the result, and only after the report somebody can put it right."""
    job = await world.job()
    await job.handled()
    unused: Any = None
    results = Results(
        world.bus, world.claims, unused, unused, open_session=unused, bot="", github=""
    )
    await results.show_again(job.id)
    await world.claims.decide(job.id, Outcome(kind="answer", sequence=1))
    with pytest.raises(Retry):
        await results.show_again(job.id)


async def test_dead_letter_of_another_service_is_told_to_the_user(world: World) -> None:
    job = await world.job()
    consumer = flow.RUNNER_JOB_READIED
    await job.store(flow.JOB_READIED, b"{}")
    inbox = await world.bus.js.pull_subscribe_bind(consumer.name, stream="PW_EVENTS")
    [message] = await inbox.fetch(1, timeout=5)

    async def refuse(_delivery: Delivery) -> None:
        raise Permanent("The base commit does not exist any more.", advice="Push it again.")

    await Deliveries(world.bus).process(message, consumer, refuse)
    assert (await job.finished()).result == "failure"
    [comment] = await job.comments()
    for part in ("The base commit does not exist any more.", "Push it again.", "set it again"):
        assert part in comment
    assert job.trace in comment
