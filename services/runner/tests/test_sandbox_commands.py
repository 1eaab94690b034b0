"""The contract of a box, part one: commands, and who they are.

What they cannot reach or use up is in `tests/attacks/box`.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from harness.boxes import LIMITS, MIB
from patchwright_runner.sandbox.protocol import Backend, BoxLost, BoxSpec, Limits
from patchwright_runner.sandbox.remote import RemoteBox


async def test_command_gives_both_outputs_in_order_and_its_exit_code(box: RemoteBox) -> None:
    result = await box.run("echo out; echo err >&2; echo out; exit 3", timeout=10)
    assert (result.output, result.exit_code) == ("out\nerr\nout\n", 3)
    assert not result.truncated
    assert not result.timed_out
    assert 0 < result.duration < 10


async def test_command_runs_in_the_workspace_with_a_clean_environment(box: RemoteBox) -> None:
    result = await box.run(
        "pwd; hostname; env -0 | tr '\\0' '\\n' | cut -d= -f1 | sort", timeout=10
    )
    assert result.output.split() == [
        *("/workspace", "patchwright", "GIT_PAGER", "GIT_TERMINAL_PROMPT", "HOME", "LANG"),
        *("LOGNAME", "PAGER", "PATH", "PWD", "PYTHONDONTWRITEBYTECODE", "SHELL", "SHLVL"),
        *("TERM", "TMPDIR", "USER", "_"),
    ]


async def test_environment_of_the_specification_reaches_commands(backend: Backend) -> None:
    spec = BoxSpec("job-1", limits=LIMITS, environment={"COLOUR": "blue"})
    async with await backend.start(spec) as box:
        assert (await box.run("echo $COLOUR", timeout=10)).output == "blue\n"


async def test_command_reads_nothing_from_standard_input(box: RemoteBox) -> None:
    assert (await box.run("cat; echo end", timeout=10)).output == "end\n"


async def test_command_killed_by_a_signal_has_the_shells_exit_code(box: RemoteBox) -> None:
    assert (await box.run("kill -KILL $$", timeout=10)).exit_code == 137


async def test_output_that_is_not_utf8_is_shown_with_replacements(box: RemoteBox) -> None:
    assert (await box.run("printf 'a\\377b'", timeout=10)).output == "a�b"


async def test_command_over_its_time_is_ended_and_its_output_kept(box: RemoteBox) -> None:
    result = await box.run("echo before; sleep 60", timeout=0.5)
    assert (result.output, result.exit_code, result.timed_out) == ("before\n", None, True)
    assert result.duration < 5


async def test_zombies_are_reaped_while_a_command_runs(box: RemoteBox) -> None:
    command = (
        "for i in $(seq 200); do (setsid true &) ; done; sleep 0.3; ls -d /proc/[0-9]* | wc -l"
    )
    assert int((await box.run(command, timeout=30)).output) < 10


async def test_cancelled_call_ends_its_command(box: RemoteBox) -> None:
    call = asyncio.create_task(box.run("sleep 600", timeout=600))
    await asyncio.sleep(0.3)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    began = time.monotonic()
    assert await _processes(box) == 1
    assert time.monotonic() - began < 5


async def test_call_cancelled_at_once_does_not_block_the_next(box: RemoteBox) -> None:
    call = asyncio.create_task(box.run("sleep 600", timeout=600))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await box.run("echo next", timeout=10)).output == "next\n"


async def test_calls_made_at_once_are_all_answered(box: RemoteBox) -> None:
    calls = [box.run(f"echo {number}", timeout=10) for number in range(8)]
    assert [r.output for r in await asyncio.gather(*calls)] == [f"{n}\n" for n in range(8)]


async def test_there_is_no_network_but_loopback(box: RemoteBox) -> None:
    interfaces = await box.run("tail -n +3 /proc/net/dev | cut -d: -f1", timeout=10)
    assert interfaces.output.split() == ["lo"]


async def test_loopback_works(box: RemoteBox) -> None:
    script = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); "
        "socket.create_connection(s.getsockname(), 2); print('connected')"
    )
    assert (await box.run(f'python3 -c "{script}"', timeout=10)).output == "connected\n"


async def test_commands_are_an_unprivileged_user_of_their_own(box: RemoteBox) -> None:
    shown = await box.run("id -u; id -g; id -G; id -un; grep ^Cap /proc/self/status", timeout=10)
    user, group, groups, name, *capabilities = shown.output.splitlines()
    assert (user, group, groups, name) == ("10001", "10001", "10001", "agent")
    assert {line.split()[1] for line in capabilities} == {"0" * 16}


async def test_no_new_privileges_and_a_filter_are_in_force(box: RemoteBox) -> None:
    shown = await box.run("grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status", timeout=10)
    assert shown.output.split() == ["NoNewPrivs:", "1", "Seccomp:", "2"]


@pytest.mark.parametrize("place", ["/", "/usr", "/etc", "/dev", "/run", "/home", "/mirror"])
async def test_root_is_read_only(box: RemoteBox, place: str) -> None:
    result = await box.run(f"touch {place}/new", timeout=10)
    assert result.exit_code != 0


async def test_root_is_mounted_read_only(box: RemoteBox) -> None:
    mounts = await box.run("awk '$2 == \"/\" {print $4}' /proc/mounts", timeout=10)
    assert mounts.output.split()[-1].startswith("ro,")


@pytest.mark.parametrize("place", ["/workspace", "/tmp", "/home/agent", "/dev/shm"])
async def test_scratch_places_can_be_written(box: RemoteBox, place: str) -> None:
    assert (
        await box.run(f"echo yes > {place}/new && cat {place}/new", timeout=10)
    ).output == "yes\n"


async def test_processor_time_is_bounded(box: RemoteBox) -> None:
    busy = (
        "python3 -c 'import time\nend = time.monotonic() + 2\nwhile time.monotonic() < end: pass'"
    )
    burn = f"{busy} & {busy} & {busy} & wait; times"
    result = await box.run(burn, timeout=30)
    user = result.output.splitlines()[-1].split()[0]
    minutes, seconds = user.rstrip("s").split("m")
    assert float(minutes) * 60 + float(seconds) < 1.4 * result.duration


async def test_box_ends_itself_at_its_wall_deadline(backend: Backend) -> None:
    limits = Limits(memory_bytes=192 * MIB, workspace_bytes=MIB, wall_seconds=1)
    async with await backend.start(BoxSpec("job-1", limits=limits)) as box:
        with pytest.raises(BoxLost, match="wall deadline"):
            await box.run("sleep 60", timeout=60)


async def test_closed_box_refuses_further_calls(box: RemoteBox) -> None:
    await box.close()
    await box.close()
    with pytest.raises(BoxLost):
        await box.run("true", timeout=10)


async def _processes(box: RemoteBox) -> int:
    """How many there are besides the shell that counts."""
    listed = await box.run("for p in /proc/[0-9]*; do echo $p; done", timeout=10)
    return len(listed.output.split()) - 1
