"""Attacks that want to stay: what a command leaves running, and who else can be signalled."""

from __future__ import annotations

import asyncio
import signal
import subprocess

from harness.boxes import LIMITS
from patchwright_runner.sandbox.protocol import Backend, BoxSpec
from patchwright_runner.sandbox.remote import RemoteBox

from .attack import WORKED, Attack, against, exports, named, python
from .unprotected import Unprotected

_ALL_DIE = "one signal to everyone in the PID namespace, repeated until nobody is left"
_STAY = "exec -a survivor-$TOKEN sleep 600"
_LOOK = "grep -qs ^survivor-$TOKEN /proc/[0-9]*/cmdline"
_WAIT = f"\nuntil {_LOOK}; do sleep 0.01; done"
_TELL = f"{_LOOK} && echo the attack 'worked'"

_CHAIN = """
[ $1 -lt 3000 ] && setsid -f bash -c "exec -a survivor-$TOKEN bash chain $(($1 + 1))"
"""
"""Each process starts the next one and ends; ended by itself where nothing else does."""

SURVIVORS = (
    Attack("background process", _ALL_DIE, f"({_STAY}) &{_WAIT}", then=_TELL),
    Attack(
        "process of another session", _ALL_DIE, f"setsid -f bash -c '{_STAY}'{_WAIT}", then=_TELL
    ),
    Attack(
        "process that ignores hangup",
        _ALL_DIE,
        f"nohup bash -c '{_STAY}' > /dev/null & disown{_WAIT}",
        then=_TELL,
    ),
    Attack(
        "double-forked daemon",
        _ALL_DIE,
        python("""
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("sleep", ["survivor-" + os.environ["TOKEN"], "600"])
""")
        + _WAIT,
        then=_TELL,
    ),
    Attack(
        "stopped process that ignores every signal",
        _ALL_DIE,
        """setsid -f bash -c "exec -a survivor-$TOKEN bash -c 'trap \\"\\" \
            $(echo {1..8} {10..18} {20..31}); kill -STOP \\$\\$; sleep 600'" """
        + _WAIT,
        then=_TELL,
    ),
    Attack(
        "chain of processes that replace each other",
        _ALL_DIE,
        f"cat > chain <<'END'{_CHAIN}END\nbash chain 0{_WAIT}",
        then=f"for _ in $(seq 40); do {_TELL} && break; done",
    ),
)


@against(*SURVIVORS)
async def test_nothing_survives_its_command(
    attack: Attack, box: RemoteBox, unprotected: Unprotected
) -> None:
    assert WORKED in unprotected.attacked(attack)
    variables = exports(unprotected.variables)
    await box.run(variables + attack.command, timeout=30)
    assert WORKED not in (await box.run(variables + attack.then, timeout=30)).output


@named("signals to the first process", "process 1 takes no signal from inside its namespace")
async def test_first_process_cannot_be_ended_or_stopped(box: RemoteBox) -> None:
    attack = "for s in 9 19 $(seq 1 8) $(seq 10 18) $(seq 20 31) 64; do kill -$s {target}; done"
    with subprocess.Popen(["sleep", "600"]) as alone:
        subprocess.run(["bash", "-c", attack.format(target=alone.pid)], check=False)
        assert alone.wait(30) == -signal.SIGKILL
    await box.run(attack.format(target=1), timeout=30)
    assert (await box.run("echo alive", timeout=30)).output == "alive\n"


@named("signals to everyone", "everyone is the box's namespace, and process 1 stays out of it")
async def test_signal_to_everyone_reaches_nobody_else(backend: Backend) -> None:
    """Unprotected it would end the whole machine's processes: the other box stands for them."""
    async with (
        await backend.start(BoxSpec("job-1", limits=LIMITS)) as hostile,
        await backend.start(BoxSpec("job-2", limits=LIMITS)) as other,
    ):
        working = asyncio.create_task(other.run("sleep 1; echo done", timeout=60))
        for number in ("STOP", "KILL"):
            await hostile.run(f"kill -{number} -1", timeout=0.2)
        assert (await working).output == "done\n"
        assert (await hostile.run("echo alive", timeout=30)).output == "alive\n"
