"""Publishers with a protection taken out, to see that the count notices."""

from __future__ import annotations

import sys

from patchwright_common.claims import Outcome
from patchwright_publisher import comment, main, results
from patchwright_publisher.github import GitHub, Posted


def command(name: str) -> tuple[str, ...]:
    """How to start the broken publisher called `name`. Raises ValueError for another one."""
    if name not in BREAKS:
        raise ValueError(f"there is no {name}, only {', '.join(BREAKS)}")
    return sys.executable, "-m", "tests.chaos.broken", name


async def _none(self: GitHub, marker: str) -> list[int]:
    return []


async def _new(self: comment.OneComment, text: str) -> Posted:
    return await self._comments.comment(text)


def _never_searches() -> None:
    """Double only where one is killed between writing a comment and noting it down."""
    GitHub.comments_with = _none  # type: ignore[method-assign]


def _never_looks() -> None:
    """The result is always another comment."""
    comment.OneComment.finish = _new  # type: ignore[method-assign]


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
    "never-looks": _never_looks,
    "everyone-decides": _everyone_decides,
}

if __name__ == "__main__":
    BREAKS[sys.argv[1]]()
    main.main()
