"""A small load run: every delivery is accounted for, and memory does not grow with them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_load_run_accounts_for_every_delivery() -> None:
    command = [sys.executable, "-m", "tests.bench.ingest", "--deliveries", "500"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every one stored once" in done.stdout
    for name in ("ingest", "triage"):
        [times] = re.findall(rf"{name}: .* ([\d.]+) times that after", done.stdout)
        assert float(times) < 1.5
