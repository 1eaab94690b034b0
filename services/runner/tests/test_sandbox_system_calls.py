"""The filter lets through what programs need. `tests/attacks/box` has what it refuses."""

from __future__ import annotations

from patchwright_runner.sandbox.inside import seccomp
from patchwright_runner.sandbox.remote import RemoteBox


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
