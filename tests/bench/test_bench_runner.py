"""The bench runs, on a repository that takes no time; its figures are for people to look at."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from patchwright_runner.sandbox.bubblewrap import BubblewrapBackend

ROOT = Path(__file__).parents[2]
TINY = "--files 20 --commits 2 --changed 2 --rounds 1 --idle 1 --jobs 2 --delay 0"


@pytest.fixture
async def _bubblewrap() -> None:
    availability = await BubblewrapBackend("bench").available()
    if not availability.ok and os.environ.get("CI") != "true":
        pytest.skip(availability.detail)


@pytest.mark.usefixtures("_bubblewrap")
def test_bench_of_the_runner_measures_everything(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.bench.runner", "--sandbox", "bubblewrap"]
    done = subprocess.run(
        [*command, *TINY.split(), "--cache", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 changes, 0 failures" in done.stdout
    assert "/ git clone --depth=1:" in done.stdout
