"""A crowd of processes of one service that each end at a step of their own."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from harness.armed import Order
from harness.programs import Program

CALM = 1.0
"""Seconds without anything new after which more work is asked for."""
AT_ONCE = 4
"""Of a kind; the machine has to do it all."""
PATIENCE = 360.0
"""Seconds for a whole crowd."""

End = tuple[str, int]
"""At which step, and by which signal."""


class Crowd:
    """Armed processes; they are forks of one program."""

    def __init__(self, program: Program, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._ends: dict[int, End] = {}

    async def add(self, end: End) -> None:
        """One more process, for this end."""
        place = len(self._ends)
        own = {
            "PATCHWRIGHT_DATA": str(self._folder / str(place)),
            "PATCHWRIGHT_RUNNER_ID": f"armed-{place}",
            "PATCHWRIGHT_JOBS": "1",
            "PATCHWRIGHT_WARM_BOXES": "0",
        }
        stdin = self._program.process.stdin
        assert stdin is not None
        stdin.write(Order(*end, own).written())
        async with asyncio.timeout(PATIENCE):
            while len(made := self._said("made")) == place:
                await asyncio.sleep(0.005)
        self._ends[int(made[place])] = end

    def ended(self) -> dict[int, End]:
        """Who has come to its end, by process id."""
        there = {int(pid) for pid in self._said("by")}
        return {pid: end for pid, end in self._ends.items() if pid in there}

    async def perform(
        self,
        wanted: Mapping[str, str],
        ends: list[End],
        ask: Callable[[str], Awaitable[None]],
        events: Callable[[], Awaitable[int]],
    ) -> None:
        """Have every one of these ends happen; `wanted` is what to ask for, for each step.

        What it was asked for can be taken by another, or by one that has just stopped: more is
        asked for as long as somebody waits, whenever there are no more `events`. By a clock
        alone a slow machine would be asked for ever more.
        """
        loop = asyncio.get_running_loop()
        began = changed = loop.time()
        before = 0
        while missing := [end for end in ends if end not in self.ended().values()]:
            now = loop.time()
            if now - began > PATIENCE:
                return
            if (count := await events()) > before:
                before, changed = count, now
            elif now - changed > CALM:
                asked = Counter(wanted[step] for step, _ in missing)
                for kind, number in asked.items():
                    for _ in range(min(number, AT_ONCE)):
                        await ask(kind)
                changed = loop.time()
            await asyncio.sleep(0.1)

    def _said(self, word: str) -> list[str]:
        """Last words of the lines `<pid> <word> <…>`, which no service writes."""
        lines = (line.split() for line in self._program.lines if line[:1].isdigit())
        return [words[2] for words in lines if len(words) == 3 and words[1] == word]


@asynccontextmanager
async def crowd(service: str, environment: dict[str, str], folder: Path) -> AsyncIterator[Crowd]:
    """Nobody in it yet; at the end nobody is left. Its log is in `folder`."""
    folder.mkdir()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "harness.armed", service),
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=2**22,
    )
    running = Program(process)
    try:
        yield Crowd(running, folder)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()
        (folder / "log").write_text("\n".join(running.lines))
