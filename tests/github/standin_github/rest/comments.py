"""Comments on issues and pull requests."""

from __future__ import annotations

import time

from starlette.responses import Response

from standin_github import events
from standin_github.access import METADATA, READ_ISSUES, on_issue
from standin_github.clock import parse_iso
from standin_github.errors import ApiError, not_found
from standin_github.records import Comment, Issue
from standin_github.rest.call import Call, answer, nothing, route
from standin_github.rest.fields import required_text
from standin_github.views.issues import comment as comment_view


def _issue(call: Call, level: str) -> Issue:
    repository = call.repository(METADATA)
    issue = call.issue(repository)
    call.require(repository, on_issue(issue, level, "read"))
    return issue


def _comment(call: Call, level: str) -> Comment:
    """People may change their own comments, with write access everyone's."""
    repository = call.repository(METADATA)
    comment = call.state.comments.get(call.number("comment_id"))
    if comment is None:
        raise not_found()
    issue = call.state.issues[comment.issue_id]
    if issue.repository_id != repository.id:
        raise not_found()
    role = "read"
    if level == "write" and comment.author_id != call.actor().id:
        role = "write"
    call.require(repository, on_issue(issue, level, role))
    return comment


async def create_comment(call: Call) -> Response:
    issue = _issue(call, "write")
    content = required_text(await call.json(), "IssueComment")
    now = time.time()
    comment = Comment(
        id=call.state.new_id(),
        issue_id=issue.id,
        author_id=call.actor().id,
        body=content,
        created_at=now,
        updated_at=now,
        app_id=call.app_id(),
    )
    call.state.comments[comment.id] = comment
    issue.updated_at = now
    events.comment_changed(call.hub, comment, call.actor(), "created")
    return answer(comment_view(call.state, call.urls, comment), 201)


async def list_comments(call: Call) -> Response:
    """Oldest first."""
    return _answer_list(call, call.state.comments_of(_issue(call, "read")))


async def list_repository_comments(call: Call) -> Response:
    repository = call.repository(READ_ISSUES)
    issues = [i for i in call.state.issues.values() if i.repository_id == repository.id]
    return _answer_list(call, [c for i in issues for c in call.state.comments_of(i)])


def _answer_list(call: Call, rows: list[Comment]) -> Response:
    since = call.query("since")
    if since:
        try:
            earliest = parse_iso(since)
        except ValueError:
            raise ApiError(422, f"The since parameter is not a date: {since}") from None
        rows = [c for c in rows if c.updated_at >= earliest]
    page, headers = call.page(rows)
    return answer([comment_view(call.state, call.urls, c) for c in page], headers=headers)


async def get_comment(call: Call) -> Response:
    return answer(comment_view(call.state, call.urls, _comment(call, "read")))


async def edit_comment(call: Call) -> Response:
    comment = _comment(call, "write")
    content = required_text(await call.json(), "IssueComment")
    changes = {"body": {"from": comment.body}}
    comment.body, comment.updated_at = content, time.time()
    events.comment_changed(call.hub, comment, call.actor(), "edited", changes=changes)
    return answer(comment_view(call.state, call.urls, comment))


async def delete_comment(call: Call) -> Response:
    comment = _comment(call, "write")
    del call.state.comments[comment.id]
    events.comment_changed(call.hub, comment, call.actor(), "deleted")
    return nothing()


ROUTES = [
    route("GET", "/repos/{owner}/{repo}/issues/comments", list_repository_comments),
    route("GET", "/repos/{owner}/{repo}/issues/comments/{comment_id}", get_comment),
    route("PATCH", "/repos/{owner}/{repo}/issues/comments/{comment_id}", edit_comment),
    route("DELETE", "/repos/{owner}/{repo}/issues/comments/{comment_id}", delete_comment),
    route("GET", "/repos/{owner}/{repo}/issues/{number}/comments", list_comments),
    route("POST", "/repos/{owner}/{repo}/issues/{number}/comments", create_comment),
]
