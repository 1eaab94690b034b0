"""What the door says to somebody who comes in."""

from __future__ import annotations

NOON = 12
EVENING = 18


def salutation(hour: int) -> str:
    """The greeting that fits the hour of the day, 0 to 23."""
    if hour < NOON:
        return "Good morning"
    if hour < EVENING:
        return "Good afternoon"
    return "Good evening"


def first_name(name: str) -> str:
    """The name to call somebody by, from the full name on the badge."""
    return name.split()[0].capitalize()


def greet(name: str, *, hour: int) -> str:
    """One line for the speaker."""
    return f"{salutation(hour)}, {first_name(name)}!"
