"""The program, as a person or a supervisor starts it."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx

COMMAND = (sys.executable, "-m", "patchwright_traces.main")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], check=False, capture_output=True, text=True, timeout=30
    )


def test_it_says_its_address_when_it_is_ready_and_ends_when_told(tmp_path: Path) -> None:
    database = tmp_path / "new" / "traces.db"
    arguments = [*COMMAND, "--port", "0", "--database", str(database)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        ready = re.fullmatch(r"patchwright-traces ready on (http://127\.0\.0\.1:\d+)\n", line)
        assert ready
        assert httpx.get(f"{ready[1]}/healthz", timeout=5).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) in (0, -signal.SIGTERM)
    assert database.exists()


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run("--port", port, "--database", str(tmp_path / "traces.db"))

    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert f"127.0.0.1:{port}: Address already in use" in ended.stderr


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "traces.db").write_text("something else" * 100)

    ended = run("--port", "0", "--database", str(tmp_path / "traces.db"))

    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "file is not a database" in ended.stderr
