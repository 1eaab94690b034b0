"""What a run will do, worked out from its seed before anything starts. Pure."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from standin_model.scripting import bash, edit, issue_with_script

Kind = Literal["pull_request", "answer", "failure"]
How = Literal["kill", "pause"]

SERVICES = ("ingest", "triage", "vault", "runner", "runner-2", "publisher", "publisher-2")
SERVERS: dict[str, tuple[str, ...]] = {"1": ("nats",), "3": ("nats-1", "nats-2", "nats-3")}
"""Of NATS, by their number."""
GAP = 1.5
"""Seconds between two strikes, on average, before those are left out that come too soon."""
REST = 10.0
"""Seconds that a target is left alone after a strike: services take some of them to be back, and
where all are only starting nothing is under way to be struck."""
NATS_SHARE = 0.12
"""Of the strikes. Streams without their leader rest for some 5 to 10 s until there is another, so
more of them would only show that nothing happens."""
DOUBLED = ("runner", "publisher")
"""Of which there are two, so that one can take over."""
LONG_PAUSE = (16.0, 22.0)
"""Seconds, for those: longer than any consumer's `ack_wait`."""
SHORT_PAUSE = (0.5, 6.0)
HOLD = 4.0
"""Seconds at most that the network keeps a webhook, so that later ones overtake it."""
LAPSE_GAP = 2.0
"""Seconds between two answers of GitHub that are lost, on average."""
QUIET = 0.15
"""The part of the time at the end in which no more issues are opened."""


@dataclass(frozen=True)
class Strike:
    """A process killed, or paused for `seconds`; `at` is in seconds since the start."""

    at: float
    target: str
    how: How
    seconds: float = 0.0


@dataclass(frozen=True)
class Passage:
    """How the network treats one webhook on its way to ingest."""

    hold: float = 0.0
    copies: int = 1
    answer_lost: bool = False
    """It arrives, but GitHub is told that it did not: it will be sent again."""


@dataclass(frozen=True)
class Request:
    """One issue; `number` is in our order and not GitHub's number."""

    number: int
    at: float
    asks: Kind
    body: str
    passage: Passage
    again: bool
    """Whether somebody has GitHub send its webhook again although it was taken."""

    @property
    def title(self) -> str:
        """By which its webhook is known on the way."""
        return f"Chaos {self.number}"


@dataclass(frozen=True)
class Plan:
    """Everything; the same for the same seed, issues, seconds and targets."""

    seed: int
    seconds: float
    strikes: tuple[Strike, ...]
    lapses: tuple[float, ...]
    """When GitHub does the next write that it is asked for and its answer is lost."""
    requests: tuple[Request, ...]

    @property
    def digest(self) -> str:
        """Two plans with the same one are the same."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:12]


def make_plan(seed: int, issues: int, seconds: float, nodes: str, *, calm: bool = False) -> Plan:
    """Strikes do not depend on the number of issues; a `calm` plan has none, but loses answers."""
    chance = random.Random(f"{seed}:strikes")
    strikes = () if calm else tuple(_strikes(chance, seconds, SERVERS[nodes]))
    chance = random.Random(f"{seed}:lapses")
    times = sorted(chance.uniform(0, seconds) for _ in range(int(seconds / LAPSE_GAP)))
    lapses = tuple(round(at, 3) for at in times)
    chance = random.Random(f"{seed}:issues")
    times = sorted(chance.uniform(0, seconds * (1 - QUIET)) for _ in range(issues))
    requests = tuple(_request(chance, n, round(at, 3)) for n, at in enumerate(times, 1))
    return Plan(seed, float(seconds), strikes, lapses, requests)


def _strikes(chance: random.Random, seconds: float, servers: Sequence[str]) -> list[Strike]:
    made: list[Strike] = []
    back: dict[str, float] = {}
    at = chance.expovariate(1 / GAP)
    while at < seconds:
        target = chance.choice(servers if chance.random() < NATS_SHARE else SERVICES)
        if back.get(target, 0.0) <= at:
            made.append(_strike(chance, round(at, 3), target, seconds))
            back[target] = at + made[-1].seconds + REST
        at += chance.expovariate(1 / GAP)
    return made


def _strike(chance: random.Random, at: float, target: str, end: float) -> Strike:
    if chance.random() < 0.6:
        return Strike(at, target, "kill")
    long = target.startswith(DOUBLED) and chance.random() < 0.4
    length = chance.uniform(*(LONG_PAUSE if long else SHORT_PAUSE))
    return Strike(at, target, "pause", round(min(length, end - at), 3))


def _request(chance: random.Random, number: int, at: float) -> Request:
    kinds: Sequence[Kind] = ("pull_request", "answer", "failure")
    asks = chance.choices(kinds, weights=(70, 20, 10))[0]
    passage = Passage(
        hold=round(chance.uniform(0, HOLD), 3) if chance.random() < 0.3 else 0.0,
        copies=chance.choice((2, 3)) if chance.random() < 0.25 else 1,
        answer_lost=chance.random() < 0.1,
    )
    body = issue_with_script(*_steps(chance, number, asks))
    return Request(number, at, asks, body, passage, again=chance.random() < 0.15)


def _steps(chance: random.Random, number: int, asks: Kind) -> list[dict[str, Any]]:
    look: dict[str, Any] = {"tools": [bash("ls | head -3")], "delay": round(chance.random(), 2)}
    if chance.random() < 0.15:
        look["failures"] = [chance.choice(({"status": 529}, {"stream": "drop"}))]
    last = {"text": f"Done with number {number}.", "delay": round(chance.random() / 2, 2)}
    if asks == "answer":
        return [look, last]
    if asks == "pull_request":
        path = f"/workspace/notes/{number}.txt"
        write = {"tools": [edit("create", path=path, file_text=f"{number}\n")]}
        return [look, write, last]
    if chance.random() < 0.5:
        return [look, {"text": "I will not do this.", "stop_reason": "refusal"}]
    workflow = "mkdir -p .github/workflows && echo 'on: push' > .github/workflows/x.yml"
    return [look, {"tools": [bash(workflow)]}, last]
