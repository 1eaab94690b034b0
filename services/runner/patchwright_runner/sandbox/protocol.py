"""What a sandbox is to everyone who uses one: the types, the limits and the promise.

Getting a box (`Backend`) is kept apart from acting in it (`Sandbox`). Paths given to a
sandbox are paths inside the box, absolute or relative to `WORKSPACE`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Protocol, Self

from patchwright_common.errors import Retry

WORKSPACE = "/workspace"
HOME = "/home/agent"
AGENT_ID = 10001
"""User and group id of everything in the box; no account on the host has it."""

_PROGRAM = re.compile(r"(/opt)(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+")
NOTHING: Mapping[str, str] = MappingProxyType({})
NO_DOORS: Mapping[int, Path] = MappingProxyType({})


class ToolError(Exception):
    """The agent asked for something that cannot be done; the text is meant for the model."""


class BoxLost(Retry):
    """The box died under us (its wall deadline, memory, a stopped engine): start another."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one box may use (the kernel holds it to that) and how much change may leave it."""

    memory_bytes: int = 2 * 1024**3
    """Memory of all processes together, the files in /workspace and /tmp included."""
    processes: int = 512
    cpus: float = 2.0
    workspace_bytes: int = 1024**3
    """Size of /workspace; /tmp and the home directory get `scratch_bytes` each."""
    scratch_bytes: int = 256 * 1024**2
    open_files: int = 4096
    output_bytes: int = 64 * 1024
    """How much of one command's output is kept: the first and the last half of it."""
    wall_seconds: float = 2 * 3600
    """The box ends itself after this, whatever its owner does."""
    changed_files: int = 1000
    """Files in the collected change, deletions included."""
    changed_bytes: int = 20 * 1024**2
    """Content of all of them together."""


@dataclass(frozen=True, slots=True)
class BoxSpec:
    """One box to start."""

    job_id: str
    mirror: Path | None = None
    """Bare repository whose objects the box may read; None for a box without history."""
    limits: Limits = field(default_factory=Limits)
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the clean environment of commands. Never a secret."""
    programs: Mapping[str, Path] = field(default_factory=dict)
    """Files or folders of this machine that the box sees, read-only, by their path in the box.

    Such a path begins with `/opt/`, where nothing else is.
    """
    prepared: str = ""
    """Which kept environment the box is going to hold: a box that waits may hold it already."""

    def __post_init__(self) -> None:
        """Raises ValueError for a program that could hide something of the box's own."""
        for path, program in self.programs.items():
            if not _PROGRAM.fullmatch(path):
                raise ValueError(f"a program's place in the box is below /opt, not {path!r}")
            if not program.is_absolute():
                raise ValueError(f"a program is given by its absolute path, not {program}")


@dataclass(frozen=True, slots=True)
class Result:
    """How one command ended."""

    output: str
    """Standard output and error as they were interleaved, head and tail kept."""
    exit_code: int | None
    """None when the time limit ended it; 128 + n when signal n did, as in a shell."""
    truncated: bool = False
    timed_out: bool = False
    duration: float = 0.0
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One path that differs from the base, as the box reported it: validated, not trusted."""

    path: str
    mode: str | None
    """Git's `100644`, `100755` or `120000` (content is the link's target); None: deleted."""
    content: bytes = b""


class Sandbox(Protocol):
    """A running box. Every call has a time limit; cancelling a call ends it in the box too."""

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
        """Run `command` with bash in the workspace, and end it after `timeout` seconds.

        Nothing outlives its command: background processes, daemons too, are killed when it
        ends. Calls queue: the box does one thing at a time.

        `environment` is added for this command. `doors` are the only ways out: TCP ports on the
        box's loopback, each leading to a UNIX socket that the runner owns, open for this command
        alone. `heard` gets the output piece by piece while it is written; a slow one holds the
        command back. What it raises ends the command. It must not call the sandbox, which waits.
        """
        ...

    async def view(self, path: str, view_range: tuple[int, int] | None = None) -> str:
        """Numbered lines of a file (1-based, end -1 = last) or two levels of a directory.

        Raises ToolError, like the three below.
        """
        ...

    async def create(self, path: str, text: str) -> str:
        """Write `text` to a new or existing file, making parent directories."""
        ...

    async def str_replace(self, path: str, old: str, new: str) -> str:
        """Replace the one occurrence of `old`."""
        ...

    async def insert(self, path: str, line: int, text: str) -> str:
        """Insert `text` after line number `line`; 0 is the beginning."""
        ...

    async def checkout(self, base: str) -> None:
        """Make the workspace a fresh clone at commit `base`: no remote, no copied objects."""
        ...

    def collect(self, base: str, *, quick: bool = False) -> AsyncIterator[Entry]:
        """Stream what differs from commit `base`, whether it was committed or not.

        `quick` does not read files again that look untouched since the check-out: good
        enough for a checkpoint, where a result needs certainty.
        Raises Permanent when the change is over a limit or holds a path that no
        repository may have.
        """
        ...

    async def restore(self, entries: Iterable[Entry]) -> None:
        """Change a fresh checkout as `collect` once reported it, from the same base."""
        ...

    async def close(self) -> None:
        """Kill everything in the box and leave nothing of it; may be called twice."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Box(Sandbox, Protocol):
    """A sandbox as its backend made it, which can take in and give out what a set-up left."""

    prepared: str
    """Which kept environment was restored in it."""

    @property
    def used(self) -> bool:
        """Whether a command or a file tool has run in it."""
        ...

    def pack(self, most: int) -> AsyncIterator[bytes]:
        """Pieces of a tar stream: what git does not track in the workspace, and the home.

        Raises ToolError when it is more than `most` bytes, or cannot be read.
        """
        ...

    async def unpack(self, pieces: AsyncIterator[bytes]) -> None:
        """Put such a stream into this box; raises ToolError when the box refuses it."""
        ...


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a backend works on this machine, for `choose` and for `just doctor`."""

    ok: bool
    detail: str
    """A version when ok, else one sentence saying what is missing and what to do."""


class Backend(Protocol):
    """A way to get boxes on this machine."""

    @property
    def name(self) -> str:
        """As settings and reports call it."""
        ...

    async def available(self) -> Availability:
        """Never raises; answers within seconds."""
        ...

    async def identity(self) -> str:
        """Changes with the programs that boxes hold; what was made by others may not run here."""
        ...

    async def start(self, spec: BoxSpec) -> Box:
        """A box ready for its first call. Raises BoxLost when it does not come up."""
        ...

    async def sweep(self) -> int:
        """Remove what an earlier crash of this runner left; the number of boxes removed."""
        ...
