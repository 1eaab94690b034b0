"""What the count takes for one result, and what it complains of."""

from __future__ import annotations

from typing import Any

import pytest

from .count import tally
from .plan import Kind

OPENED = "### ✅ Opened [#9](http://github/doorbell-labs/doorbell/pull/9)\nDone."
ANSWER = "### 💬 Answer\nIt greets."
FAILED = "### ❌ This did not work\n**What happened:** The model refused."
WORKING = "### 🛠️ Working on it\nTurn 2"
HEAD = "patchwright/1-issue-1"


def _state(comments: list[str], pulls: list[str]) -> dict[str, Any]:
    return {
        "pulls": [
            {"repository": "doorbell-labs/doorbell", "number": 9 + n, "head_ref": head}
            for n, head in enumerate(pulls)
        ],
        "comments": [{"user": "patchwright[bot]", "number": 1, "body": c} for c in comments]
        + [{"user": "ada", "number": 1, "body": "Thank you"}],
    }


@pytest.mark.parametrize(
    ("asked", "comment", "pulls"),
    [("pull_request", OPENED, [HEAD]), ("answer", ANSWER, []), ("failure", FAILED, [])],
)
def test_one_result_of_each_kind_is_right(asked: Kind, comment: str, pulls: list[str]) -> None:
    found = tally({1: asked}, _state([comment], pulls), pulls)

    assert found.wrong == []
    assert found.kinds == {asked: 1}


@pytest.mark.parametrize(
    ("comments", "pulls", "branches", "complaint"),
    [
        ([], [], [], "no comment: lost"),
        ([OPENED, OPENED], [HEAD], [HEAD], "2 comments"),
        ([OPENED], [HEAD, HEAD + "-2"], [HEAD], "2 pull requests"),
        ([OPENED], [], [], "there are 0 pull requests"),
        ([ANSWER], [HEAD], [HEAD], "says answer, and there are 1 pull requests"),
        ([FAILED], [HEAD], [HEAD], "says failure, and there are 1 pull requests"),
        ([WORKING], [], [], "shows no result"),
        ([OPENED.replace("/9", "/8")], [HEAD], [HEAD], "points to another"),
        ([ANSWER], [], [], "asked for was a pull_request"),
        ([OPENED], [HEAD], [HEAD, HEAD + "-2"], f"{HEAD}-2 has no pull request"),
    ],
)
def test_anything_else_is_complained_of(
    comments: list[str], pulls: list[str], branches: list[str], complaint: str
) -> None:
    found = tally({1: "pull_request"}, _state(comments, pulls), branches)

    assert any(complaint in line for line in found.wrong), found.wrong


def test_failure_instead_of_a_pull_request_is_told_with_its_reason() -> None:
    found = tally({1: "pull_request"}, _state([FAILED], []), [])

    assert found.wrong == []
    assert found.gave_up == ["#1: The model refused."]
