"""Repositories, branches, commits, and who may do what in them."""

from __future__ import annotations

from starlette.responses import Response

from standin_github.access import METADATA, READ_CONTENTS, require
from standin_github.auth import UserCaller
from standin_github.diff import commit_at, files_between
from standin_github.errors import ApiError, not_found
from standin_github.git import EMPTY_TREE
from standin_github.records import Repository
from standin_github.rest.call import Call, Json, answer, route
from standin_github.views.accounts import user
from standin_github.views.repository import commit as commit_view
from standin_github.views.repository import file_change, full_repository
from standin_github.views.repository import permissions as permissions_view

OLD_PERMISSION = {"maintain": "write", "triage": "read"}
"""`permission` knows four values only; the finer roles stand in `role_name`."""


async def get_repository(call: Call) -> Response:
    return _repository(call, call.repository(METADATA))


async def get_repository_by_id(call: Call) -> Response:
    repository = call.state.repositories.get(call.number("repository_id"))
    if repository is None:
        raise not_found()
    require(call.state, call.caller, repository, METADATA)
    return _repository(call, repository)


def _repository(call: Call, repository: Repository) -> Response:
    view = full_repository(call.state, call.urls, repository)
    if isinstance(call.caller, UserCaller):
        role = call.state.role(call.caller.account, repository)
        view["permissions"] = permissions_view(role)
    return answer(view)


async def get_branch(call: Call) -> Response:
    repository = call.repository(READ_CONTENTS)
    name = call.path("branch")
    sha = await call.hub.git.resolve(repository.id, f"refs/heads/{name}")
    if sha is None:
        raise ApiError(404, "Branch not found")
    commit = await commit_at(call.hub.git, repository.id, sha)
    full_name = call.state.full_name(repository)
    address = call.urls.api(f"/repos/{full_name}/branches/{name}")
    checks: Json = {"enforcement_level": "off", "contexts": [], "checks": []}
    view = {
        "name": name,
        "commit": commit_view(call.state, call.urls, repository, commit),
        "_links": {"self": address, "html": call.urls.html(f"/{full_name}/tree/{name}")},
        "protected": False,
        "protection": {"enabled": False, "required_status_checks": checks},
        "protection_url": f"{address}/protection",
    }
    return answer(view)


async def get_commit(call: Call) -> Response:
    repository = call.repository(READ_CONTENTS)
    git, name = call.hub.git, call.path("ref")
    sha = await git.resolve(repository.id, name)
    if sha is None:
        raise ApiError(422, f"No commit found for SHA: {name}")
    commit = await commit_at(git, repository.id, sha)
    parent = commit.parents[0] if commit.parents else EMPTY_TREE
    files = await files_between(git, repository.id, parent, sha)
    added, deleted = sum(f.additions for f in files), sum(f.deletions for f in files)
    view = commit_view(call.state, call.urls, repository, commit) | {
        "stats": {"additions": added, "deletions": deleted, "total": added + deleted},
        "files": [file_change(call.state, call.urls, repository, sha, f) for f in files],
    }
    return answer(view)


async def get_permission(call: Call) -> Response:
    """https://docs.github.com/rest/collaborators/collaborators: the legacy level and the role."""
    repository = call.repository(METADATA)
    account = call.state.account(call.path("username"))
    if account is None:
        raise not_found()
    role = call.state.role(account, repository)
    more = {"permissions": permissions_view(role), "role_name": role}
    view = {
        "permission": OLD_PERMISSION.get(role, role),
        "role_name": role,
        "user": user(call.urls, account) | more,
    }
    return answer(view)


ROUTES = [
    route("GET", "/repositories/{repository_id}", get_repository_by_id),
    route("GET", "/repos/{owner}/{repo}", get_repository),
    route("GET", "/repos/{owner}/{repo}/branches/{branch:path}", get_branch),
    route("GET", "/repos/{owner}/{repo}/commits/{ref:path}", get_commit),
    route("GET", "/repos/{owner}/{repo}/collaborators/{username}/permission", get_permission),
]
