"""Attacks on what the machine has: processes, memory, disk, descriptors, time, the log."""

from __future__ import annotations

import dataclasses
import subprocess

import pytest

from harness.boxes import LIMITS, MIB
from patchwright_runner.sandbox.protocol import Backend
from patchwright_runner.sandbox.remote import RemoteBox

from .attack import WORKED, Attack, against, named, python
from .unprotected import Unprotected

MANY = 200
"""More processes than a box may have, fewer than would trouble a machine."""
MUCH = 256 * MIB
"""More than the box's memory."""


@dataclasses.dataclass(frozen=True)
class Exhaustion(Attack):
    """`together`: of all processes and files, which only a control group bounds."""

    together: bool = False


EXHAUSTION = (
    Exhaustion(
        "fork bomb",
        "pids limit of the control group (RLIMIT_NPROC where there is none)",
        python(f"""
children = []
try:
    for _ in range({MANY}):
        pid = os.fork()
        if pid == 0:
            signal.pause()
            os._exit(0)
        children.append(pid)
    worked()
finally:
    for pid in children:
        os.kill(pid, signal.SIGKILL)
"""),
    ),
    Exhaustion(
        "thread bomb",
        "pids limit of the control group (RLIMIT_NPROC where there is none)",
        python(f"""
import threading
end = threading.Event()
threads = [threading.Thread(target=end.wait, daemon=True) for _ in range({MANY})]
try:
    for thread in threads:
        thread.start()
    worked()
finally:
    end.set()
"""),
    ),
    Exhaustion(
        "memory of a process",
        "memory limit of the control group, commands first to be killed (else RLIMIT_DATA)",
        python(f"block = bytearray(b'x') * {MUCH}\nworked()"),
    ),
    Exhaustion(
        "memory of many processes",
        "memory limit of the control group for all of them together",
        python(f"""
children = []
for _ in range(8):
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        block = bytearray(b"x") * ({MUCH} // 8)
        theirs.send(b"full")
        theirs.send(theirs.recv(9))
        signal.pause()
    theirs.close()
    children.append((pid, ours))
full = [ours.recv(9) for _, ours in children]
if all(full):
    for _, ours in children:
        ours.send(b"still there?")
    full = [ours.recv(99) for _, ours in children]
for pid, _ in children:
    os.kill(pid, signal.SIGKILL)
if all(full):
    worked()
"""),
        together=True,
    ),
    Exhaustion(
        "memory in files without a name",
        "memory limit of the control group, which counts them",
        python(f"""
descriptor = os.memfd_create("block")
for _ in range({MUCH} // 2**20):
    os.write(descriptor, b"x" * 2**20)
worked()
"""),
        together=True,
    ),
    Exhaustion(
        "disk",
        "read-only root; memory file systems of a fixed size, counted as memory",
        python("""
size = 0
for place in (".", os.environ["HOME"], os.environ.get("TMPDIR", "."), "/dev/shm", "/run", "/var"):
    try:
        with open(f"{place}/filling", "wb") as file:
            for _ in range(160):
                os.posix_fallocate(file.fileno(), 0, file.seek(2**20, 1))
                size += 2**20
                if size == 160 * 2**20:
                    worked()
                    break
    except OSError:
        pass
    finally:
        if os.path.exists(f"{place}/filling") and size == 160 * 2**20:
            os.unlink(f"{place}/filling")
    if size == 160 * 2**20:
        break
"""),
    ),
    Exhaustion(
        "sparse file",
        "RLIMIT_FSIZE",
        python("os.truncate(os.open('sparse', os.O_CREAT | os.O_RDWR), 2**40)\nworked()"),
    ),
    Exhaustion(
        "inodes",
        "memory limit of the control group, which counts them",
        python("""
for number in range(100_000):
    os.mknod(f"f{number}")
worked()
"""),
        limits=dataclasses.replace(LIMITS, memory_bytes=64 * MIB),
        together=True,
    ),
    Exhaustion(
        "open files",
        "RLIMIT_NOFILE",
        python("""
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(5000)]
worked()
"""),
    ),
)


@against(*EXHAUSTION)
async def test_box_bounds(
    attack: Exhaustion, backend: Backend, box: RemoteBox, unprotected: Unprotected
) -> None:
    if attack.together and getattr(backend, "_groups", True) is None:
        pytest.skip("no writable control groups here: a limit that ATTACKS.md names")
    assert WORKED in unprotected.attacked(attack)
    assert WORKED not in (await box.run(attack.command, timeout=60)).output
    assert (await box.run("echo alive", timeout=30)).output == "alive\n"


@named("unbounded fork bomb", "pids limit; everything in the box is killed at the time limit")
async def test_box_survives_an_unbounded_fork_bomb(box: RemoteBox) -> None:
    """Nowhere else but in the box: what it does unprotected is well known."""
    result = await box.run("bomb() { bomb | bomb & }; bomb; sleep 60", timeout=2)
    assert result.duration < 30
    assert (await box.run("echo alive", timeout=30)).output == "alive\n"


@named("output flood", "the first and last half of a limit are kept inside the box")
async def test_output_flood_does_not_reach_the_runner(
    box: RemoteBox, unprotected: Unprotected
) -> None:
    flood = "echo first; yes flood | head -c 24000000; echo last"
    assert len(unprotected.run(flood)) > 24_000_000
    result = await box.run(flood, timeout=60)
    assert result.truncated
    assert result.output.startswith("first\nflood\n")
    assert result.output.endswith("flood\nlast\n")
    assert len(result.output) < LIMITS.output_bytes + 100


STAYING = (
    Attack(
        "endless run",
        "time limit of each command, kept by the box's first process",
        "sleep 600",
    ),
    Attack(
        "ignored SIGTERM",
        "SIGKILL to every process of the box after a grace period",
        "trap '' TERM HUP INT; while :; do sleep 0.1; done",
    ),
    Attack(
        "flood of signals at the first process",
        "signals to process 1 cost it nothing that others do not pay; the clock is its own",
        "trap '' TERM ALRM; while :; do kill -ALRM 1; kill -CHLD 1; done 2> /dev/null",
    ),
)


@against(*STAYING)
async def test_box_ends(attack: Attack, box: RemoteBox) -> None:
    with subprocess.Popen(["bash", "-c", attack.command.replace(" 1;", " $$;")]) as alone:
        with pytest.raises(subprocess.TimeoutExpired):
            alone.wait(0.5)
        alone.kill()
    result = await box.run(attack.command, timeout=0.5)
    assert (result.timed_out, result.exit_code) == (True, None)
    assert result.duration < 30
    assert (await box.run("echo alive", timeout=30)).output == "alive\n"
