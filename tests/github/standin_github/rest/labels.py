"""Labels of a repository, put on issues and taken off."""

from __future__ import annotations

import time

from starlette.responses import Response

from standin_github import events
from standin_github.access import METADATA, on_issue
from standin_github.errors import ApiError
from standin_github.records import Issue, Label, Repository
from standin_github.rest.call import Call, answer, route
from standin_github.rest.fields import names
from standin_github.views.issues import label as label_view

COLOR = "ededed"
"""What GitHub gives a label that is made by being used."""


def known_labels(call: Call, repository: Repository, wanted: list[str]) -> list[Label]:
    """The labels of these names; missing ones are made, as GitHub does."""
    return [_known_label(call, repository, name) for name in dict.fromkeys(wanted)]


def _known_label(call: Call, repository: Repository, name: str) -> Label:
    label = call.state.label(repository, name)
    if label is None:
        label = Label(call.state.new_id(), repository.id, name, COLOR, "")
        call.state.labels[label.id] = label
    return label


def add_labels(call: Call, issue: Issue, labels: list[Label]) -> None:
    """One `labeled` event for each label that is new on the issue."""
    for label in labels:
        if label.id in issue.label_ids:
            continue
        issue.label_ids.append(label.id)
        _changed(call, issue, label, "labeled")


def remove_label(call: Call, issue: Issue, label: Label) -> None:
    issue.label_ids.remove(label.id)
    _changed(call, issue, label, "unlabeled")


def _changed(call: Call, issue: Issue, label: Label, action: str) -> None:
    issue.updated_at = time.time()
    call.state.note(issue, call.actor(), action, str(label.id))
    view = label_view(call.state, call.urls, label)
    events.issue_changed(call.hub, issue, call.actor(), action, label=view)


def _issue_to_change(call: Call) -> Issue:
    repository = call.repository(METADATA)
    issue = call.issue(repository)
    call.require(repository, on_issue(issue, "write", "triage"))
    return issue


def _answer_labels(call: Call, issue: Issue) -> Response:
    rows = [call.state.labels[i] for i in issue.label_ids]
    return answer([label_view(call.state, call.urls, row) for row in rows])


async def list_issue_labels(call: Call) -> Response:
    repository = call.repository(METADATA)
    issue = call.issue(repository)
    call.require(repository, on_issue(issue, "read", "read"))
    return _answer_labels(call, issue)


async def put_labels_on(call: Call) -> Response:
    issue = _issue_to_change(call)
    wanted = names((await call.json()).get("labels"), "Label", "labels")
    repository = call.state.repositories[issue.repository_id]
    add_labels(call, issue, known_labels(call, repository, wanted))
    return _answer_labels(call, issue)


async def take_label_off(call: Call) -> Response:
    issue = _issue_to_change(call)
    label = call.state.label(call.state.repositories[issue.repository_id], call.path("name"))
    if label is None or label.id not in issue.label_ids:
        raise ApiError(404, "Label does not exist")
    remove_label(call, issue, label)
    return _answer_labels(call, issue)


async def list_labels(call: Call) -> Response:
    repository = call.repository(METADATA)
    rows = [x for x in call.state.labels.values() if x.repository_id == repository.id]
    page, headers = call.page(rows)
    return answer([label_view(call.state, call.urls, row) for row in page], headers=headers)


ROUTES = [
    route("GET", "/repos/{owner}/{repo}/labels", list_labels),
    route("GET", "/repos/{owner}/{repo}/issues/{number}/labels", list_issue_labels),
    route("POST", "/repos/{owner}/{repo}/issues/{number}/labels", put_labels_on),
    route("DELETE", "/repos/{owner}/{repo}/issues/{number}/labels/{name:path}", take_label_off),
]
