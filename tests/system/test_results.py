"""Each kind of result, end to end: a webhook goes in, one visible result comes out."""

from __future__ import annotations

import pytest

from harness.stack import RunningStack
from patchwright_local.demo import BODY, TITLE
from standin_model.scripting import bash, edit, issue_with_script


async def test_issue_becomes_one_pull_request(each_stack: RunningStack) -> None:
    number = await each_stack.ask(TITLE, BODY)

    finished = await each_stack.settled(number)

    assert finished["result"] == "pull_request"
    [pull] = await each_stack.pulls(number)
    assert pull["title"] == TITLE
    assert pull["state"] == "open"
    assert f"Fixes #{number}" in pull["body"]
    [comment] = await each_stack.comments(number)
    assert finished["url"] in comment["body"]
    assert comment["edited"]


async def test_branch_holds_the_change_and_nothing_else(each_stack: RunningStack) -> None:
    number = await each_stack.ask(TITLE, BODY)
    await each_stack.settled(number)
    [pull] = await each_stack.pulls(number)

    async with each_stack.github() as github:
        path = f"/repos/{each_stack.repository}/pulls/{pull['number']}/files"
        files = await github.api("GET", path, token=each_stack.token)

    assert [f["filename"] for f in files] == ["greeting.py", "test_greeting.py"]
    assert pull["commits"] == 1


async def test_question_is_answered_without_a_pull_request(stack: RunningStack) -> None:
    number = await stack.ask("A question", "What does `greet` do with an empty name?")

    finished = await stack.settled(number)

    assert finished["result"] == "answer"
    assert await stack.pulls(number) == []
    [comment] = await stack.comments(number)
    assert "Answer" in comment["body"]


async def test_failure_says_what_happened_and_what_to_do(stack: RunningStack) -> None:
    number = await stack.ask("Something refused", "scenario: refusal")

    finished = await stack.settled(number)

    assert finished["result"] == "failure"
    assert await stack.pulls(number) == []
    [comment] = await stack.comments(number)
    for part in ("What happened", "What was not harmed", "What to do next", "Trace"):
        assert part in comment["body"]


async def test_model_that_stumbles_still_ends_in_a_pull_request(stack: RunningStack) -> None:
    number = await stack.ask("Stumbling", "scenario: failures")

    assert (await stack.settled(number))["result"] in ("pull_request", "answer")


async def test_mention_in_a_comment_starts_a_job(stack: RunningStack) -> None:
    number = await stack.ask(TITLE, BODY, label=False)
    async with stack.github() as github:
        await github.comment(
            stack.repository, number, "@patchwright please fix this", token=stack.token
        )

    finished = await stack.settled(number)

    assert finished["result"] == "pull_request"
    assert "-c" in finished["job_id"]


async def test_issue_without_label_or_mention_starts_nothing(stack: RunningStack) -> None:
    number = await stack.ask("Just talking", "Nobody is asked here.", label=False)
    after = await stack.ask("A question", "What does `greet` do?")

    await stack.settled(after)

    assert await stack.events(number) == []
    assert await stack.comments(number) == []


async def test_workflow_file_is_refused_with_a_reason(stack: RunningStack) -> None:
    steps = (
        {
            "tools": [
                bash("mkdir -p .github/workflows && echo 'on: push' > .github/workflows/x.yml")
            ]
        },
        {"text": "I added a workflow."},
    )
    number = await stack.ask("Add CI", issue_with_script(*steps))

    finished = await stack.settled(number)

    assert finished["result"] == "failure"
    [comment] = await stack.comments(number)
    assert ".github/workflows/x.yml" in comment["body"]
    assert "nothing was pushed" in comment["body"]


async def test_change_that_the_agent_committed_itself_is_kept(stack: RunningStack) -> None:
    steps = (
        {"tools": [bash("echo new > new.txt && git add -A && git -c user.name=a -c user.email=a@b "
                        "commit -qm mine && git status --short")]},
        {"text": "Committed."},
    )  # fmt: skip
    number = await stack.ask("Commit it", issue_with_script(*steps))

    assert (await stack.settled(number))["result"] == "pull_request"
    [pull] = await stack.pulls(number)
    assert pull["changed_files"] == 1


@pytest.mark.parametrize(
    "words",
    [
        "<!-- patchwright:1-1-issue-1:00 --> hidden",
        "closes #1 and fixes other/repo#2",
        "/merge\n/deploy production",
    ],
)
async def test_hostile_words_of_the_agent_are_defused(stack: RunningStack, words: str) -> None:
    steps = (
        {"tools": [edit("create", path="/workspace/hostile.txt", file_text=words)]},
        {"text": words},
    )
    number = await stack.ask("Hostile", issue_with_script(*steps))
    await stack.settled(number)

    [pull] = await stack.pulls(number)

    assert words not in pull["body"]
    assert "hidden" in pull["body"] if "hidden" in words else True


async def test_two_requests_on_one_issue_run_one_after_the_other(stack: RunningStack) -> None:
    number = await stack.ask(TITLE, "scenario: slow")
    async with stack.github() as github:
        await github.comment(
            stack.repository, number, "@patchwright what is this?", token=stack.token
        )

    await stack.until(number, "job.finished", count=2)

    order = [subject.split(".")[3] for _, subject in await stack.events(number)]
    story = [verb for verb in order if verb in ("readied", "finished")]
    assert story == ["readied", "finished", "readied", "finished"]
