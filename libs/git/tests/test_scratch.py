"""What a killed process left in the temporary folder is removed, and nothing else."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from patchwright_git import scratch

MAKE = (
    "import sys; from patchwright_git.scratch import scratch\n"
    "with scratch('model') as folder:\n"
    "    (folder / 'secret').write_text('x'); print(folder, flush=True); sys.stdin.read()\n"
)


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder of the test's own, with a short name."""
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.setattr(tempfile, "tempdir", name)
        monkeypatch.setattr(scratch, "_SHORT", name)
        yield Path(name)


def aged(folder: Path) -> None:
    os.utime(folder, (1, 1))


def test_folder_is_private_and_gone_afterwards() -> None:
    with scratch.scratch("model") as folder:
        assert folder.stat().st_mode & 0o077 == 0
        aged(folder)
        assert scratch.sweep() == 0
    assert not folder.exists()


def test_what_a_killed_process_left_is_removed(place: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", MAKE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(place)},
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        aged(folder)
        assert scratch.sweep() == 0, "it is alive"
        process.kill()
    assert (folder / "secret").exists()
    aged(folder)
    assert scratch.sweep() == 1
    assert not folder.exists()


def test_fresh_folders_links_and_others_are_left(place: Path) -> None:
    (place / "patchwright-run-fresh").mkdir()
    (place / "other").mkdir()
    aged(place / "other")
    (place / "patchwright-run-link").symlink_to(place / "other")
    assert scratch.sweep() == 0
    assert (place / "other").exists()


async def test_what_is_too_fresh_at_the_start_is_removed_later(place: Path) -> None:
    left = place / "patchwright-run-left"
    left.mkdir()
    async with scratch.swept(pause=0.02):
        await asyncio.sleep(0.1)
        assert left.exists()
        aged(left)
        async with asyncio.timeout(5):
            while left.exists():
                await asyncio.sleep(0.01)
