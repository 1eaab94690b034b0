"""Files and folders at a commit."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from starlette.responses import Response

from standin_github.access import READ_CONTENTS
from standin_github.errors import ApiError, not_found
from standin_github.git import Git, GitError
from standin_github.records import Repository
from standin_github.rest.call import Call, Json, answer, route

RAW = ("application/vnd.github.raw", "application/vnd.github.v3.raw")
INLINE_MAX = 1_000_000
"""Bytes; a larger file comes without its content unless it is asked for raw."""
KINDS = {"blob": "file", "tree": "dir", "commit": "submodule"}


@dataclass(frozen=True, slots=True)
class Entry:
    kind: str
    sha: str
    size: int
    path: str


async def get_contents(call: Call) -> Response:
    repository = call.repository(READ_CONTENTS)
    ref = call.query("ref") or repository.default_branch
    commit = await call.hub.git.resolve(repository.id, ref)
    if commit is None:
        raise ApiError(404, f"No commit found for the ref {ref}")
    path = call.path("path").strip("/")
    entry = await entry_at(call.hub.git, repository.id, commit, path)
    if entry is None:
        raise not_found()
    if entry.kind == "dir":
        entries = await folder(call.hub.git, repository.id, commit, path)
        return answer([_entry_view(call, repository, ref, e) for e in entries])
    return await _file(call, repository, ref, entry)


async def _file(call: Call, repository: Repository, ref: str, entry: Entry) -> Response:
    content = await call.hub.git.run(repository.id, "cat-file", "blob", entry.sha)
    accept = call.request.headers.get("accept", "")
    if any(accept.startswith(kind) for kind in RAW):
        return Response(content, media_type="application/vnd.github.raw; charset=utf-8")
    inline = entry.size <= INLINE_MAX
    view = _entry_view(call, repository, ref, entry)
    view["encoding"] = "base64" if inline else "none"
    view["content"] = base64.encodebytes(content).decode() if inline else ""
    return answer(view)


async def entry_at(git: Git, repository_id: int, commit: str, path: str) -> Entry | None:
    if not path:
        return Entry("dir", commit, 0, "")
    found = await _list_tree(git, repository_id, commit, path)
    return found[0] if found else None


async def folder(git: Git, repository_id: int, commit: str, path: str) -> list[Entry]:
    return await _list_tree(git, repository_id, commit, f"{path}/" if path else "")


async def _list_tree(git: Git, repository_id: int, commit: str, path: str) -> list[Entry]:
    """An exact path gives its own entry, one with a slash at the end what is in it."""
    arguments = ["ls-tree", "-z", "--long", commit] + (["--", f":(literal){path}"] if path else [])
    try:
        listing = await git.run(repository_id, *arguments)
    except GitError:
        return []
    return [_entry(line) for line in listing.decode(errors="replace").split("\0") if line]


def _entry(line: str) -> Entry:
    facts, path = line.split("\t", 1)
    mode, kind, sha, size = facts.split()
    named = "symlink" if mode == "120000" else KINDS[kind]
    return Entry(named, sha, 0 if size == "-" else int(size), path)


def _entry_view(call: Call, repository: Repository, ref: str, entry: Entry) -> Json:
    full_name = call.state.full_name(repository)
    address = call.urls.api(f"/repos/{full_name}/contents/{entry.path}?ref={ref}")
    page = call.urls.html(f"/{full_name}/blob/{ref}/{entry.path}")
    git = call.urls.api(f"/repos/{full_name}/git/blobs/{entry.sha}")
    return {
        "type": entry.kind,
        "size": entry.size,
        "name": entry.path.rpartition("/")[2],
        "path": entry.path,
        "sha": entry.sha,
        "url": address,
        "git_url": git,
        "html_url": page,
        "download_url": call.urls.html(f"/{full_name}/raw/{ref}/{entry.path}"),
        "_links": {"self": address, "git": git, "html": page},
    }


ROUTES = [route("GET", "/repos/{owner}/{repo}/contents/{path:path}", get_contents)]
