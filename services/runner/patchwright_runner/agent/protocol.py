"""What every agent takes and gives, whichever program does the thinking.

An agent is made for one job: its model, budget and credentials are constructor arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from patchwright_common.errors import Retry
from patchwright_runner.sandbox.protocol import Sandbox


@dataclass(frozen=True, slots=True)
class Remark:
    """One comment on the issue, as it stood when the job was triggered."""

    author: str
    text: str


@dataclass(frozen=True, slots=True)
class Guide:
    """A file of the base commit that tells agents about the repository; may be empty."""

    path: str
    text: str = ""
    note: str = ""
    """One sentence about what was left out of it, and why."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image that one of the task's texts shows, or why it cannot be shown to the agent."""

    url: str
    """As the text has it."""
    media_type: str = ""
    data: bytes = b""
    left_out: str = ""
    """The reason, as in "the host is not known"; empty for an image that is there."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked for. All of its text was written by strangers and is data to the agent."""

    repository: str
    issue_number: int
    title: str
    body: str
    conversation: tuple[Remark, ...] = ()
    request: str = ""
    """The comment that triggered the job; empty when the issue itself did."""
    guidance: tuple[Guide, ...] = ()
    """The repository's own: written by those who may write to it."""
    images: tuple[Image, ...] = ()
    """Those that the texts above show."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Where an agent must stop, whichever comes first."""

    turns: int = 50
    tokens: int = 2_000_000
    """Input, output and both cache directions together."""
    dollars: float = 5.0
    seconds: float = 1800.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used, as the model's server counted it; `dollars` by list price."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    dollars: float = 0.0

    @property
    def tokens(self) -> int:
        """All tokens, the cached ones included."""
        read_and_written = self.cache_read_tokens + self.cache_write_tokens
        return self.input_tokens + self.output_tokens + read_and_written

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.dollars + other.dollars,
        )

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens - other.input_tokens,
            self.output_tokens - other.output_tokens,
            self.cache_read_tokens - other.cache_read_tokens,
            self.cache_write_tokens - other.cache_write_tokens,
            self.dollars - other.dollars,
        )


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call as people see it: one line, never the output."""

    name: str
    summary: str
    seconds: float
    failed: bool


@dataclass(frozen=True, slots=True)
class Turn:
    """One reply of the model and the tool calls that it asked for, all of them done."""

    number: int
    """Counted from 1."""
    usage: Usage
    tool_calls: tuple[ToolCall, ...]
    seconds: float
    transcript: Sequence[Mapping[str, Any]] = ()
    """The conversation so far, this turn's tool results included, fit for JSON."""
    box_is_busy: bool = False
    """The agent's own program is still running in the sandbox, which does one thing at a time.

    Whoever asks the sandbox for anything before `turn_finished` returns waits for ever.
    """


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where an agent can go on: after so many turns, with this conversation behind it.

    The sandbox's workspace has been brought back to the same moment.
    """

    turns: int
    transcript: Sequence[Mapping[str, Any]]


class Observer(Protocol):
    """Whoever wants to know how far the agent is."""

    async def turn_finished(self, turn: Turn) -> None:
        """Called after each turn, the last one included. Raises Overtaken to stop the agent."""
        ...


@dataclass(frozen=True, slots=True)
class AgentResult:
    """How the agent ended when it ended by itself."""

    summary: str
    """The pull request's text, or the answer when nothing was changed. Not made harmless yet."""
    usage: Usage
    turns: int
    transcript: Sequence[Mapping[str, Any]]
    """The conversation's messages, fit for JSON."""


class CutOff(Retry):
    """What ran in the sandbox ended the attempt: that counts as if the runner had died with it.

    Else a hostile repository could have its job begin again and again.
    """


class Agent(Protocol):
    """Something that can work on a task."""

    @property
    def used(self) -> Usage:
        """By this attempt until now, whether it was told or not."""
        ...

    async def work(
        self,
        task: Task,
        sandbox: Sandbox,
        observer: Observer,
        *,
        resume: Checkpoint | None = None,
        feedback: str = "",
    ) -> AgentResult:
        """Change the sandbox's workspace, or just answer.

        `resume` goes on from there, and numbers its turns accordingly, instead of beginning.
        `feedback` is what the agent hears after its conversation had come to an end, such as
        the output of the repository's verify command.

        Raises Permanent for a refusal, a used-up budget or wrong settings, Retry when the model
        or the box failed for now, and whatever the observer raises.
        """
        ...
