"""The check run on a pull request's commit: what the sandbox's verification said. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from patchwright_common.events import Verification

NAME = "Patchwright"
TITLE_LIMIT = 200
"""Characters."""
Conclusion = Literal["success", "failure", "neutral"]


@dataclass(frozen=True)
class CheckRun:
    """https://docs.github.com/rest/checks/runs#create-a-check-run."""

    job_id: str
    """Its `external_id`, by which it is found again."""
    commit: str
    conclusion: Conclusion
    title: str
    summary: str
    details_url: str = ""
    name: str = NAME

    def body(self) -> dict[str, Any]:
        """The request's."""
        linked = {"details_url": self.details_url} if self.details_url else {}
        return {
            "name": self.name,
            "head_sha": self.commit,
            "external_id": self.job_id,
            "status": "completed",
            "conclusion": self.conclusion,
            "output": {"title": self.title, "summary": self.summary},
            **linked,
        }


def conclusion_of(verification: Verification | None) -> Conclusion:
    """Neutral where nothing was verified: a green check would claim what nobody has seen."""
    if verification is None:
        return "neutral"
    return "failure" if verification.failed else "success"


def title_of(verification: Verification | None) -> str:
    """What a list of checks shows."""
    if verification is None:
        return "Nothing was verified: the repository names no commands"
    return "The verification fails" if verification.failed else "The verification passes"
