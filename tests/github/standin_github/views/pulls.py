"""Pull requests and check runs."""

from __future__ import annotations

from typing import Any

from standin_github.clock import iso_or_none
from standin_github.records import CheckRun, Issue, Pull
from standin_github.state import State
from standin_github.urls import Urls
from standin_github.views.accounts import app, node_id, user
from standin_github.views.issues import issue as issue_view
from standin_github.views.repository import repository as repository_view

Json = dict[str, Any]
SHARED = (
    "number",
    "state",
    "locked",
    "title",
    "user",
    "body",
    "labels",
    "milestone",
    "active_lock_reason",
    "created_at",
    "updated_at",
    "closed_at",
    "assignee",
    "assignees",
    "author_association",
)


def pull_simple(state: State, urls: Urls, issue: Issue, row: Pull) -> Json:
    """As it stands in a list."""
    full_name = state.full_name(state.repositories[issue.repository_id])
    page = urls.html(f"/{full_name}/pull/{issue.number}")
    shared = issue_view(state, urls, issue)
    links = _addresses(urls.api(f"/repos/{full_name}"), issue.number, row.head_sha)
    return {
        "id": row.id,
        "node_id": node_id("PullRequest", row.id),
        "html_url": page,
        "diff_url": f"{page}.diff",
        "patch_url": f"{page}.patch",
        **links,
        **{name: shared[name] for name in SHARED},
        "draft": row.draft,
        "merged_at": iso_or_none(row.merged_at),
        "merge_commit_sha": row.merge_sha,
        "requested_reviewers": [user(urls, state.accounts[i]) for i in row.reviewer_ids],
        "requested_teams": [],
        "head": _side(state, urls, issue, row.head_ref, row.head_sha),
        "base": _side(state, urls, issue, row.base_ref, row.base_sha),
        "_links": _link_objects(links, page),
        "auto_merge": None,
    }


def pull(state: State, urls: Urls, issue: Issue, row: Pull) -> Json:
    merger = None if row.merged_by is None else user(urls, state.accounts[row.merged_by])
    more = {
        "merged": row.merged_at is not None,
        "mergeable": issue.state == "open" or None,
        "rebaseable": None,
        "mergeable_state": "clean" if issue.state == "open" else "unknown",
        "merged_by": merger,
        "comments": len(state.comments_of(issue)),
        "review_comments": 0,
        "maintainer_can_modify": False,
        "commits": row.commits,
        "additions": row.additions,
        "deletions": row.deletions,
        "changed_files": row.changed_files,
    }
    return pull_simple(state, urls, issue, row) | more


def _addresses(base: str, number: int, head: str) -> dict[str, str]:
    address = f"{base}/pulls/{number}"
    return {
        "url": address,
        "issue_url": f"{base}/issues/{number}",
        "commits_url": f"{address}/commits",
        "review_comments_url": f"{address}/comments",
        "review_comment_url": f"{base}/pulls/comments{{/number}}",
        "comments_url": f"{base}/issues/{number}/comments",
        "statuses_url": f"{base}/statuses/{head}",
    }


def _link_objects(links: dict[str, str], page: str) -> Json:
    named = {name.removesuffix("_url"): {"href": href} for name, href in links.items()}
    named["self"] = named.pop("url")
    return {**named, "html": {"href": page}}


def _side(state: State, urls: Urls, issue: Issue, ref: str, sha: str) -> Json:
    repository = state.repositories[issue.repository_id]
    owner = state.accounts[repository.owner_id]
    return {
        "label": f"{owner.login}:{ref}",
        "ref": ref,
        "sha": sha,
        "user": user(urls, owner),
        "repo": repository_view(state, urls, repository),
    }


def check_run(state: State, urls: Urls, row: CheckRun) -> Json:
    repository = state.repositories[row.repository_id]
    full_name = state.full_name(repository)
    address = urls.api(f"/repos/{full_name}/check-runs/{row.id}")
    output: Json = {name: row.output.get(name) for name in ("title", "summary", "text")}
    output |= {"annotations_count": 0, "annotations_url": f"{address}/annotations"}
    return {
        "id": row.id,
        "head_sha": row.head_sha,
        "node_id": node_id("CheckRun", row.id),
        "external_id": row.external_id,
        "url": address,
        "html_url": urls.html(f"/{full_name}/runs/{row.id}"),
        "details_url": row.details_url,
        "status": row.status,
        "conclusion": row.conclusion,
        "started_at": iso_or_none(row.started_at),
        "completed_at": iso_or_none(row.completed_at),
        "output": output,
        "name": row.name,
        "check_suite": {"id": row.suite_id},
        "app": app(state, urls, state.apps[row.app_id]),
        "pull_requests": _pulls_with_head(state, urls, row),
    }


def _pulls_with_head(state: State, urls: Urls, row: CheckRun) -> list[Json]:
    repository = state.repositories[row.repository_id]
    address = urls.api(f"/repos/{state.full_name(repository)}")
    small = {"id": repository.id, "url": address, "name": repository.name}
    return [
        {
            "id": pull.id,
            "number": issue.number,
            "url": f"{address}/pulls/{issue.number}",
            "head": {"ref": pull.head_ref, "sha": pull.head_sha, "repo": small},
            "base": {"ref": pull.base_ref, "sha": pull.base_sha, "repo": small},
        }
        for issue, pull in state.pulls_of(repository)
        if pull.head_sha == row.head_sha and issue.state == "open"
    ]
