"""A sandbox and a model's door that play a script, for agents whose program runs in the box."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from patchwright_common.errors import Permanent, Retry
from patchwright_runner.agent import Usage
from patchwright_runner.agent.program import Finished
from patchwright_runner.sandbox.protocol import NO_DOORS, NOTHING, Result

from .local_directory_sandbox import LocalDirectorySandbox


@dataclass(frozen=True)
class Ran:
    command: str
    timeout: float
    stdin: bytes
    environment: Mapping[str, str]
    doors: Mapping[int, Path]


@dataclass
class ScriptedBox(LocalDirectorySandbox):
    """Each run plays the next part; after the last one it ends at once."""

    root: Path = Path("/nowhere")
    parts: list[Result | Callable[[], Awaitable[Result]]] = field(default_factory=list)
    runs: list[Ran] = field(default_factory=list)

    async def run(
        self,
        command: str,
        *,
        timeout: float,
        stdin: bytes = b"",
        environment: Mapping[str, str] = NOTHING,
        doors: Mapping[int, Path] = NO_DOORS,
        heard: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> Result:
        self.runs.append(Ran(command, timeout, stdin, dict(environment), dict(doors)))
        part = self.parts.pop(0) if self.parts else Result("", 0)
        result = part if isinstance(part, Result) else await part()
        if heard is not None:
            await heard(result.output.encode())
        return result


@dataclass(frozen=True)
class Told:
    """An exchange as a gateway tells of it."""

    usage: Usage
    seconds: float = 1.0
    complete: bool = True


@dataclass
class ScriptedDoor:
    usage: Usage = field(default_factory=Usage)
    verdict: Exception | None = None
    fault: Permanent | Retry | None = None
    finished: Finished | None = None
    turns: int | None = None
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    def open(self, *, turns: int, finished: Finished | None = None) -> ScriptedDoor:
        self.turns, self.finished = turns, finished
        return self

    async def stopped(self) -> Exception:
        await self.stop.wait()
        assert self.verdict is not None
        return self.verdict

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Path]:
        yield Path("/run/model")

    async def exchange(self, usage: Usage, *, complete: bool = True) -> None:
        """The model answers; what the listener raises is the verdict, as with a gateway."""
        self.usage += usage
        assert self.finished is not None
        try:
            await self.finished(Told(usage, complete=complete))
        except Exception as error:  # noqa: BLE001 - the gateway's contract
            self.verdict = error
            self.stop.set()
