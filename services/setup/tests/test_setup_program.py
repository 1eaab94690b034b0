"""`patchwright-setup` as its operator meets it: one link, plain refusals, a proper end."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import socket
import sys
import termios
from pathlib import Path

import httpx
import psutil
import pytest

from harness.nats import NatsServer
from harness.programs import Program, program
from patchwright_common.bus import Bus

from .double import vault_double
from .visitor import Visitor
from .world import LINK, READY

PROGRAM = "patchwright-setup"
EVERYWHERE = "0.0.0.0"  # noqa: S104


def settings(nats: NatsServer, **more: str) -> dict[str, str]:
    known = {"PATCHWRIGHT_SETUP_PORT": "0", "PATCHWRIGHT_LOG_LEVEL": "DEBUG"}
    return nats.environment("setup") | known | more


async def visitor(running: Program) -> tuple[Visitor, str]:
    await running.line(READY)
    origin, _, token = (await running.line(LINK))[1].partition("/start?token=")
    return Visitor(httpx.AsyncClient(base_url=origin, trust_env=False), origin), token


async def test_link_is_printed_once_and_never_logged(nats: NatsServer, bus: Bus) -> None:
    async with vault_double(bus), program(PROGRAM, environment=settings(nats)) as running:
        person, token = await visitor(running)
        async with person.client:
            page = await person.enter(token)
            assert "Create the GitHub App" in page.text
            await person.get("/callback?code=THECODE&state=THESTATE")
        assert await running.stop() == 0
    lines = [line for line in running.lines if token in line]
    assert len(lines) == 1
    assert re.search(LINK, lines[0])
    assert len(token) >= 43  # 256 bits
    logged = "\n".join(line for line in running.lines if line not in lines)
    for hidden in ("THECODE", "THESTATE", *person.client.cookies.values()):
        assert hidden not in logged


async def test_link_of_an_earlier_run_is_dead(nats: NatsServer, bus: Bus) -> None:
    async with vault_double(bus):
        async with program(PROGRAM, environment=settings(nats)) as earlier:
            first, token = await visitor(earlier)
            await first.client.aclose()
        async with program(PROGRAM, environment=settings(nats)) as running:
            person, _ = await visitor(running)
            async with person.client:
                assert (await person.enter(token)).status_code == 403


@pytest.mark.parametrize(("stay", "ends"), [("0", True), ("1", False)])
async def test_program_ends_after_the_last_page_unless_it_shall_stay(
    nats: NatsServer, bus: Bus, stay: str, ends: bool
) -> None:
    environment = settings(nats, PATCHWRIGHT_SETUP_STAY=stay)
    async with vault_double(bus) as vault, program(PROGRAM, environment=environment) as running:
        vault.holds("github-app", "webhook-secret", "model-key")
        person, token = await visitor(running)
        async with person.client:
            assert (await person.enter(token)).url.path == "/check"
            page = await person.post("/finish")
            assert page.url.path == "/done"
            assert ("Set-up ends now" in page.text) == ends
        await running.line("set-up is finished")
        if ends:
            assert await asyncio.wait_for(running.process.wait(), 20) == 0
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(running.process.wait(), 5)


async def test_enter_in_the_terminal_makes_a_new_link(nats: NatsServer, tmp_path: Path) -> None:
    controller, terminal = pty.openpty()
    output = tmp_path / "output"
    with output.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).parent / PROGRAM),
            env={"PATH": os.environ["PATH"], **settings(nats)},
            stdin=terminal,
            stdout=file,
            stderr=file,
            # A session of its own, which the terminal then belongs to.
            preexec_fn=lambda: (os.setsid(), _take(terminal)),
        )
    try:
        await _links(output, 1)
        os.write(controller, b"\n")
        old, new = await _links(output, 2)
        assert old != new
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(old)).status_code == 403
            assert (await client.get(new)).status_code == 200
    finally:
        process.kill()
        await process.wait()
        os.close(controller)
        os.close(terminal)


def _take(terminal: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


async def _links(output: Path, count: int) -> list[str]:
    async with asyncio.timeout(30):
        while len(found := re.findall(LINK, output.read_text())) < count:
            await asyncio.sleep(0.02)
    return [str(link) for link in found]


async def test_pages_behind_a_proxy_take_its_name_and_secure_their_cookie(
    nats: NatsServer, bus: Bus
) -> None:
    public = "https://setup.example.com"
    environment = settings(
        nats, PATCHWRIGHT_SETUP_PUBLIC_URL=f"{public}/", PATCHWRIGHT_SETUP_HOST=EVERYWHERE
    )
    async with vault_double(bus), program(PROGRAM, environment=environment) as running:
        link = (await running.line(LINK))[1]
        assert link.startswith(f"{public}/start?token=")
        async with httpx.AsyncClient(trust_env=False) as client:
            port = _port(running)
            answer = await client.post(
                f"http://127.0.0.1:{port}/start",
                data={"token": link.partition("token=")[2]},
                headers={"Host": "setup.example.com", "Origin": public},
            )
        assert answer.status_code == 303
        assert "secure" in answer.headers["set-cookie"].lower()


def _port(running: Program) -> int:
    [listening] = [
        c for c in psutil.Process(running.process.pid).net_connections() if c.status == "LISTEN"
    ]
    return int(listening.laddr.port)


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"PATCHWRIGHT_SETUP_HOST": EVERYWHERE}, "which others can reach"),
        ({"PATCHWRIGHT_SETUP_PUBLIC_URL": "http://setup.example.com"}, "https://"),
        ({"PATCHWRIGHT_SETUP_PUBLIC_URL": "https://setup.example.com/x"}, "without a path"),
        ({"PATCHWRIGHT_GITHUB_URL": "ftp://github.com"}, "PATCHWRIGHT_GITHUB_URL"),
        ({"PATCHWRIGHT_SETUP_PORT": "70000"}, "setup_port"),
    ],
)
async def test_mistake_of_the_operator_is_one_line(
    nats: NatsServer, environment: dict[str, str], reason: str
) -> None:
    async with program(PROGRAM, environment=settings(nats, **environment)) as running:
        assert await asyncio.wait_for(running.process.wait(), 20) == 1
    assert len(running.lines) == 1
    assert reason in running.lines[0]


async def test_taken_port_is_one_line(nats: NatsServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        environment = settings(nats, PATCHWRIGHT_SETUP_PORT=port)
        async with program(PROGRAM, environment=environment) as running:
            assert await asyncio.wait_for(running.process.wait(), 20) == 1
    # SO_REUSEADDR does not let two programs listen.
    assert f"Cannot listen on 127.0.0.1:{port}" in running.lines[0]
