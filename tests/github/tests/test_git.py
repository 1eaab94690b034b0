"""Real git over HTTP, with tokens that may and tokens that may not."""

from __future__ import annotations

import asyncio
import base64
import gzip
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from standin_github.client import StandinGitHub
from standin_github.scene import Scene, make_scene

Git = Callable[..., Awaitable[Any]]
Clone = Callable[[Scene, str], Awaitable[Path]]


def with_token(address: str, token: str) -> str:
    return address.replace("http://", f"http://x-access-token:{token}@")


async def commit(git: Git, tree: Path, path: str, content: bytes) -> None:
    (tree / path).parent.mkdir(parents=True, exist_ok=True)
    (tree / path).write_bytes(content)
    await git("add", "-A", folder=tree)
    done = await git("commit", "-q", "-m", f"Change {path}", folder=tree)
    assert done.status == 0, done.output


async def test_push_with_contents_write_makes_a_branch(
    scene: Scene, git: Git, clone: Clone
) -> None:
    tree = await clone(scene, await scene.token(permissions={"contents": "write"}))
    await commit(git, tree, "new.txt", b"new\n")
    pushed = await git("push", "origin", "HEAD:refs/heads/fix", folder=tree)
    assert pushed.status == 0, pushed.output
    head = (await git("rev-parse", "HEAD", folder=tree)).output.strip()
    path = f"/repos/{scene.name}/branches/fix"
    answer = await scene.github.api("GET", path, token=await scene.token())
    assert answer["commit"]["sha"] == head
    log = [p for p in (await scene.github.state())["pushes"] if p["after"] == head]
    assert [(p["ref"], p["user"]) for p in log] == [("refs/heads/fix", scene.app.bot)]


async def test_push_with_contents_read_is_refused(scene: Scene, git: Git, clone: Clone) -> None:
    tree = await clone(scene, await scene.token(permissions={"contents": "read"}))
    await commit(git, tree, "new.txt", b"new\n")
    pushed = await git("push", "origin", "HEAD:refs/heads/fix", folder=tree)
    assert pushed.status != 0
    assert "Write access to repository not granted." in pushed.output
    assert "403" in pushed.output


async def test_clone_without_contents_is_refused(scene: Scene, git: Git) -> None:
    token = await scene.token(permissions={"issues": "write"})
    done = await git("clone", with_token(scene.repository.clone_url, token), "tree")
    assert done.status != 0
    assert "403" in done.output


async def test_clone_with_another_repositorys_token_finds_nothing(scene: Scene, git: Git) -> None:
    other = await make_scene(scene.github)
    token = await other.token()
    done = await git("clone", with_token(scene.repository.clone_url, token), "tree")
    assert "not found" in done.output


@pytest.mark.parametrize("token", ["", "ghs_wrong"])
async def test_clone_of_a_private_repository_needs_a_token(
    scene: Scene, git: Git, token: str
) -> None:
    address = scene.repository.clone_url
    done = await git("clone", with_token(address, token) if token else address, "tree")
    assert done.status != 0


async def test_public_repository_is_cloned_by_anybody(github: StandinGitHub, git: Git) -> None:
    scene = await make_scene(github, private=False)
    done = await git("clone", scene.repository.clone_url, "tree")
    assert done.status == 0, done.output


async def test_workflow_files_need_the_workflows_permission(
    github: StandinGitHub, git: Git, clone: Clone
) -> None:
    allowed = {"contents": "write", "workflows": "write"}
    scene = await make_scene(github, permissions=allowed)
    tree = await clone(scene, await scene.token(permissions={"contents": "write"}))
    await commit(git, tree, ".github/workflows/ci.yml", b"on: push\n")
    await commit(git, tree, "later.txt", b"later\n")
    pushed = await git("push", "origin", "HEAD:refs/heads/fix", folder=tree)
    assert pushed.status != 0
    assert (
        "(refusing to allow a GitHub App to create or update workflow"
        " `.github/workflows/ci.yml` without `workflows` permission)" in pushed.output
    )
    address = with_token(scene.repository.clone_url, await scene.token(permissions=allowed))
    pushed = await git("push", address, "HEAD:refs/heads/fix", folder=tree)
    assert pushed.status == 0, pushed.output


async def test_branch_beside_known_workflows_may_be_pushed(
    github: StandinGitHub, git: Git, clone: Clone
) -> None:
    scene = await make_scene(github, files={".github/workflows/ci.yml": "on: push\n"})
    tree = await clone(scene, await scene.token())
    await commit(git, tree, "new.txt", b"new\n")
    pushed = await git("push", "origin", "HEAD:refs/heads/fix", folder=tree)
    assert pushed.status == 0, pushed.output


async def test_large_push_arrives_in_chunks(scene: Scene, git: Git, clone: Clone) -> None:
    """Over http.postBuffer git sends a chunked body, without a length."""
    tree = await clone(scene, await scene.token())
    await commit(git, tree, "noise.bin", os.urandom(3_000_000))
    pushed = await git(
        *("-c", "http.postBuffer=65536", "push", "origin", "HEAD:refs/heads/big"),
        folder=tree,
        GIT_CURL_VERBOSE="1",
    )
    assert pushed.status == 0, pushed.output[-2000:]
    assert "Transfer-Encoding: chunked" in pushed.output


async def test_gzipped_request_is_understood(scene: Scene, http: httpx.AsyncClient) -> None:
    request = b"0014command=ls-refs\n00010014symrefs".replace(b"0014symrefs", b"000bsymrefs")
    answer = await http.post(
        f"{scene.repository.clone_url}/git-upload-pack",
        content=gzip.compress(request + b"0000"),
        headers={
            "Content-Encoding": "gzip",
            "Content-Type": "application/x-git-upload-pack-request",
            "Git-Protocol": "version=2",
        },
        auth=("x-access-token", await scene.token()),
    )
    assert answer.status_code == 200
    assert b"refs/heads/main" in answer.content


async def test_any_commit_is_fetched_by_its_id(scene: Scene, git: Git, clone: Clone) -> None:
    """Also one that no branch reaches any more."""
    sha = await scene.github.commit(scene.name, {"x": "x"}, login=scene.person.login, branch="gone")
    token = await scene.token()
    await scene.github.api("DELETE", f"/repos/{scene.name}/git/refs/heads/gone", token=token)
    tree = await clone(scene, token)
    # Version 2 of the protocol allows it anyway.
    old = ("-c", "protocol.version=0")
    fetched = await git(*old, "fetch", "--depth=1", "origin", sha, folder=tree)
    assert fetched.status == 0, fetched.output


async def test_pull_requests_head_is_a_ref_that_nobody_can_push(
    scene: Scene, git: Git, clone: Clone
) -> None:
    token = await scene.token()
    tree = await clone(scene, token)
    pushed = await git("push", "origin", "HEAD:refs/pull/1/head", folder=tree)
    assert pushed.status != 0


async def test_forced_and_deleting_pushes_work(scene: Scene, git: Git, clone: Clone) -> None:
    tree = await clone(scene, await scene.token())
    await commit(git, tree, "a", b"a")
    assert (await git("push", "origin", "HEAD:refs/heads/fix", folder=tree)).status == 0
    await git("reset", "-q", "--hard", "HEAD~1", folder=tree)
    await commit(git, tree, "b", b"b")
    assert (await git("push", "origin", "HEAD:refs/heads/fix", folder=tree)).status != 0
    assert (await git("push", "-f", "origin", "HEAD:refs/heads/fix", folder=tree)).status == 0
    assert (await git("push", "origin", ":refs/heads/fix", folder=tree)).status == 0


async def test_stalled_push_holds_up_nobody(scene: Scene, git: Git, clone: Clone) -> None:
    token = await scene.token()
    address = httpx.URL(f"{scene.repository.clone_url}/git-receive-pack")
    _, writer = await asyncio.open_connection(address.host, address.port)
    credential = base64.b64encode(f"x:{token}".encode()).decode()
    lines = [
        f"POST {address.path} HTTP/1.1",
        f"Host: {address.host}",
        f"Authorization: Basic {credential}",
        "Content-Type: application/x-git-receive-pack-request",
        "Content-Length: 1000",
    ]
    writer.write("\r\n".join([*lines, "", "0000"]).encode())
    await writer.drain()
    tree = await clone(scene, token)
    await commit(git, tree, "new.txt", b"new\n")
    async with asyncio.timeout(10):
        pushed = await git("push", "origin", "HEAD:refs/heads/fix", folder=tree)
    assert pushed.status == 0, pushed.output
    writer.close()
    await writer.wait_closed()
