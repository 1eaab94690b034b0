"""Seconds as they are taken, and the lines that come of them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median


@dataclass
class Measured:
    """Several runs of each thing, under its name."""

    runs: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @contextmanager
    def clock(self, name: str) -> Iterator[None]:
        """Count the block as one run."""
        began = time.perf_counter()
        yield
        self.runs[name].append(time.perf_counter() - began)

    def seconds(self, name: str) -> float:
        """The median, which one hiccup of the machine does not move."""
        return median(self.runs[name])


def took(measured: Measured, name: str) -> str:
    """One thing by itself."""
    return f"  {name:<52} {_short(measured.seconds(name)):>9}  ({_spread(measured.runs[name])})"


def ratio(measured: Measured, floor: str, ours: str, aim: float | None = None) -> str:
    """How many times faster ours is."""
    times = measured.seconds(floor) / measured.seconds(ours)
    return f"  {ours} / {floor}: {times:.1f} times faster{_aim(times, aim, 'at least')}"


def below(what: str, value: float, unit: str, aim: float) -> str:
    """A figure that shall be small."""
    verdict = "reached" if value < aim else "MISSED"
    return f"  {what}: {value:.2f} {unit} (aim: below {aim:g} {unit}, {verdict})"


def _aim(value: float, aim: float | None, word: str) -> str:
    if aim is None:
        return ""
    return f" (aim: {word} {aim:g}, {'reached' if value >= aim else 'MISSED'})"


def _spread(runs: list[float]) -> str:
    return f"{len(runs)} runs, {_short(min(runs))} to {_short(max(runs))}"


def _short(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
