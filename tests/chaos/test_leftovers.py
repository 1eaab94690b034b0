"""What the search for leftovers finds."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from patchwright_git import scratch

from .crew import Crew
from .leftovers import abandoned, leftovers, orphans


@pytest.fixture
def crew(tmp_path: Path) -> Crew:
    (tmp_path / "tmp").mkdir()
    stack: Any = SimpleNamespace(ports=SimpleNamespace(nats=1))
    return Crew(stack, SimpleNamespace(), tmp_path)  # type: ignore[arg-type]


def test_process_whose_service_is_gone_is_found(crew: Crew) -> None:
    started = subprocess.run(
        ["sh", "-c", "sleep 60 > /dev/null 2>&1 & echo $$ $!"],
        capture_output=True, text=True, check=True, start_new_session=True,
    )  # fmt: skip
    session, orphan = map(int, started.stdout.split())
    assert orphans(crew) == []
    crew.sessions.add(session)
    try:
        assert [line.split()[1] for line in orphans(crew)] == [str(orphan)]
    finally:
        os.kill(orphan, signal.SIGKILL)


def test_process_of_a_living_service_is_no_orphan_but_left_after_the_stop(crew: Crew) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as service:
        crew.sessions.add(service.pid)
        assert orphans(crew) == []
        assert [line.split()[1] for line in leftovers(crew)] == [str(service.pid)]
        service.kill()
    assert leftovers(crew) == []


def test_temporary_folder_is_left_and_abandoned_without_its_owner(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(crew.temporary))
    monkeypatch.setattr(scratch, "_SHORT", str(crew.temporary))
    with scratch.scratch("test") as folder:
        assert abandoned(crew.temporary) == []
        assert leftovers(crew) == [f"temporary {folder}"]
    (crew.temporary / "dead").mkdir()
    assert abandoned(crew.temporary) == [crew.temporary / "dead"]


def test_half_made_mirror_is_left(crew: Crew) -> None:
    half = crew.root / "home" / "runner-2" / "mirrors" / "1.git.new-x"
    half.mkdir(parents=True)
    assert leftovers(crew) == [f"half-made {half}"]
