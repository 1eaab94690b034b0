"""The whole state in one answer, short enough to count in."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from standin_github.hub import Hub
from standin_github.records import Issue, Pull

Json = dict[str, Any]


def summarize(hub: Hub) -> Json:
    state = hub.state
    return {
        "repositories": [state.full_name(r) for r in state.repositories.values()],
        "apps": [{"id": a.id, "slug": a.slug} for a in state.apps.values()],
        "issues": [_issue(hub, i) for i in state.issues.values() if not i.is_pull],
        "pulls": [_pull(hub, state.issues[p.issue_id], p) for p in state.pulls.values()],
        "comments": _comments(hub),
        "reactions": [
            asdict(r) | {"user": _login(hub, r.account_id)} for r in state.reactions.values()
        ],
        "check_runs": [asdict(c) for c in state.check_runs.values()],
        "pushes": [asdict(p) | {"user": _login(hub, p.account_id)} for p in state.pushes.values()],
        "deliveries": [asdict(d) for d in state.deliveries.values()],
        "deliveries_pending": hub.webhooks.pending,
        "requests": [asdict(r) for r in hub.requests],
    }


def _login(hub: Hub, account_id: int) -> str:
    return hub.state.accounts[account_id].login


def _issue(hub: Hub, issue: Issue) -> Json:
    state = hub.state
    return {
        "id": issue.id,
        "repository": state.full_name(state.repositories[issue.repository_id]),
        "number": issue.number,
        "title": issue.title,
        "body": issue.body,
        "state": issue.state,
        "user": _login(hub, issue.author_id),
        "labels": [state.labels[i].name for i in issue.label_ids],
    }


def _pull(hub: Hub, issue: Issue, pull: Pull) -> Json:
    return _issue(hub, issue) | asdict(pull)


def _comments(hub: Hub) -> list[Json]:
    rows = []
    for comment in hub.state.comments.values():
        issue = hub.state.issues[comment.issue_id]
        repository = hub.state.repositories[issue.repository_id]
        rows.append(
            {
                "id": comment.id,
                "repository": hub.state.full_name(repository),
                "number": issue.number,
                "user": _login(hub, comment.author_id),
                "body": comment.body,
                "edited": comment.updated_at != comment.created_at,
            }
        )
    return rows
