"""Pull requests: one for each branch, refused in GitHub's words, following what is pushed."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from standin_github.scene import Scene

FIXED = {"src/calculator.py": "def divide(a, b):\n    return a / b\n", "NEWS.md": "Fixed.\n"}


async def open_pull(scene: Scene, head: str = "fix", **more: Any) -> dict[str, Any]:
    body = {"title": "Fix", "head": head, "base": "main", "body": "Fixes #1"} | more
    path = f"/repos/{scene.name}/pulls"
    opened: dict[str, Any] = await scene.github.api("POST", path, body, token=await scene.token())
    return opened


async def branch(scene: Scene, name: str = "fix", files: dict[str, str] | None = None) -> str:
    return await scene.github.commit(
        scene.name, files or FIXED, login=scene.person.login, branch=name
    )


async def test_pull_request_tells_what_it_changes(scene: Scene) -> None:
    sha = await branch(scene)
    pull = await open_pull(scene)
    assert (pull["head"]["sha"], pull["base"]["ref"]) == (sha, "main")
    assert (pull["commits"], pull["changed_files"]) == (1, 2)
    assert (pull["additions"], pull["deletions"]) == (2, 1)
    path = f"/repos/{scene.name}/pulls/1/files"
    files = await scene.github.api("GET", path, token=await scene.token())
    assert [(f["filename"], f["status"]) for f in files] == [
        ("NEWS.md", "added"),
        ("src/calculator.py", "modified"),
    ]
    assert "-    return a // b\n+    return a / b" in files[1]["patch"]


@pytest.mark.parametrize(
    ("head", "base", "error"),
    [
        ("absent", "main", {"field": "head", "code": "invalid"}),
        ("stranger:fix", "main", {"field": "head", "code": "invalid"}),
        ("fix", "absent", {"field": "base", "code": "invalid"}),
        ("same", "main", {"code": "custom", "message": "No commits between main and same"}),
    ],
)
async def test_impossible_pull_request_is_refused(
    scene: Scene, head: str, base: str, error: dict[str, str]
) -> None:
    await branch(scene)
    main = await scene.github.api(
        "GET", f"/repos/{scene.name}/branches/main", token=scene.person.token
    )
    reference = {"ref": "refs/heads/same", "sha": main["commit"]["sha"]}
    path = f"/repos/{scene.name}/git/refs"
    await scene.github.api("POST", path, reference, token=scene.person.token)
    with pytest.raises(httpx.HTTPStatusError) as caught:
        await open_pull(scene, head, base=base)
    assert caught.value.response.status_code == 422
    assert caught.value.response.json()["errors"] == [{"resource": "PullRequest"} | error]


async def test_second_pull_request_of_a_branch_is_refused(scene: Scene) -> None:
    await branch(scene)
    await open_pull(scene)
    with pytest.raises(httpx.HTTPStatusError) as caught:
        await open_pull(scene, f"{scene.owner}:fix")
    message = caught.value.response.json()["errors"][0]["message"]
    assert message == f"A pull request already exists for {scene.owner}:fix."


async def test_of_many_at_once_one_pull_request_is_made(scene: Scene) -> None:
    await branch(scene)
    results = await asyncio.gather(*(open_pull(scene) for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(r, dict) for r in results) == 1
    assert len(await scene.github.pulls(scene.name)) == 1


async def test_pull_requests_are_found_by_branch_and_state(scene: Scene) -> None:
    await branch(scene)
    await branch(scene, "other", {"OTHER.md": "x"})
    await open_pull(scene)
    await open_pull(scene, "other")
    token = await scene.token()
    path = f"/repos/{scene.name}/pulls"

    async def numbers(query: str) -> list[int]:
        return [p["number"] for p in await scene.github.api("GET", path + query, token=token)]

    assert await numbers(f"?head={scene.owner}:fix") == [1]
    await scene.github.api("PATCH", f"{path}/1", {"state": "closed"}, token=token)
    assert await numbers(f"?head={scene.owner}:fix") == []
    assert await numbers(f"?head={scene.owner}:fix&state=all") == [1]
    assert await numbers("?state=all") == [2, 1]


async def test_closed_branch_may_have_a_second_pull_request(scene: Scene) -> None:
    await branch(scene)
    await open_pull(scene)
    path = f"/repos/{scene.name}/pulls/1"
    await scene.github.api("PATCH", path, {"state": "closed"}, token=await scene.token())
    assert (await open_pull(scene))["number"] == 2


async def test_push_to_the_branch_moves_the_pull_request(scene: Scene) -> None:
    await branch(scene)
    await open_pull(scene)
    sha = await branch(scene, files={"MORE.md": "more\n"})
    path = f"/repos/{scene.name}/pulls/1"
    pull = await scene.github.api("GET", path, token=await scene.token())
    assert (pull["head"]["sha"], pull["commits"]) == (sha, 2)


async def test_pull_request_closes_with_its_branch(scene: Scene) -> None:
    await branch(scene)
    await open_pull(scene)
    token = await scene.token()
    await scene.github.api("DELETE", f"/repos/{scene.name}/git/refs/heads/fix", token=token)
    path = f"/repos/{scene.name}/pulls/1"
    pull = await scene.github.api("GET", path, token=token)
    assert (pull["state"], pull["merged"]) == ("closed", False)


async def test_pull_request_is_merged_when_its_base_takes_it_in(scene: Scene) -> None:
    sha = await branch(scene)
    await open_pull(scene)
    token = await scene.token()
    path = f"/repos/{scene.name}/git/refs/heads/main"
    await scene.github.api("PATCH", path, {"sha": sha}, token=token)
    pull = await scene.github.api("GET", f"/repos/{scene.name}/pulls/1", token=token)
    assert (pull["state"], pull["merged"]) == ("closed", True)


async def test_ref_moves_forward_only_unless_forced(scene: Scene) -> None:
    await branch(scene)
    token, refs = await scene.token(), f"/repos/{scene.name}/git/refs/heads/fix"
    main = await scene.github.api("GET", f"/repos/{scene.name}/git/ref/heads/main", token=token)
    back = {"sha": main["object"]["sha"]}
    with pytest.raises(httpx.HTTPStatusError, match="422"):
        await scene.github.api("PATCH", refs, back, token=token)
    await scene.github.api("PATCH", refs, back | {"force": True}, token=token)


async def test_check_run_is_written_by_apps_and_found_by_ref(scene: Scene) -> None:
    sha = await branch(scene)
    token, path = await scene.token(), f"/repos/{scene.name}/check-runs"
    body = {"name": "verify", "head_sha": sha, "external_id": "job-1", "status": "in_progress"}
    made = await scene.github.api("POST", path, body, token=token)
    done = {"conclusion": "success", "output": {"title": "Good", "summary": "All passed"}}
    changed = await scene.github.api("PATCH", f"{path}/{made['id']}", done, token=token)
    assert (changed["status"], changed["conclusion"]) == ("completed", "success")
    listed = await scene.github.api(
        "GET", f"/repos/{scene.name}/commits/fix/check-runs?check_name=verify", token=token
    )
    assert [c["external_id"] for c in listed["check_runs"]] == ["job-1"]
    with pytest.raises(httpx.HTTPStatusError, match="403"):
        await scene.github.api("POST", path, body, token=scene.person.token)


async def test_file_is_read_as_json_and_raw(scene: Scene, http: httpx.AsyncClient) -> None:
    address = f"{scene.github.api_url}/repos/{scene.name}/contents/src/calculator.py?ref=main"
    headers = {"Authorization": f"Bearer {await scene.token()}"}
    raw = await http.get(address, headers=headers | {"Accept": "application/vnd.github.raw+json"})
    assert raw.text == "def divide(a, b):\n    return a // b\n"
    assert (await http.get(address, headers=headers)).json()["encoding"] == "base64"
    missing = await http.get(address.replace("calculator.py", "absent.py"), headers=headers)
    assert missing.status_code == 404
