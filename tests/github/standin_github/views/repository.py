"""Repositories, and what git holds in them."""

from __future__ import annotations

from typing import Any

from standin_github.access import at_least
from standin_github.clock import iso
from standin_github.diff import Commit, FileChange
from standin_github.records import Repository
from standin_github.state import State
from standin_github.urls import Urls
from standin_github.views.accounts import account_by_email, node_id, user

Json = dict[str, Any]
LINKS = {
    "archive_url": "/{archive_format}{/ref}",
    "assignees_url": "/assignees{/user}",
    "blobs_url": "/git/blobs{/sha}",
    "branches_url": "/branches{/branch}",
    "collaborators_url": "/collaborators{/collaborator}",
    "comments_url": "/comments{/number}",
    "commits_url": "/commits{/sha}",
    "compare_url": "/compare/{base}...{head}",
    "contents_url": "/contents/{+path}",
    "contributors_url": "/contributors",
    "deployments_url": "/deployments",
    "downloads_url": "/downloads",
    "events_url": "/events",
    "forks_url": "/forks",
    "git_commits_url": "/git/commits{/sha}",
    "git_refs_url": "/git/refs{/sha}",
    "git_tags_url": "/git/tags{/sha}",
    "hooks_url": "/hooks",
    "issue_comment_url": "/issues/comments{/number}",
    "issue_events_url": "/issues/events{/number}",
    "issues_url": "/issues{/number}",
    "keys_url": "/keys{/key_id}",
    "labels_url": "/labels{/name}",
    "languages_url": "/languages",
    "merges_url": "/merges",
    "milestones_url": "/milestones{/number}",
    "notifications_url": "/notifications{?since,all,participating}",
    "pulls_url": "/pulls{/number}",
    "releases_url": "/releases{/id}",
    "stargazers_url": "/stargazers",
    "statuses_url": "/statuses/{sha}",
    "subscribers_url": "/subscribers",
    "subscription_url": "/subscription",
    "tags_url": "/tags",
    "teams_url": "/teams",
    "trees_url": "/git/trees{/sha}",
}
COUNTS = (
    "forks",
    "forks_count",
    "stargazers_count",
    "watchers",
    "watchers_count",
    "size",
)


def repository(state: State, urls: Urls, row: Repository) -> Json:
    full_name = state.full_name(row)
    address, page = urls.api(f"/repos/{full_name}"), urls.html(f"/{full_name}")
    open_issues = sum(i.state == "open" for i in state.issues.values() if i.repository_id == row.id)
    return {
        "id": row.id,
        "node_id": node_id("Repository", row.id),
        "name": row.name,
        "full_name": full_name,
        "private": row.private,
        "owner": user(urls, state.accounts[row.owner_id]),
        "html_url": page,
        "description": row.description or None,
        "fork": False,
        "url": address,
        **{name: address + suffix for name, suffix in LINKS.items()},
        **_git_addresses(urls, full_name),
        **dict.fromkeys(COUNTS, 0),
        **_fixed(row),
        "created_at": iso(row.created_at),
        "updated_at": iso(row.pushed_at),
        "pushed_at": iso(row.pushed_at),
        "open_issues": open_issues,
        "open_issues_count": open_issues,
        "default_branch": row.default_branch,
    }


def _git_addresses(urls: Urls, full_name: str) -> Json:
    page = urls.html(f"/{full_name}")
    return {
        "clone_url": f"{page}.git",
        "git_url": f"git://{urls.host}/{full_name}.git",
        "ssh_url": f"git@{urls.host}:{full_name}.git",
        "svn_url": page,
        "mirror_url": None,
    }


def _fixed(row: Repository) -> Json:
    return {
        "homepage": None,
        "language": None,
        "license": None,
        "topics": [],
        "visibility": "private" if row.private else "public",
        "has_issues": True,
        "has_projects": False,
        "has_wiki": False,
        "has_pages": False,
        "has_discussions": False,
        "has_downloads": False,
        "archived": False,
        "disabled": False,
        "allow_forking": True,
        "is_template": False,
        "web_commit_signoff_required": False,
    }


def full_repository(state: State, urls: Urls, row: Repository) -> Json:
    """As GET /repos/{owner}/{repo} answers it."""
    more = {
        "network_count": 0,
        "subscribers_count": 0,
        "allow_merge_commit": True,
        "allow_rebase_merge": True,
        "allow_squash_merge": True,
        "delete_branch_on_merge": False,
    }
    return repository(state, urls, row) | more


def permissions(role: str) -> dict[str, bool]:
    """A role as the `permissions` object of a repository or collaborator."""
    asked = {"admin": "admin", "maintain": "maintain", "push": "write"}
    asked |= {"triage": "triage", "pull": "read"}
    return {name: at_least(role, wanted) for name, wanted in asked.items()}


def commit(state: State, urls: Urls, row: Repository, data: Commit) -> Json:
    full_name = state.full_name(row)
    address = urls.api(f"/repos/{full_name}/commits/{data.sha}")
    author = account_by_email(state, data.author_email)
    committer = account_by_email(state, data.committer_email)
    return {
        "sha": data.sha,
        "node_id": node_id("Commit", row.id),
        "commit": _git_commit(urls.api(f"/repos/{full_name}"), data),
        "url": address,
        "html_url": urls.html(f"/{full_name}/commit/{data.sha}"),
        "comments_url": f"{address}/comments",
        "author": None if author is None else user(urls, author),
        "committer": None if committer is None else user(urls, committer),
        "parents": [
            {
                "sha": sha,
                "url": urls.api(f"/repos/{full_name}/commits/{sha}"),
                "html_url": urls.html(f"/{full_name}/commit/{sha}"),
            }
            for sha in data.parents
        ],
    }


def _git_commit(base: str, data: Commit) -> Json:
    who = {"name": data.author_name, "email": data.author_email, "date": data.authored_at}
    by = {"name": data.committer_name, "email": data.committer_email, "date": data.committed_at}
    unsigned = {"verified": False, "reason": "unsigned", "signature": None, "payload": None}
    return {
        "author": who,
        "committer": by,
        "message": data.message,
        "tree": {"sha": data.tree, "url": f"{base}/git/trees/{data.tree}"},
        "url": f"{base}/git/commits/{data.sha}",
        "comment_count": 0,
        "verification": unsigned | {"verified_at": None},
    }


def file_change(state: State, urls: Urls, row: Repository, ref: str, change: FileChange) -> Json:
    """A DiffEntry; `ref` is the head's commit."""
    full_name = state.full_name(row)
    page = urls.html(f"/{full_name}")
    entry: Json = {
        "sha": change.sha,
        "filename": change.path,
        "status": change.status,
        "additions": change.additions,
        "deletions": change.deletions,
        "changes": change.additions + change.deletions,
        "blob_url": f"{page}/blob/{ref}/{change.path}",
        "raw_url": f"{page}/raw/{ref}/{change.path}",
        "contents_url": urls.api(f"/repos/{full_name}/contents/{change.path}?ref={ref}"),
    }
    if change.patch is not None:
        entry["patch"] = change.patch
    if change.previous is not None:
        entry["previous_filename"] = change.previous
    return entry


def git_ref(state: State, urls: Urls, row: Repository, ref: str, sha: str) -> Json:
    """`ref` is the full name, refs/heads/main."""
    address = urls.api(f"/repos/{state.full_name(row)}/git")
    return {
        "ref": ref,
        "node_id": node_id(f"Ref {ref} ", row.id),
        "url": f"{address}/{ref}",
        "object": {"type": "commit", "sha": sha, "url": f"{address}/commits/{sha}"},
    }
