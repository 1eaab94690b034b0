"""An issue's thread: comments and what happened, in order; and the links between issues."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from standin_github.records import Account, Comment, Issue, Label, Pull, TimelineEvent
from standin_github.state import State

CLOSES = re.compile(r"\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?):? #(\d+)\b", re.IGNORECASE)
EMOJI = {
    "+1": "👍",
    "-1": "👎",
    "laugh": "😄",
    "hooray": "🎉",
    "confused": "😕",
    "heart": "❤️",
    "rocket": "🚀",
    "eyes": "👀",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One item of the thread: a comment, or an event with the label that it is about."""

    at: float
    account: Account
    comment: Comment | None = None
    event: TimelineEvent | None = None
    label: Label | None = None


def thread(state: State, issue: Issue) -> list[Entry]:
    comments = [
        Entry(c.created_at, state.accounts[c.author_id], c) for c in state.comments_of(issue)
    ]
    events = [e for e in state.timeline.values() if e.issue_id == issue.id]
    return sorted([*comments, *(_happened(state, e) for e in events)], key=lambda e: e.at)


def _happened(state: State, event: TimelineEvent) -> Entry:
    about_label = event.kind in {"labeled", "unlabeled"}
    label = state.labels[int(event.detail)] if about_label else None
    return Entry(event.created_at, state.accounts[event.account_id], event=event, label=label)


def reactions(state: State, subject: str, subject_id: int) -> list[tuple[str, int]]:
    found = Counter(r.content for r in state.reactions_on(subject, subject_id))
    return [(sign, found[name]) for name, sign in EMOJI.items() if found[name]]


def closes(state: State, issue: Issue) -> list[Issue]:
    """The issues that this pull request says it fixes."""
    repository = state.repositories[issue.repository_id]
    numbers = dict.fromkeys(int(n) for n in CLOSES.findall(issue.body or ""))
    found = [state.issue(repository, number) for number in numbers]
    return [i for i in found if i is not None and i.id != issue.id]


def closed_by(state: State, issue: Issue) -> list[tuple[Issue, Pull]]:
    """The pull requests that say they fix this issue."""
    repository = state.repositories[issue.repository_id]
    pairs = state.pulls_of(repository)
    return [(i, p) for i, p in pairs if issue.id in {x.id for x in closes(state, i)}]


def state_of(state: State, issue: Issue) -> str:
    """open, closed, draft or merged: what the badge shows."""
    if issue.is_pull:
        pull = state.pull_of(issue)
        if pull.merged_at is not None:
            return "merged"
        if pull.draft and issue.state == "open":
            return "draft"
    return issue.state
