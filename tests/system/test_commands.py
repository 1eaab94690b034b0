"""The commands behind `just`, as an operator meets them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.stack import FREE_PORTS, running_stack
from patchwright_local import state

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]
CANARY = "sk-canary-3f9c2b"


def _run(
    *command: str, home: Path, timeout: float = 60, **environment: str
) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.environ["PATH"], "HOME": str(home), "PATCHWRIGHT_HOME": str(home / "pw")}
    return subprocess.run(
        (str(BIN / command[0]), *command[1:]),
        env=clean | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def _belonging_to(home: Path) -> list[str]:
    """Command lines of processes that know this stack's folder or were started by it."""
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            environment = process.environ()
        except psutil.Error:
            continue
        if str(home) in command or str(home) in environment.get("PATCHWRIGHT_HOME", ""):
            found.append(command)
    return found


def _gone(home: Path, *, within: float) -> bool:
    deadline = time.monotonic() + within
    while _belonging_to(home):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def test_just_lists_every_task_with_a_sentence(tmp_path: Path) -> None:
    said = _run("just", home=tmp_path).stdout

    tasks = "up down demo test check flow topology logs doctor replay github model"
    for task in tasks.split():
        [line] = [row for row in said.splitlines() if row.split()[:1] == [task]]
        assert "# " in line


@pytest.mark.parametrize("sandbox", ["bubblewrap", "docker"])
def test_demo_ends_well_and_down_leaves_nothing(tmp_path: Path, sandbox: str) -> None:
    demo = _run("just", "demo", f"--sandbox={sandbox}", home=tmp_path, timeout=120, **FREE_PORTS)
    try:
        if demo.returncode and os.environ.get("CI") != "true" and "No sandbox works" in demo.stdout:
            pytest.skip(demo.stdout)
        assert demo.returncode == 0, demo.stdout + demo.stderr
        for words in ("model is scripted", "turn 1", "+++ b/greeting.py", "/pull/", "/trace/"):
            assert words in demo.stdout
    finally:
        down = _run("just", "down", home=tmp_path, **FREE_PORTS)
    assert down.returncode == 0
    assert _belonging_to(tmp_path) == []


def test_taken_port_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ports = FREE_PORTS | {"PATCHWRIGHT_INGEST_PORT": port}

        up = _run("patchwright", "up", home=tmp_path, **ports)

    assert up.returncode == 1
    [line] = up.stderr.strip().splitlines()
    assert port in line
    assert "PATCHWRIGHT_INGEST_PORT" in line


def test_app_without_its_key_is_one_line_that_names_what_is_missing(tmp_path: Path) -> None:
    up = _run("patchwright", "up", home=tmp_path, PATCHWRIGHT_GITHUB_APP_ID="1", **FREE_PORTS)

    assert up.returncode == 1
    [line] = up.stderr.strip().splitlines()
    assert "PATCHWRIGHT_GITHUB_PRIVATE_KEY_FILE" in line
    assert "PATCHWRIGHT_WEBHOOK_SECRET" in line


def test_missing_docker_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    up = _run(
        "patchwright", "up", "--sandbox=docker", home=tmp_path,
        DOCKER_HOST="unix:///nowhere.sock", **FREE_PORTS,
    )  # fmt: skip

    assert up.returncode == 1
    [line] = up.stderr.strip().splitlines()
    assert "docker" in line.lower()


@pytest.mark.parametrize("command", [("replay", "1"), ("topology",)])
def test_stack_that_is_down_is_one_line_that_says_what_to_do(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    said = _run("patchwright", *command, home=tmp_path, PATCHWRIGHT_NATS_PORT="9")

    assert said.returncode == 1
    assert "just up" in said.stderr.strip().splitlines()[-1]
    assert "Traceback" not in said.stderr


def test_demo_needs_no_way_out_where_a_proxy_is_set(tmp_path: Path) -> None:
    """Every part is on this machine, so a proxy that leads nowhere harms nothing."""
    proxy = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy"), "http://127.0.0.1:9")
    demo = _run("patchwright", "demo", home=tmp_path, timeout=120, **(FREE_PORTS | proxy))
    _run("patchwright", "down", home=tmp_path)

    assert demo.returncode == 0, demo.stdout + demo.stderr


def test_two_stacks_that_start_at_once_do_not_share_a_store(tmp_path: Path) -> None:
    folder = state.Folder(tmp_path / "pw")
    folder.make()
    with folder.held():
        up = _run("patchwright", "up", home=tmp_path, **FREE_PORTS)

    assert up.returncode == 1
    [line] = up.stderr.strip().splitlines()
    assert "try again" in line


def test_doctor_tells_what_is_set_and_prints_no_secret(tmp_path: Path) -> None:
    doctor = _run(
        "patchwright", "doctor", home=tmp_path,
        ANTHROPIC_API_KEY=CANARY,
        PATCHWRIGHT_GITHUB_APP_ID="1",
        PATCHWRIGHT_GITHUB_PRIVATE_KEY=CANARY,
        PATCHWRIGHT_WEBHOOK_SECRET=CANARY,
    )  # fmt: skip

    assert CANARY not in doctor.stdout + doctor.stderr
    for words in ("docker", "bubblewrap", "control groups", "user namespaces", "model key"):
        assert words in doctor.stdout


def test_second_up_says_that_one_runs_already(tmp_path: Path) -> None:
    with running_stack(tmp_path, "auto"):
        environment = {"PATCHWRIGHT_HOME": str(tmp_path / "home")}
        second = _run("patchwright", "up", home=tmp_path, **(FREE_PORTS | environment))

    assert second.returncode == 1
    assert "runs already" in second.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_behind(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C stops everything; even a supervisor that is killed takes its children along."""
    with running_stack(tmp_path, "auto") as stack:
        children = list(stack.processes().values())
        assert len(children) == 9
        os.kill(stack.at.pid, number)
        _, alive = psutil.wait_procs(children, timeout=30)

    assert alive == []
    assert _gone(tmp_path, within=10)


def test_services_hold_no_secret_but_the_vault(tmp_path: Path) -> None:
    key = "sk-ant-canary"
    with running_stack(tmp_path, "auto", ANTHROPIC_API_KEY=key) as stack:
        holders = [
            name
            for name, process in stack.processes().items()
            if key in " ".join(process.environ().values())
        ]
        log = stack.log()

    assert holders == ["vault"]
    assert key not in log
