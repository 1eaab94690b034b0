"""Faults that a test asks for: a wrong answer, a slow one, none, or one that is lost."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Fault:
    """The next `times` requests that match are disturbed.

    `delay` (seconds) comes first. Then: with a `status` that answer is given, with `drop` the
    connection is cut, with neither the request goes its way. `after` handles the request before
    all that: what it wrote stays written, only the answer is lost, or late. With `truncate` its own
    answer breaks off in the middle. With `echo` the answer repeats the request's Authorization
    header, as the page of a careless proxy may.
    """

    id: int
    method: str = ".*"
    path: str = ".*"
    times: int = 1
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    delay: float = 0.0
    drop: bool = False
    after: bool = False
    truncate: bool = False
    echo: bool = False
    hits: int = 0

    def matches(self, method: str, path: str) -> bool:
        if self.hits >= self.times:
            return False
        return bool(re.fullmatch(self.method, method) and re.search(self.path, path))


class Faults:
    """The oldest matching fault goes first."""

    def __init__(self) -> None:
        self.all: list[Fault] = []

    def add(self, **wanted: Any) -> Fault:
        """Raises TypeError for an unknown field, re.error for a bad pattern."""
        fault = Fault(id=len(self.all) + 1, **wanted)
        re.compile(fault.method)
        re.compile(fault.path)
        self.all.append(fault)
        return fault

    def take(self, method: str, path: str) -> Fault | None:
        for fault in self.all:
            if fault.matches(method, path):
                fault.hits += 1
                return fault
        return None

    def clear(self) -> None:
        self.all.clear()
