"""Every service's clock a minute off, some ahead and some behind: one result each, and retries."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.stack import RunningStack, require
from standin_model.scripting import bash, issue_with_script

from .crew import crew
from .skewed import command

MINUTE = 60.0
AHEAD = ("ingest", "vault", "runner-2", "publisher")
BEHIND = ("triage", "runner", "publisher-2")
SCRIPT = issue_with_script({"tools": [bash("echo one > one.txt")]}, {"text": "A file is new."})


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder with a short name: sockets lie in it."""
    path = Path(tempfile.mkdtemp(prefix="pw-clocks-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


async def test_clocks_that_are_a_minute_off_change_nothing(root: Path) -> None:
    await require("bubblewrap")
    wrong = {
        name: command(name.removesuffix("-2"), seconds)
        for names, seconds in ((AHEAD, MINUTE), (BEHIND, -MINUTE))
        for name in names
    }
    async with crew(root, "bubblewrap", "1", wrong) as hands:
        stack = hands.at
        numbers = [await stack.ask(f"Clocks {n}", SCRIPT) for n in range(4)]
        for number in numbers:
            finished = await stack.until(number, "job.finished", timeout=90)
            assert finished["result"] == "pull_request"
            assert len(await stack.pulls(number)) == 1
            assert len(await stack.comments(number)) == 1

        # Whether a request is a new one is told by GitHub's clock alone, at both ends.
        await _ask_again(stack, numbers[0])
        await stack.until(numbers[0], "job.finished", count=2, timeout=90)
        assert len(await stack.comments(numbers[0])) == 2
        assert len(await stack.pulls(numbers[0])) == 2
    said = stack.log()
    assert "Traceback" not in said


async def _ask_again(stack: RunningStack, number: int) -> None:
    async with stack.github() as github:
        await github.unlabel(stack.repository, number, "patchwright", token=stack.token)
        await github.label(stack.repository, number, "patchwright", token=stack.token)
