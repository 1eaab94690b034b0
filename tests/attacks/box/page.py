"""The page that lists the attacks, as it must be written from the tests."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from .attack import Attack

PAGE = Path(__file__).parents[3] / "services" / "runner" / "ATTACKS.md"
HERE = Path(__file__).parent


def modules() -> list[ModuleType]:
    """The modules of this suite that hold attacks."""
    package = __name__.rpartition(".")[0]
    return [
        importlib.import_module(f"{package}.{path.stem}")
        for path in sorted(HERE.glob("test_*.py"))
        if path.stem != "test_page"
    ]


def attacks_of(module: ModuleType) -> list[Attack]:
    """In the order of the tests."""
    return [attack for test in vars(module).values() for attack in getattr(test, "attacks", ())]


def sections() -> str:
    """A heading and a table for each module."""
    parts = []
    for module in modules():
        title = (module.__doc__ or "").partition("\n")[0].rstrip(".")
        rows = [f"| {attack.name} | {attack.stopped_by} |" for attack in attacks_of(module)]
        parts.append(
            "\n".join([f"## {title}", "", "| attack | what stops it |", "| --- | --- |", *rows])
        )
    return "\n\n".join(parts) + "\n"


def count() -> int:
    """All attacks of this suite."""
    return sum(len(attacks_of(module)) for module in modules())
