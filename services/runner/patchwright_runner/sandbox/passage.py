"""A sandbox whose commands have more ways out than its own: each run gets doors and variables."""

# ruff: noqa: D102 - the methods are documented in protocol.py

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from patchwright_runner.sandbox.protocol import NO_DOORS, NOTHING, Entry, Result, Sandbox


@dataclass(frozen=True, slots=True)
class Way:
    """What commands are told, and the doors that it is about; by default there is none."""

    environment: Mapping[str, str] = field(default_factory=dict)
    doors: Mapping[int, Path] = field(default_factory=dict)


class Passage:
    """`box`, with `way` open for every command. Whoever made the box closes it."""

    def __init__(self, box: Sandbox, way: Way) -> None:
        self._box = box
        self._way = way

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
        return await self._box.run(
            command,
            timeout=timeout,
            stdin=stdin,
            environment={**self._way.environment, **environment},
            doors={**self._way.doors, **doors},
            heard=heard,
        )

    async def view(self, path: str, view_range: tuple[int, int] | None = None) -> str:
        return await self._box.view(path, view_range)

    async def create(self, path: str, text: str) -> str:
        return await self._box.create(path, text)

    async def str_replace(self, path: str, old: str, new: str) -> str:
        return await self._box.str_replace(path, old, new)

    async def insert(self, path: str, line: int, text: str) -> str:
        return await self._box.insert(path, line, text)

    async def checkout(self, base: str) -> None:
        await self._box.checkout(base)

    def collect(self, base: str, *, quick: bool = False) -> AsyncIterator[Entry]:
        return self._box.collect(base, quick=quick)

    async def restore(self, entries: Iterable[Entry]) -> None:
        await self._box.restore(entries)

    async def close(self) -> None:
        await self._box.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
