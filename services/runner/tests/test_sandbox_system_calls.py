"""The filter: each of these would widen an attack on the kernel, and each is refused."""

from __future__ import annotations

import pytest

from patchwright_runner.sandbox.inside import seccomp
from patchwright_runner.sandbox.remote import RemoteBox

CALLS = {
    "new user namespace": ("unshare", "0x10000000"),
    "mount": ("mount", "0, 0, 0, 0, 0"),
    "trace another process": ("ptrace", "0, 0, 0, 0"),
    "kernel keyring": ("keyctl", "0, -3, 0"),
    "bpf": ("bpf", "0, 0, 0"),
    "performance events": ("perf_event_open", "0, 0, -1, -1, 0"),
    "userfaultfd": ("userfaultfd", "0"),
    "kernel module": ("init_module", "0, 0, 0"),
    "open by handle": ("open_by_handle_at", "0, 0, 0"),
}


def _attempt(number: str, arguments: str) -> str:
    return (
        'python3 -c "import ctypes; c = ctypes.CDLL(None, use_errno=True); '
        f'print(c.syscall({number}, {arguments}), ctypes.get_errno())"'
    )


def _numbers(name: str) -> str:
    """The number in the table for the machine that runs the command."""
    pair = {**seccomp._DENIED, **seccomp._ABSENT}[name]
    return f"{{'x86_64': {pair[0]}, 'aarch64': {pair[1]}}}[__import__('platform').machine()]"


@pytest.mark.parametrize("what", CALLS)
async def test_dangerous_call_is_refused(box: RemoteBox, what: str) -> None:
    name, arguments = CALLS[what]
    result = await box.run(_attempt(_numbers(name), arguments), timeout=10)
    assert result.output == "-1 1\n"


@pytest.mark.parametrize("name", ["clone3", "io_uring_setup"])
async def test_call_that_cannot_be_checked_seems_absent(box: RemoteBox, name: str) -> None:
    assert (await box.run(_attempt(_numbers(name), "0, 0"), timeout=10)).output == "-1 38\n"


async def test_new_namespace_by_clone_is_refused(box: RemoteBox) -> None:
    number = "{'x86_64': 56, 'aarch64': 220}[__import__('platform').machine()]"
    result = await box.run(_attempt(number, "0x10000011, 0, 0, 0, 0"), timeout=10)
    assert result.output == "-1 1\n"
    assert (await box.run("unshare --user true", timeout=10)).exit_code != 0


async def test_typing_into_a_terminal_is_refused(box: RemoteBox) -> None:
    script = (
        "import fcntl, os, pty; m, s = pty.openpty(); fcntl.ioctl(s, 0x5412, b'x'); print('typed')"
    )
    result = await box.run(f'python3 -c "{script}"', timeout=10)
    assert "PermissionError" in result.output


@pytest.mark.parametrize(("family", "number"), [("vsock", 40), ("alg", 38), ("packet", 17)])
async def test_socket_family_is_refused(box: RemoteBox, family: str, number: int) -> None:
    script = f"import socket; socket.socket({number}, socket.SOCK_STREAM); print('{family} opened')"
    result = await box.run(f'python3 -c "{script}"', timeout=10)
    assert "opened" not in result.output
    assert result.exit_code == 1


async def test_threads_processes_and_sockets_still_work(box: RemoteBox) -> None:
    script = (
        "import threading, subprocess, socket, multiprocessing.pool as p; "
        "t = threading.Thread(target=print, args=('thread',)); t.start(); t.join(); "
        "subprocess.run(['echo', 'process']); socket.socketpair(); "
        "socket.socket(socket.AF_INET6); print('sockets')"
    )
    result = await box.run(f'python3 -u -c "{script}"', timeout=20)
    assert result.output.split() == ["thread", "process", "sockets"]


def test_program_is_made_for_both_machines() -> None:
    for machine in ("x86_64", "aarch64"):
        assert len(seccomp.program(machine)) % 8 == 0
