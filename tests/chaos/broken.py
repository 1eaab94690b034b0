"""Publishers with a protection taken out, to see that the count notices."""

from __future__ import annotations

import sys

from patchwright_common.claims import Outcome
from patchwright_publisher import main, results
from patchwright_publisher.github import GitHub


def command(name: str) -> tuple[str, ...]:
    """How to start the broken publisher called `name`. Raises ValueError for another one."""
    if name not in BREAKS:
        raise ValueError(f"there is no {name}, only {', '.join(BREAKS)}")
    return sys.executable, "-m", "tests.chaos.broken", name


async def _none(self: GitHub, marker: str) -> list[int]:
    return []


def _never_searches() -> None:
    """Double only where one wrote a comment and could not note it down."""
    GitHub.comments_with = _none  # type: ignore[method-assign]


async def _not_late(self: results.Results, job_id: str, epoch: int) -> bool:
    return False


async def _own_outcome(
    self: results.Results, job_id: str, proposed: Outcome, change: object = None
) -> None:
    await self._claims.decide(job_id, proposed)
    await self.finish(job_id, proposed, None)


def _everyone_decides() -> None:
    """Whoever comes second shows its own result instead of the first one's."""
    results.Results._late = _not_late  # type: ignore[method-assign]
    results.Results._settle = _own_outcome  # type: ignore[method-assign]


BREAKS = {
    "never-searches": _never_searches,
    "everyone-decides": _everyone_decides,
}

if __name__ == "__main__":
    BREAKS[sys.argv[1]]()
    main.main()
