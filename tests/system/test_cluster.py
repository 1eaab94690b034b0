"""Three NATS servers with a copy each: jobs go on while any one is killed and comes back."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.stack import RunningStack, running_stack
from patchwright_common import flow
from standin_model.scripting import bash, issue_with_script

SERVERS = ("nats-1", "nats-2", "nats-3")
SLOW = issue_with_script(
    {"tools": [bash("echo one > one.txt")], "delay": 0.7},
    {"tools": [bash("echo two > two.txt")], "delay": 0.7},
    {"text": "Two files are new.", "delay": 0.7},
)
TOGETHER = 2
AWAY_SECONDS = 2.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    root = tmp_path_factory.mktemp("cluster")
    with running_stack(root, "auto", PATCHWRIGHT_NATS_NODES="3") as stack:
        yield stack


async def _copies(stack: RunningStack) -> list[int | None]:
    """Of each stream, those of the buckets among them."""
    async with stack.nats() as client:
        found = await client.jetstream(timeout=10).streams_info()
    return [stream.config.num_replicas for stream in found]


async def test_everything_that_is_stored_has_three_copies(cluster: RunningStack) -> None:
    assert await _copies(cluster) == [3] * (len(flow.STREAMS) + len(flow.BUCKETS))


@pytest.mark.parametrize("server", SERVERS)
async def test_server_that_is_killed_and_comes_back_costs_no_job(
    cluster: RunningStack, server: str
) -> None:
    numbers = [await cluster.ask(f"{server} dies, {n}", SLOW) for n in range(TOGETHER)]
    await cluster.until(numbers[0], "job.progressed")

    async with cluster.down(server):
        await asyncio.sleep(AWAY_SECONDS)
    numbers += [await cluster.ask(f"{server} is back, {n}", SLOW) for n in range(TOGETHER)]

    for number in numbers:
        async with cluster.nothing_missed():
            finished = await cluster.settled(number, timeout=90)
        assert finished["result"] == "pull_request"
        assert len(await cluster.pulls(number)) == 1
        [comment] = await cluster.comments(number)
        assert finished["url"] in comment["body"]


def test_each_server_keeps_its_own_copy(cluster: RunningStack) -> None:
    root = Path(cluster.folder.root)
    assert all(any((root / f"nats-{server}").rglob("*.blk")) for server in SERVERS)


async def test_topology_changes_the_number_of_copies_of_what_is_there(
    cluster: RunningStack,
) -> None:
    for given, copies in (("1", 1), ("3", 3), ("0", 3)):
        _topology(cluster, PATCHWRIGHT_NATS_REPLICAS=given)
        assert set(await _copies(cluster)) == {copies}
    number = await cluster.ask("Once more", SLOW)
    assert (await cluster.settled(number, timeout=90))["result"] == "pull_request"


def _topology(stack: RunningStack, **environment: str) -> None:
    home = {"PATCHWRIGHT_HOME": str(stack.folder.root), "PATH": os.environ["PATH"]}
    command = (str(Path(sys.executable).parent / "patchwright"), "topology")
    subprocess.run(command, env=home | environment, check=True, timeout=60, capture_output=True)
