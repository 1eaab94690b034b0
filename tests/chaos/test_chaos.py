"""A short run of `just chaos`, and that it would notice what it looks for."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.stack import require

from .broken import command
from .crew import crew
from .plan import SERVERS, SERVICES, make_plan
from .run import Run

ISSUES, SECONDS, SEED = 60, 40.0, 11
# This seed strikes each service once at least.
PATIENCE = 300.0


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A folder with a short name: sockets lie in it. What was logged stays as pytest's."""
    path = Path(tempfile.mkdtemp(prefix="pw-chaos-"))
    yield path
    for folder in path.glob("**/logs"):
        shutil.copytree(folder, tmp_path / "logs", dirs_exist_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def test_same_seed_gives_the_same_plan_and_another_another() -> None:
    plan = make_plan(7, 100, 60, "3")

    assert make_plan(7, 100, 60, "3") == plan
    assert make_plan(8, 100, 60, "3").digest != plan.digest
    assert make_plan(7, 20, 60, "3").strikes == plan.strikes


def test_plan_ends_in_time_and_strikes_everything_in_both_ways() -> None:
    plan = make_plan(7, 100, 600, "3")

    assert all(strike.at + strike.seconds <= 600 for strike in plan.strikes)
    struck = {(strike.target, strike.how) for strike in plan.strikes}
    assert struck == {(t, h) for t in (*SERVICES, *SERVERS["3"]) for h in ("kill", "pause")}
    assert {request.asks for request in plan.requests} == {"pull_request", "answer", "failure"}
    assert any(request.passage.copies > 1 for request in plan.requests)


@pytest.mark.timeout(SECONDS + PATIENCE + 120)
async def test_every_issue_has_one_result_after_everything_was_killed_and_paused(
    root: Path,
) -> None:
    await require("bubblewrap")
    plan = make_plan(SEED, ISSUES, SECONDS, "3")
    async with crew(root, "bubblewrap", "3") as hands:
        ended = await Run(plan, hands, patience=PATIENCE, redeliver=False).run()

    assert ended.complaints == []
    assert ended.tally.kinds.total() == ISSUES


@pytest.mark.timeout(180)
async def test_publisher_that_forgets_its_comments_is_noticed(root: Path) -> None:
    """The count has to fail where the product does. GitHub's answers are lost, and no more."""
    await require("bubblewrap")
    plan = make_plan(SEED, 4, 8.0, "1", calm=True)
    instead = {"publisher": command("never-searches")}
    async with crew(root, "bubblewrap", "1", instead) as hands:
        ended = await Run(plan, hands, patience=90, redeliver=True).run()

    assert ended.settled
    assert any(line.endswith(" comments") for line in ended.complaints), ended
