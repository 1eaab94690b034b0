"""A canary for each secret, searched wherever anybody can read after everything went wrong."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from harness.stack import RunningStack
from patchwright_common import flow
from patchwright_common.permissions import bucket_stream
from patchwright_common.requests import SERVICES

from . import places
from .canaries import KINDS, SECRET, TOKEN
from .crashing import (
    allow_core,
    core_limit,
    cores,
    cores_allowed,
    crash,
    dumps_lie_beside,
    is_private,
)
from .looking import LOOKS
from .needles import Canary, Search
from .searching import Searched

# The first test of each stack waits for the whole run.
pytestmark = pytest.mark.timeout(600)

EVERYWHERE = (
    places.STREAMS,
    places.BUCKETS,
    places.OBJECTS,
    places.STORE_FILES,
    places.LOGS,
    places.TERMINAL,
    places.SPANS,
    places.PAGES,
    places.HISTORY,
    places.MODEL,
    places.BOX_ENVIRONMENT,
    places.BOX_PROC,
    places.BOX_FILES,
    places.GIT_CONFIGURATION,
    places.MIRRORS,
    places.ARGUMENTS,
    places.ENVIRONMENTS,
    places.TEMPORARY,
    places.FILES,
)


@pytest.mark.parametrize("place", EVERYWHERE)
def test_reader_finds_no_secret_in(searched: Searched, place: str) -> None:
    assert not searched.in_kind(place), searched.told(place)
    assert searched.read[place] > 0


def test_reader_finds_no_secret_in_docker_inspect(searched: Searched, stack: RunningStack) -> None:
    """Bubblewrap has no such thing: its arguments are searched with those of all processes."""
    assert not searched.in_kind(places.INSPECT), searched.told(places.INSPECT)
    if stack.at.sandbox == "docker":
        assert searched.read[places.INSPECT] > 0
    else:
        assert "bwrap" in searched.services


def test_no_secret_is_missing_from_the_search(searched: Searched) -> None:
    for kind in KINDS:
        assert any(name.startswith(kind) for name in searched.secrets), kind
    assert searched.secrets[SECRET] >= 2, "the rotated one and its successor"
    assert searched.secrets[TOKEN] >= 20


def test_no_place_is_missing_from_the_search(searched: Searched) -> None:
    named = {name.split(" ")[0].rstrip(":") for _, name in searched.names}
    streams = [stream.name for stream in flow.STREAMS]
    assert {*streams, *map(bucket_stream, flow.BUCKETS)} <= named
    for stream in streams:
        assert any(name.startswith(f"{stream} pw.") for _, name in searched.names), stream
    logs = {name for kind, name in searched.names if kind == places.LOGS}
    for service in SERVICES:
        assert f"home/logs/{service}.log" in logs
        assert f"patchwright-{service}" in searched.services
    assert set(LOOKS) <= {name for _, name in searched.names}


def test_agent_really_looked_around(searched: Searched) -> None:
    for look, words in {
        "environment": b"PATH=",
        "proc-environ": b"== /proc/1\n",
        "proc-cmdline": b"python3",
        "proc-memory": b"/proc/1/mem",
        "proc-mounts": b" /workspace ",
        "git-config": b"core.bare",
        "git-history": b"Initial commit",
        "files-by-name": b"/",
        "files-by-place": b"==> /etc/passwd <==",
    }.items():
        assert words in searched.seen[look], look


# --- crashes: the last tests, since they end what the others look at ----------------------

SUPERVISOR = "the supervisor"
GET_DUMPABLE = 3
"""PR_GET_DUMPABLE of prctl(2)."""
FAULTS = {
    "vault": signal.SIGSEGV,
    "runner": signal.SIGSEGV,
    "publisher": signal.SIGABRT,
    "ingest": signal.SIGABRT,
    "triage": signal.SIGABRT,
    # `up` reads what it hands to the vault. With it the stack ends.
    SUPERVISOR: signal.SIGABRT,
}


@pytest.mark.parametrize("program", FAULTS)
def test_core_dump_of_a_crash_gives_nothing_away(
    searched: Searched, stack: RunningStack, program: str
) -> None:
    supervisor = psutil.Process(stack.at.pid)
    process = supervisor if program == SUPERVISOR else stack.processes()[program]
    assert core_limit(process.pid) == (0, 0)
    assert is_private(process.pid)
    allow_core(process.pid)

    crash(process.pid, FAULTS[program])

    assert cores(stack.folder.root.parent) == []


def test_program_that_the_kernel_gives_core_dumps_to_gets_nothing() -> None:
    """A limit does not stop `core_pattern`'s program: a service is not dumpable besides."""
    serving = (
        "import ctypes\n"
        "from patchwright_common.service import run\n"
        f"async def serve(): print(ctypes.CDLL(None).prctl({GET_DUMPABLE}))\n"
        "run(serve)\n"
    )

    said = subprocess.run((sys.executable, "-c", serving), capture_output=True, check=True)

    assert said.stdout == b"0\n"


def test_core_dump_of_a_careless_program_gives_its_secret_away(tmp_path: Path) -> None:
    """The same signal where nothing forbids dumps: so the tests above can fail."""
    canary = Canary("a canary", os.urandom(32).hex().encode())
    idle = "import sys, time; held = sys.stdin.read(); print('ready', flush=True); time.sleep(60)"
    with (
        cores_allowed(),
        subprocess.Popen(
            (sys.executable, "-c", idle), cwd=tmp_path,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ) as careless,
    ):  # fmt: skip
        assert careless.stdin
        assert careless.stdout
        careless.stdin.write(canary.value)
        careless.stdin.close()
        careless.stdout.readline()
        assert core_limit(careless.pid)[0] == resource.getrlimit(resource.RLIMIT_CORE)[1]
        crash(careless.pid)

    found = [Search([canary]).find(core.data) for core in cores(tmp_path)]
    assert found == [{"a canary"}] or not dumps_lie_beside()
