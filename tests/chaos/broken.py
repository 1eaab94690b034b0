"""Publishers with a protection taken out, to see that the count notices."""

from __future__ import annotations

import sys

from patchwright_publisher import main
from patchwright_publisher.github import Comment, GitHub


def command(name: str) -> tuple[str, ...]:
    """How to start the broken publisher called `name`. Raises ValueError for another one."""
    if name not in BREAKS:
        raise ValueError(f"there is no {name}, only {', '.join(BREAKS)}")
    return sys.executable, "-m", "tests.chaos.broken", name


async def _none(self: GitHub, marker: str) -> list[Comment]:
    return []


def _never_searches() -> None:
    """Double only where one wrote a comment and could not note it down."""
    GitHub.comments_with = _none  # type: ignore[method-assign]


BREAKS = {
    "never-searches": _never_searches,
}

if __name__ == "__main__":
    BREAKS[sys.argv[1]]()
    main.main()
