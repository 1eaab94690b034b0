"""Reactions on issues and comments."""

from __future__ import annotations

import time

from starlette.responses import Response

from standin_github.access import METADATA, on_issue
from standin_github.errors import invalid, not_found
from standin_github.records import Issue, Reaction
from standin_github.rest.call import Call, answer, nothing, route
from standin_github.views.issues import REACTIONS
from standin_github.views.issues import reaction as reaction_view

Subject = tuple[str, int]


def _on_issue(call: Call, level: str) -> Subject:
    repository = call.repository(METADATA)
    return _allowed(call, call.issue(repository), level, "issue")


def _on_comment(call: Call, level: str) -> Subject:
    repository = call.repository(METADATA)
    comment = call.state.comments.get(call.number("comment_id"))
    if comment is None:
        raise not_found()
    issue = call.state.issues[comment.issue_id]
    if issue.repository_id != repository.id:
        raise not_found()
    _allowed(call, issue, level, "comment")
    return "comment", comment.id


def _allowed(call: Call, issue: Issue, level: str, kind: str) -> Subject:
    repository = call.state.repositories[issue.repository_id]
    call.require(repository, on_issue(issue, level, "read"))
    return kind, issue.id


async def _react(call: Call, subject: Subject) -> Response:
    """201 for a new reaction, 200 for one that this account had already left."""
    content = (await call.json()).get("content")
    if content not in REACTIONS:
        raise invalid("Reaction", "content")
    actor = call.actor()
    for known in call.state.reactions_on(*subject):
        if known.account_id == actor.id and known.content == content:
            return answer(reaction_view(call.state, call.urls, known), 200)
    reaction = Reaction(call.state.new_id(), *subject, actor.id, content, time.time())
    call.state.reactions[reaction.id] = reaction
    return answer(reaction_view(call.state, call.urls, reaction), 201)


def _list(call: Call, subject: Subject) -> Response:
    page, headers = call.page(call.state.reactions_on(*subject))
    return answer([reaction_view(call.state, call.urls, r) for r in page], headers=headers)


def _remove(call: Call, subject: Subject) -> Response:
    reaction = call.state.reactions.get(call.number("reaction_id"))
    if reaction is None or (reaction.subject, reaction.subject_id) != subject:
        raise not_found()
    if reaction.account_id != call.actor().id:
        raise not_found()
    del call.state.reactions[reaction.id]
    return nothing()


async def react_to_issue(call: Call) -> Response:
    return await _react(call, _on_issue(call, "write"))


async def react_to_comment(call: Call) -> Response:
    return await _react(call, _on_comment(call, "write"))


async def list_on_issue(call: Call) -> Response:
    return _list(call, _on_issue(call, "read"))


async def list_on_comment(call: Call) -> Response:
    return _list(call, _on_comment(call, "read"))


async def remove_from_issue(call: Call) -> Response:
    return _remove(call, _on_issue(call, "write"))


async def remove_from_comment(call: Call) -> Response:
    return _remove(call, _on_comment(call, "write"))


ISSUE = "/repos/{owner}/{repo}/issues/{number}/reactions"
COMMENT = "/repos/{owner}/{repo}/issues/comments/{comment_id}/reactions"
ROUTES = [
    route("POST", COMMENT, react_to_comment),
    route("GET", COMMENT, list_on_comment),
    route("DELETE", COMMENT + "/{reaction_id}", remove_from_comment),
    route("POST", ISSUE, react_to_issue),
    route("GET", ISSUE, list_on_issue),
    route("DELETE", ISSUE + "/{reaction_id}", remove_from_issue),
]
