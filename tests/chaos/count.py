"""Counts what GitHub shows in the end: one result for each issue, or what is wrong. Pure."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .plan import Kind

Json = Mapping[str, Any]
_OPENED = re.compile(r"^### ✅ (?:Opened \[#\d+\]\()?(http\S+?/pull/\d+)")
_REASON = re.compile(r"\*\*What happened:\*\* (.+)")
_BRANCH = re.compile(r"^patchwright/(\d+)-")


@dataclass(frozen=True)
class Shown:
    """What GitHub shows of one issue."""

    pulls: tuple[str, ...]
    """Addresses of pull requests from branches of its jobs."""
    comments: tuple[str, ...]
    """By the App."""


@dataclass
class Tally:
    """`wrong` has to be empty; `gave_up` are results too, but not what was asked for."""

    kinds: Counter[Kind] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    gave_up: list[str] = field(default_factory=list)


def tally(asked: Mapping[int, Kind], state: Json, branches: Collection[str]) -> Tally:
    """`asked` by issue number; `state` is the stand-in's, `branches` are all of Patchwright's."""
    found = Tally()
    shown = _shown(state)
    for number, wanted in sorted(asked.items()):
        _judge(found, number, wanted, shown.get(number, Shown((), ())))
    for number in sorted(set(shown) - set(asked)):
        found.wrong.append(f"#{number}: something is shown though nobody asked")
    heads = {pull["head_ref"] for pull in state["pulls"]}
    found.wrong += [
        f"the branch {name} has no pull request" for name in sorted(set(branches) - heads)
    ]
    return found


def _shown(state: Json) -> dict[int, Shown]:
    pulls: defaultdict[int, list[str]] = defaultdict(list)
    comments: defaultdict[int, list[str]] = defaultdict(list)
    for pull in state["pulls"]:
        if branch := _BRANCH.match(pull["head_ref"]):
            pulls[int(branch[1])].append(f"{pull['repository']}/pull/{pull['number']}")
    for comment in state["comments"]:
        if comment["user"].endswith("[bot]"):
            comments[comment["number"]].append(comment["body"])
    return {
        number: Shown(tuple(pulls[number]), tuple(comments[number]))
        for number in {*pulls, *comments}
    }


def _judge(found: Tally, number: int, wanted: Kind, shown: Shown) -> None:
    wrong = list(_faults(shown))
    kind = _kind(shown.comments[0]) if shown.comments else None
    if kind and not wrong:
        found.kinds[kind] += 1
        if kind == "failure" != wanted:
            reason = _REASON.search(shown.comments[0])
            found.gave_up.append(f"#{number}: {reason[1] if reason else 'without a reason'}")
        elif kind != wanted:
            wrong.append(f"it became a {kind}, and asked for was a {wanted}")
    found.wrong += [f"#{number}: {what}" for what in wrong]


def _faults(shown: Shown) -> Iterable[str]:
    if not shown.comments:
        yield "no comment: lost"
    if len(shown.comments) > 1:
        yield f"{len(shown.comments)} comments"
    if len(shown.pulls) > 1:
        yield f"{len(shown.pulls)} pull requests"
    for comment in shown.comments[:1]:
        kind = _kind(comment)
        if kind is None:
            yield f"the comment shows no result: {comment.splitlines()[0]}"
        elif (kind == "pull_request") != bool(shown.pulls):
            yield f"the comment says {kind}, and there are {len(shown.pulls)} pull requests"
        elif kind == "pull_request" and not _points_to(comment, shown.pulls):
            yield "the comment points to another pull request"


def _points_to(comment: str, pulls: Sequence[str]) -> bool:
    link = _OPENED.search(comment)
    return link is not None and any(link[1].endswith(pull) for pull in pulls)


def _kind(comment: str) -> Kind | None:
    if _OPENED.search(comment):
        return "pull_request"
    if comment.startswith("### 💬 Answer"):
        return "answer"
    return "failure" if comment.startswith("### ❌") else None
