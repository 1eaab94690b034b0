"""The pages' templates and what they can call."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from patchwright_traces import formats

COLOURS = 10
"""How many service colours the style sheet has."""

DEEPEST = 24
"""The last level of nesting that is still indented further."""

LONGEST_VALUE = 4_000
"""Characters of an attribute that a page shows; the JSON has all."""


def environment() -> Environment:
    """Escapes everything, and fails on a name that a page forgot to pass."""
    made = Environment(
        loader=PackageLoader("patchwright_traces"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "duration": formats.duration,
        "round_duration": formats.round_duration,
        "count": formats.count,
        "iso": formats.iso,
        "colour": lambda service_id: f"c{service_id % COLOURS}",
        "level": lambda depth: f"d{min(depth, DEEPEST)}",
        "percent": lambda number: f"{number:.3f}".rstrip("0").rstrip(".") + "%",
        "cut": _cut,
    }
    made.globals |= {"ago": formats.ago, "asset": {name: _address(name) for name in _ASSETS}}
    return made


_ASSETS = ("traces.css", "traces.js", "icon.svg")


def _address(name: str) -> str:
    """With the content's digest, so that a browser may keep it for ever."""
    content = files("patchwright_traces").joinpath("static", name).read_bytes()
    return f"/static/{name}?{hashlib.sha256(content).hexdigest()[:12]}"


def _cut(text: str) -> str:
    if len(text) <= LONGEST_VALUE:
        return text
    return f"{text[:LONGEST_VALUE]}… ({len(text) - LONGEST_VALUE:,} more characters in the JSON)"
