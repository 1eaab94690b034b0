"""The program `standin-model`, run as a user runs it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anthropic import Anthropic

COMMAND = [sys.executable, "-c", "from standin_model.main import main; main()"]


@contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline()
        finally:
            process.kill()


def test_prints_its_address_once_it_is_ready(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-from-a-file\n")

    with started("--port", "0", "--key-file", str(tmp_path / "key")) as (process, line):
        url = line.removeprefix("standin-model ready at ").strip()
        with Anthropic(api_key="sk-from-a-file", base_url=url, timeout=10) as client:
            assert client.models.list().data
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0

    assert "sk-" not in line


def test_makes_a_key_when_none_is_given() -> None:
    with started() as (_, line):
        url, key = line.removeprefix("standin-model ready at ").strip().split(" with key ")
        with Anthropic(api_key=key, base_url=url, timeout=10) as client:
            assert client.models.list().data


def test_taken_port_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [*COMMAND, "--port", port], capture_output=True, text=True, timeout=20, check=False
        )

    assert ended.returncode == 1
    assert ended.stderr.startswith("standin-model: ")
    assert len(ended.stderr.splitlines()) == 1
