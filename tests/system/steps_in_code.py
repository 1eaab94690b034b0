"""The named steps, read from the services' code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from patchwright_common import flow

ROOT = Path(__file__).parents[2]


@cache
def in_code() -> frozenset[str]:
    """Every step that a service can reach; those of `messaging.py` once for each consumer."""
    found = [
        *ROOT.glob("services/*/patchwright_*/**/*.py"),
        *ROOT.glob("libs/*/patchwright_*/**/*.py"),
    ]
    return frozenset(step for path in found for step in _steps(path))


def _steps(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and _name(node.func) == "reached":
            [argument] = node.args
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield argument.value
            else:
                yield from (consumer + _ending(argument, path) for consumer in _consumers(argument))


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _ending(argument: ast.expr, path: Path) -> str:
    """Of `f"{consumer.name}.handled"`; nothing else may stand in place of a literal."""
    match argument:
        case ast.JoinedStr(values=[ast.FormattedValue(), ast.Constant(value=str(ending))]):
            return ending
    raise AssertionError(f"{path.name}: a step's name is a literal, or a consumer's with one")


def _consumers(argument: ast.expr) -> Iterator[str]:
    given_up = not isinstance(argument, ast.JoinedStr) or "handled" not in ast.dump(argument)
    for consumer in flow.consumers():
        # What nobody waits for may end as a dead letter unheard, and an endless one never does.
        if not given_up or (consumer.policy.limit is not None and consumer.policy.tells_user):
            yield consumer.name
