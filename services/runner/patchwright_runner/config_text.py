"""A YAML document as plain data, with the line on which each part of it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DEPTH = 10
"""Lists and mappings in each other; reading more of them takes time that grows with its square."""
Place = tuple[str | int, ...]
"""Keys and indexes that lead to a part."""


class TextError(Exception):
    """Not a document that we read; the text is a sentence without its end."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


@dataclass(frozen=True, slots=True)
class Document:
    """`lines` are counted from 1; a key's own, where a mapping has it."""

    data: Any = None
    lines: Mapping[Place, int] = field(default_factory=dict)

    def line(self, place: Place) -> int:
        """The line of the part, or of the closest one around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


def parse(text: str) -> Document:
    """Raises TextError. Anchors are refused: a few lines of them can mean gigabytes."""
    try:
        _check(text)
        root = yaml.compose(text, LOADER)
        if root is None:
            return Document()
        lines: dict[Place, int] = {}
        _note(root, (), lines)
        return Document(yaml.load(text, LOADER), lines)  # noqa: S506 - it is a safe one
    except yaml.MarkedYAMLError as error:
        problem = " ".join(str(error.problem or "not YAML").split())
        raise TextError(_line(error.problem_mark), problem) from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise TextError(1, "this is not YAML") from None


def _check(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise TextError(_line(event.start_mark), "anchors (`*name`) are not supported")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH:
            raise TextError(_line(event.start_mark), "this is nested too deep")


def _note(node: Any, place: Place, lines: dict[Place, int]) -> None:
    lines.setdefault(place, _line(node.start_mark))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _note(item, (*place, index), lines)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            at = (*place, str(key.value))
            if at in lines:
                raise TextError(_line(key.start_mark), f"`{str(key.value)[:40]}` is there twice")
            lines[at] = _line(key.start_mark)
            _note(value, at, lines)


def _line(mark: Any) -> int:
    return 1 if mark is None else int(mark.line) + 1
