"""The repository's own commands: set-up before the agent, verification after it."""

from __future__ import annotations

import pytest

from harness.boxes import BACKENDS
from harness.boxes import working as usable
from patchwright_common.errors import Permanent
from patchwright_common.events import Verification
from patchwright_runner import verification
from patchwright_runner.agent.protocol import Observer
from patchwright_runner.repository_config import PATH
from patchwright_runner.sandbox.protocol import Sandbox

from .runner_at_work import Bench

VERIFY = "verify: [test ! -e broken, grep -q good result.txt]\n"


@pytest.fixture
async def working(bench: Bench, runner_id: str) -> Bench:
    """In a real box; any backend does."""
    bench.backend = await usable("bubblewrap", BACKENDS["bubblewrap"](runner_id))
    return bench


async def requested(bench: Bench, config: str) -> None:
    (bench.origin.path / ".github").mkdir()
    bench.base = bench.origin.commit(PATH, config)
    await bench.request()


def writing(*texts: str):  # type: ignore[no-untyped-def]
    """An agent that writes the next text in each round."""
    left = list(texts)

    async def act(_observer: Observer, box: Sandbox) -> None:
        await box.run(f"echo {left.pop(0)} > result.txt", timeout=60)

    return act


async def test_change_that_passes_says_so(working: Bench) -> None:
    await requested(working, VERIFY)
    await working.work(writing("good"))
    change = await working.change()
    assert change is not None
    commands = ("test ! -e broken", "grep -q good result.txt")
    assert change.verification == Verification(commands=commands)
    assert working.feedback == [""]


async def test_failure_goes_back_to_the_agent(working: Bench) -> None:
    await requested(working, "verify: 'cat result.txt; grep -q good result.txt'\n")
    await working.work(writing("bad", "good"))
    change = await working.change()
    assert change is not None
    assert change.verification is not None
    assert (change.verification.failed, change.verification.rounds) == ("", 1)
    first, second = working.feedback
    assert first == ""
    assert "exit code 1" in second
    assert "bad" in second
    assert change.spent.dollars == 0.5


async def test_last_failure_goes_with_the_change(working: Bench) -> None:
    await requested(working, VERIFY + "verify_rounds: 1\n")
    await working.work(writing("bad", "worse"))
    change = await working.change()
    assert change is not None
    assert change.verification is not None
    assert change.verification.failed == "grep -q good result.txt"
    assert change.verification.ending == "ended with exit code 1"
    assert change.verification.rounds == 1


async def test_what_the_verification_leaves_is_no_part_of_the_change(working: Bench) -> None:
    await requested(working, "verify: echo x > left-behind\n")
    await working.work(writing("good"))
    change = await working.change()
    assert change is not None
    assert [file.path for file in change.files] == ["result.txt"]


async def test_what_a_failed_verification_leaves_is_undone_before_the_agent_goes_on(
    working: Bench,
) -> None:
    leaves = (
        "mkdir out; echo x > out/new; echo x > kept.txt; rm changed.txt; echo bad >> result.txt"
    )
    await requested(working, f"verify: 'cp result.txt copy; {leaves}; grep -q good copy'\n")
    seen = []

    async def act(_observer: Observer, box: Sandbox) -> None:
        seen.append((await box.run("git status --short; cat result.txt", timeout=60)).output)
        await box.run(f"echo {'good' if len(seen) > 1 else 'first'} > result.txt", timeout=60)

    await working.work(act)
    assert seen[1] == "?? result.txt\nfirst\n"
    change = await working.change()
    assert change is not None
    assert [file.path for file in change.files] == ["result.txt"]


async def test_round_that_cannot_be_done_does_not_cost_the_change(working: Bench) -> None:
    await requested(working, VERIFY)

    async def act(_observer: Observer, box: Sandbox) -> None:
        if working.feedback[-1]:
            raise Permanent("The budget is used up.")
        await box.run("echo bad > result.txt", timeout=60)

    await working.work(act)
    change = await working.change()
    assert change is not None
    assert change.verification is not None
    assert change.verification.failed == "grep -q good result.txt"


async def test_verifications_have_an_end_together(
    working: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification.Patience, "__init__", lambda self: setattr(self, "left", 3.0))
    await requested(working, "verify: [sleep 2, sleep 2, sleep 2]\nverify_rounds: 0\n")
    await working.work(writing("good"))
    change = await working.change()
    assert change is not None
    assert change.verification is not None
    assert change.verification.failed == "sleep 2"
    assert "did not end within" in change.verification.ending


async def test_answer_is_not_verified(working: Bench) -> None:
    await requested(working, "verify: 'false'\n")
    await working.work()
    assert working.feedback == [""]
    assert await working.change() is None


async def test_set_up_runs_before_the_agent(working: Bench) -> None:
    await requested(working, "setup: [mkdir build, echo ready > build/done]\n")
    seen = []

    async def act(_observer: Observer, box: Sandbox) -> None:
        seen.append((await box.run("cat build/done", timeout=60)).output)

    await working.work(act)
    assert seen == ["ready\n"]


async def test_set_up_that_fails_is_told_with_its_output(working: Bench) -> None:
    await requested(working, "setup: 'echo no such package; exit 3'\n")
    with pytest.raises(Permanent) as refused:
        await working.work()
    assert "exit code 3" in refused.value.reason
    assert refused.value.details == "    no such package"
    assert "egress" in refused.value.advice
    assert working.used == []


async def test_configuration_that_makes_no_sense_is_told(working: Bench) -> None:
    await requested(working, "verfy: x\n")
    with pytest.raises(Permanent, match="line 1: `verfy` is not known"):
        await working.work()


async def test_set_up_runs_once_for_jobs_on_the_same_base(working: Bench) -> None:
    await requested(working, "setup: mkdir build && date +%N > build/stamp\n")
    seen = []

    async def act(_observer: Observer, box: Sandbox) -> None:
        seen.append((await box.run("cat build/stamp", timeout=60)).output)

    await working.work(act)
    working.job_id = "7-2-issue-2"
    await working.request()
    await working.work(act)
    assert len(seen) == 2
    assert seen[0] == seen[1]
