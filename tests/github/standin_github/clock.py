"""Time as GitHub writes it."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(moment: float) -> str:
    """Seconds since the epoch as `2011-01-26T19:01:12Z`."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def iso_or_none(moment: float | None) -> str | None:
    return None if moment is None else iso(moment)


def parse_iso(text: str) -> float:
    """Raises ValueError for anything that is not ISO 8601."""
    return datetime.fromisoformat(text).timestamp()
