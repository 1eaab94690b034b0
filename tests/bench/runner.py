"""`just bench runner`: how soon a job begins and what it costs, beside plain git and docker.

Everything is measured in one run on one machine, in rounds that take each thing in turn, so
that ratios hold where absolute times do not. Needs nothing but what the tests need.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from patchwright_runner.mirror import Mirror
from patchwright_runner.sandbox.bubblewrap import BubblewrapBackend
from patchwright_runner.sandbox.docker import DockerBackend, DockerSettings
from patchwright_runner.sandbox.protocol import Backend

from . import crowd, floors, origin, ours
from .measured import Measured, below, ratio, took

_CACHE = Path(tempfile.gettempdir()) / "patchwright-bench"
_MEMORY = Path("/dev/shm")
"""Where there is room, clones go there: a box's files lie in memory too."""
_ROOM = 2 * 1024**3


@dataclass(frozen=True)
class Bench:
    """One run: what was chosen on the command line, and where it happens."""

    options: argparse.Namespace
    backends: Sequence[Backend]
    folder: Path

    @property
    def docker(self) -> bool:
        return any(backend.name == "docker" for backend in self.backends)

    async def run(self) -> None:
        """Measure and print, part by part."""
        shape = origin.Shape(self.options.files, self.options.commits, self.options.changed)
        with origin.served(shape, self.options.cache) as served:
            print(f"{shape.files} files, {shape.commits} commits, {served.megabytes()} MB")
            await self._begin(served)
        await self._calls()
        await self._memory()
        small = origin.Shape(files=200, commits=10, changed=5)
        with origin.served(small, self.options.cache) as served:
            await self._crowd(served)

    async def _begin(self, served: origin.Origin) -> None:
        measured = Measured()
        mirror = Mirror(self.folder / "mirrors")
        await mirror.fetch(1, served.url, None, sha=served.head)
        for number in range(1, self.options.rounds + 1):
            print(f"round {number} of {self.options.rounds}", flush=True)
            await asyncio.to_thread(floors.clones, measured, served.url, self.folder)
            if self.docker:
                await asyncio.to_thread(floors.docker_start, measured, served.url, self.folder)
            for backend in self.backends:
                await ours.Place(backend, mirror, served).workspaces(measured)
        self._show_begin(measured)

    def _show_begin(self, measured: Measured) -> None:
        print("\nReady for the agent")
        for name in measured.runs:
            print(took(measured, name))
        for backend in self.backends:
            names = ours.Names(backend.name)
            for name in (names.warm, names.newer, names.cold):
                warm = name == names.warm
                print(ratio(measured, floors.FULL, name, 50 if warm else None))
                print(ratio(measured, floors.SHALLOW, name, 10 if warm else None))
            if self.docker:
                print(ratio(measured, floors.DOCKER_START, names.first_call))
            milliseconds = measured.seconds(names.first_call) * 1000
            print(below(names.first_call, milliseconds, "ms", 150))

    async def _calls(self) -> None:
        print("\nA tool call")
        measured = Measured()
        if self.docker:
            with floors.container() as name:
                for _ in range(ours.CALLS):
                    await asyncio.to_thread(floors.docker_exec, measured, name)
        for backend in self.backends:
            added = await ours.calls(measured, backend)
            name = ours.Names(backend.name).call
            print(below(f"{name}, added by the runner", added * 1000, "ms", 5))
            if self.docker:
                print(ratio(measured, floors.DOCKER_EXEC, name, 2))
        for name in measured.runs:
            print(took(measured, name))

    async def _memory(self) -> None:
        print("\nMemory of a box that waits")
        for backend in self.backends:
            found = await crowd.idle(backend, self.options.idle)
            what = f"{backend.name}: in the runner, for each of {self.options.idle} boxes"
            print(below(what, found.runner, "MB", 20))
            # Docker's are the engine's children: here only its client is seen.
            print(f"  {backend.name}: processes below the runner: {found.box:.1f} MB")

    async def _crowd(self, served: origin.Origin) -> None:
        backend = self.backends[-1]
        jobs, delay = self.options.jobs, self.options.delay
        print(f"\n{jobs} jobs at once through NATS and the runner's handler ({backend.name})")
        with tempfile.TemporaryDirectory(dir=self.options.cache) as folder:
            found = await crowd.crowd(backend, served, jobs, delay, Path(folder))
        print(f"  {found.changes} changes, {found.failures} failures in {found.seconds:.1f} s")
        print(f"  ({crowd.TURNS} turns of {delay:g} s each are {crowd.TURNS * delay:g} s)")
        print(below("in the runner, for each job, agent included", found.megabytes, "MB", 20))
        if found.changes != jobs:
            raise SystemExit("not every job came through")


def main(arguments: Sequence[str] | None = None) -> None:
    """Exit code 1 when a job failed; a missed aim is only printed."""
    options = _parser().parse_args(arguments)
    options.cache.mkdir(parents=True, exist_ok=True)
    with _scratch() as folder:
        asyncio.run(_run(options, folder))


async def _run(options: argparse.Namespace, folder: Path) -> None:
    docker = DockerSettings(environment=dict(os.environ))
    known = (DockerBackend("bench", docker), BubblewrapBackend("bench"))
    backends = []
    for backend in known:
        availability = await backend.available()
        if options.sandbox not in ("all", backend.name):
            continue
        print(f"{backend.name}: {availability.detail}")
        if availability.ok:
            backends.append(backend)
    if not backends:
        raise SystemExit("no sandbox works here: `just doctor` says why")
    await Bench(options, backends, folder).run()


@contextmanager
def _scratch() -> Iterator[Path]:
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM
    with tempfile.TemporaryDirectory(dir=_MEMORY if roomy else None) as folder:
        yield Path(folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="just bench runner", description=__doc__)
    parser.add_argument("--files", type=int, default=20_000, help="in the measured repository")
    parser.add_argument("--commits", type=int, default=1_000, help="in its history")
    parser.add_argument("--changed", type=int, default=75, help="files that a commit writes")
    parser.add_argument("--rounds", type=int, default=5, help="of everything but tool calls")
    parser.add_argument("--idle", type=int, default=20, help="boxes whose memory is measured")
    parser.add_argument("--jobs", type=int, default=100, help="at once")
    parser.add_argument("--delay", type=float, default=1.0, help="seconds of a model's turn")
    parser.add_argument("--sandbox", choices=["all", "docker", "bubblewrap"], default="all")
    parser.add_argument("--cache", type=Path, default=_CACHE, help="keeps the repository")
    return parser


if __name__ == "__main__":
    main()
