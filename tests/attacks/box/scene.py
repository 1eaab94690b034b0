"""The machine around the box: a runner with a secret, its files and everything that listens."""

from __future__ import annotations

import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

CANARY = "canary-"
"""What a secret begins with. Attacks are told only what follows, so that no echo looks like one."""

EVERYWHERE = "0.0.0.0"  # noqa: S104 - the attack comes by an address that is not loopback's


@contextmanager
def scene(folder: Path) -> Iterator[dict[str, str]]:
    """Variables that tell an attack where things are, while they are there."""
    token = secrets.token_hex(8)
    (folder / "secret").write_text(CANARY + token)
    with ExitStack() as stack:
        environment = {"SECRET": CANARY + token}
        runner = subprocess.Popen(["sleep", f"600.{int(token, 16)}"], env=environment)
        stack.callback(runner.wait)
        stack.callback(runner.kill)
        address = _address()
        tcp = stack.enter_context(_listening(socket.AF_INET, (EVERYWHERE, 0)))
        tcp6 = stack.enter_context(_listening(socket.AF_INET6, ("::1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind((EVERYWHERE, 0))
        stack.enter_context(_listening(socket.AF_UNIX, str(folder / "engine.sock")))
        stack.enter_context(_listening(socket.AF_UNIX, f"\0{token}"))
        yield {
            "TOKEN": token,
            "SLEEPS": f"600.{int(token, 16)}",
            "HOST": str(folder),
            "RUNNER": str(runner.pid),
            "ADDRESS": address,
            "TCP": str(tcp.getsockname()[1]),
            "TCP6": str(tcp6.getsockname()[1]),
            "UDP": str(udp.getsockname()[1]),
        }


@contextmanager
def _listening(family: int, address: object) -> Iterator[socket.socket]:
    """Nobody accepts: being connected is all that an attack needs."""
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind(address)
        listener.listen(64)
        yield listener


def _address() -> str:
    """One of this machine that is not its loopback's, if it has any; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
