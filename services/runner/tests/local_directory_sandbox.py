"""A sandbox that holds nothing in: it truly runs commands, in a folder of the test's own."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from patchwright_runner.sandbox.protocol import (
    NO_DOORS,
    NOTHING,
    WORKSPACE,
    Entry,
    Result,
    ToolError,
)


@dataclass
class LocalDirectorySandbox:
    root: Path
    commands: list[str] = field(default_factory=list)

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
        self.commands.append(command)
        started = time.monotonic()
        output = bytearray()
        limit = asyncio.timeout(timeout)
        async with _open(doors):
            process = await self._start(command, stdin, environment)
            try:
                async with limit:
                    await _listen(process, output, heard)
                    await process.wait()
            except TimeoutError:
                if not limit.expired():
                    raise  # it is the listener's
            finally:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    await process.wait()
        return Result(
            output.decode("utf-8", "replace"),
            None if limit.expired() else process.returncode,
            timed_out=limit.expired(),
            duration=time.monotonic() - started,
        )

    async def _start(
        self, command: str, stdin: bytes, environment: Mapping[str, str]
    ) -> asyncio.subprocess.Process:
        with tempfile.TemporaryFile() as given:
            given.write(stdin)
            given.seek(0)
            return await asyncio.create_subprocess_shell(
                command,
                cwd=self.root,
                stdin=given,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **environment},
                start_new_session=True,
            )

    async def view(self, path: str, view_range: tuple[int, int] | None = None) -> str:
        file = self._inside(path)
        if file.is_dir():
            return "\n".join(sorted(entry.name for entry in file.iterdir()))
        lines = self._read(file).splitlines()
        first, last = view_range or (1, -1)
        wanted = list(enumerate(lines, 1))[first - 1 : None if last == -1 else last]
        return "\n".join(f"{number}\t{line}" for number, line in wanted)

    async def create(self, path: str, text: str) -> str:
        file = self._inside(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        return f"Wrote {path}."

    async def str_replace(self, path: str, old: str, new: str) -> str:
        file = self._inside(path)
        text = self._read(file)
        if text.count(old) != 1:
            raise ToolError(f"The text occurs {text.count(old)} times in {path}, not once.")
        file.write_text(text.replace(old, new), "utf-8")
        return f"Edited {path}."

    async def insert(self, path: str, line: int, text: str) -> str:
        file = self._inside(path)
        lines = self._read(file).splitlines(keepends=True)
        lines.insert(line, text)
        file.write_text("".join(lines), "utf-8")
        return f"Edited {path}."

    async def checkout(self, base: str) -> None:
        raise NotImplementedError

    def collect(self, base: str, *, quick: bool = False) -> AsyncIterator[Entry]:
        raise NotImplementedError

    async def restore(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            file = self._inside(entry.path)
            if entry.mode is None:
                file.unlink()
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(entry.content)

    async def close(self) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def _inside(self, path: str) -> Path:
        return self.root / path.removeprefix(WORKSPACE).lstrip("/")

    @staticmethod
    def _read(file: Path) -> str:
        try:
            return file.read_text("utf-8")
        except OSError as error:
            raise ToolError(f"{file.name} cannot be read: {error.strerror}") from None


async def _listen(
    process: asyncio.subprocess.Process,
    output: bytearray,
    heard: Callable[[bytes], Awaitable[None]] | None,
) -> None:
    assert process.stdout is not None
    while piece := await process.stdout.read(1 << 16):
        output += piece
        if heard is not None:
            await heard(piece)


@asynccontextmanager
async def _open(doors: Mapping[int, Path]) -> AsyncIterator[None]:
    """Ports of this machine's own loopback: whoever asks for them picks free ones."""
    async with AsyncExitStack() as stack:
        for port, path in doors.items():
            server = await asyncio.start_server(_through(path), "127.0.0.1", port)
            await stack.enter_async_context(server)
        yield


def _through(path: Path) -> Callable[..., Awaitable[None]]:
    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            inner_reader, inner_writer = await asyncio.open_unix_connection(path)
            await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
            inner_writer.transport.abort()
        writer.transport.abort()

    return carry


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.set_write_buffer_limits(0)
    while piece := await reader.read(1 << 16):
        writer.write(piece)
        await writer.drain()
    writer.write_eof()
