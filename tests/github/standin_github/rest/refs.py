"""Branches and tags as git refs."""

from __future__ import annotations

import re

from starlette.responses import Response

from standin_github.access import READ_CONTENTS, WRITE_CONTENTS
from standin_github.errors import ApiError, not_found
from standin_github.git import Git, GitError
from standin_github.records import Repository
from standin_github.refs import refs_moved
from standin_github.rest.call import Call, answer, nothing, route
from standin_github.rest.fields import required
from standin_github.views.repository import git_ref

SHA = re.compile(r"[0-9a-f]{40}")


async def get_ref(call: Call) -> Response:
    repository = call.repository(READ_CONTENTS)
    ref = f"refs/{call.path('ref')}"
    sha = (await call.hub.git.refs(repository.id, ref)).get(ref)
    if sha is None:
        raise not_found()
    return answer(git_ref(call.state, call.urls, repository, ref, sha))


async def matching_refs(call: Call) -> Response:
    repository = call.repository(READ_CONTENTS)
    wanted = f"refs/{call.path('ref')}"
    refs = await call.hub.git.refs(repository.id, "refs/")
    rows = [(ref, sha) for ref, sha in refs.items() if ref.startswith(wanted)]
    page, headers = call.page(rows)
    view = [git_ref(call.state, call.urls, repository, ref, sha) for ref, sha in page]
    return answer(view, headers=headers)


async def create_ref(call: Call) -> Response:
    repository = call.repository(WRITE_CONTENTS)
    body = await call.json()
    ref, sha = required(body, "ref", "Reference"), required(body, "sha", "Reference")
    if not ref.startswith(("refs/heads/", "refs/tags/")):
        raise ApiError(422, "Reference name must start with 'refs/heads/' or 'refs/tags/'.")
    async with call.hub.ref_locks[repository.id]:
        if ref in await call.hub.git.refs(repository.id, ref):
            raise ApiError(422, "Reference already exists")
        await _move(call, repository, ref, sha)
    return answer(git_ref(call.state, call.urls, repository, ref, sha), 201)


async def update_ref(call: Call) -> Response:
    repository = call.repository(WRITE_CONTENTS)
    body = await call.json()
    ref, sha = f"refs/{call.path('ref')}", required(body, "sha", "Reference")
    git = call.hub.git
    async with call.hub.ref_locks[repository.id]:
        old = await _existing(git, repository, ref)
        await _require_commit(git, repository, sha)
        if not body.get("force") and not await git.is_ancestor(repository.id, old, sha):
            raise ApiError(422, "Update is not a fast forward")
        await _move(call, repository, ref, sha)
    return answer(git_ref(call.state, call.urls, repository, ref, sha))


async def delete_ref(call: Call) -> Response:
    repository = call.repository(WRITE_CONTENTS)
    ref = f"refs/{call.path('ref')}"
    async with call.hub.ref_locks[repository.id]:
        old = await _existing(call.hub.git, repository, ref)
        await call.hub.git.delete_ref(repository.id, ref)
        await refs_moved(call.hub, repository, call.actor(), {ref: old}, {})
    return nothing()


async def _existing(git: Git, repository: Repository, ref: str) -> str:
    sha = (await git.refs(repository.id, ref)).get(ref)
    if sha is None or not ref.startswith(("refs/heads/", "refs/tags/")):
        raise ApiError(422, "Reference does not exist")
    return sha


async def _require_commit(git: Git, repository: Repository, sha: str) -> None:
    if not SHA.fullmatch(sha):
        raise ApiError(
            422, "The sha parameter must be exactly 40 characters and contain only [0-9a-f]."
        )
    if await git.resolve(repository.id, sha) is None:
        raise ApiError(422, "Object does not exist")


async def _move(call: Call, repository: Repository, ref: str, sha: str) -> None:
    git = call.hub.git
    await _require_commit(git, repository, sha)
    before = await git.refs(repository.id, ref)
    try:
        await git.set_ref(repository.id, ref, sha)
    except GitError:
        raise ApiError(422, f"{ref} is not a valid ref name.") from None
    await refs_moved(call.hub, repository, call.actor(), before, {**before, ref: sha})


ROUTES = [
    route("GET", "/repos/{owner}/{repo}/git/ref/{ref:path}", get_ref),
    route("GET", "/repos/{owner}/{repo}/git/matching-refs/{ref:path}", matching_refs),
    route("POST", "/repos/{owner}/{repo}/git/refs", create_ref),
    route("PATCH", "/repos/{owner}/{repo}/git/refs/{ref:path}", update_ref),
    route("DELETE", "/repos/{owner}/{repo}/git/refs/{ref:path}", delete_ref),
]
