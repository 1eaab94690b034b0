"""How times, durations and counts are written for people. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

_US, _MS, _S = 1_000, 1_000_000, 1_000_000_000


def duration(ns: int) -> str:
    """Three significant digits and the unit that fits: `412 µs`, `12.3 ms`, `4.21 s`, `2m 05s`."""
    if ns >= 3600 * _S:
        minutes = round(ns / (60 * _S))
        return f"{minutes // 60}h {minutes % 60:02}m"
    if ns >= 59_950_000_000:
        seconds = round(ns / _S)
        return f"{seconds // 60}m {seconds % 60:02}s"
    for unit, size in (("s", _S), ("ms", _MS), ("µs", _US)):
        if ns >= 0.9995 * size:
            return f"{_three_digits(ns / size)} {unit}"
    return "0" if ns <= 0 else f"{ns} ns"


def _three_digits(value: float) -> str:
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def round_duration(ns: int) -> str:
    """A tick's duration: exact, so without digits that say nothing (`1.5 s`, `200 ms`)."""
    if ns >= 60 * _S:
        return duration(ns)
    for unit, size in (("s", _S), ("ms", _MS), ("µs", _US)):
        if ns >= size:
            return f"{ns / size:g} {unit}"
    return "0" if ns <= 0 else f"{ns} ns"


def ago(then_ns: int, now_ns: int) -> str:
    """How long ago, in one unit; the page's script says the same."""
    seconds = max(0, now_ns - then_ns) // _S
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return "just now" if seconds < 2 else f"{seconds} s ago"


def iso(ns: int) -> str:
    """Unix nanoseconds as ISO 8601 in UTC, to the millisecond."""
    moment = datetime.fromtimestamp(ns // _S, UTC).replace(microsecond=ns % _S // _MS * 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def count(number: int, noun: str) -> str:
    """`1 span`, `2,000 spans`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
