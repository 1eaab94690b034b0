"""Issues, comments, labels and reactions, as people and as an App."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from standin_github.scene import Scene


async def failure(scene: Scene, path: str, body: Any, token: str) -> httpx.Response:
    with pytest.raises(httpx.HTTPStatusError) as caught:
        await scene.github.api("POST", f"/repos/{scene.name}{path}", body, token=token)
    return caught.value.response


async def test_issue_lives_from_open_to_closed_to_reopened(scene: Scene) -> None:
    github, token = scene.github, scene.person.token
    issue = await github.open_issue(scene.name, "Wrong", "text", token=token, labels=["bug"])
    assert (issue["number"], issue["state"]) == (1, "open")
    assert [x["name"] for x in issue["labels"]] == ["bug"]
    closed = await github.close(scene.name, 1, token=token)
    assert (closed["state"], closed["state_reason"]) == ("closed", "completed")
    path = f"/repos/{scene.name}/issues/1"
    again = await github.api("PATCH", path, {"state": "open", "title": "Right"}, token=token)
    assert (again["state"], again["title"], again["closed_at"]) == ("open", "Right", None)


async def test_issue_without_a_title_is_refused(scene: Scene) -> None:
    answer = await failure(scene, "/issues", {"body": "x"}, scene.person.token)
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"resource": "Issue", "field": "title", "code": "missing_field"}
    ]


async def test_comment_of_65536_characters_fits_and_one_more_does_not(scene: Scene) -> None:
    await scene.github.open_issue(scene.name, "Long", token=scene.person.token)
    token = await scene.token()
    await scene.github.comment(scene.name, 1, "ü" * 65536, token=token)
    answer = await failure(scene, "/issues/1/comments", {"body": "x" * 65537}, token)
    assert answer.status_code == 422
    assert "65536" in answer.json()["errors"][0]["message"]
    assert len(await scene.github.comments(scene.name, 1)) == 1


@pytest.mark.parametrize("body", [{"body": ""}, {"body": "  "}, {"body": None}, {}, {"body": 1}])
async def test_comment_without_text_is_refused(scene: Scene, body: Any) -> None:
    await scene.github.open_issue(scene.name, "Empty", token=scene.person.token)
    answer = await failure(scene, "/issues/1/comments", body, scene.person.token)
    assert answer.status_code == 422


async def test_apps_comment_is_by_its_bot(scene: Scene) -> None:
    await scene.github.open_issue(scene.name, "Who", token=scene.person.token)
    written = await scene.github.comment(scene.name, 1, "me", token=await scene.token())
    assert (written["user"]["login"], written["user"]["type"]) == (scene.app.bot, "Bot")
    assert written["performed_via_github_app"]["id"] == scene.app.id


async def test_comment_is_edited_and_deleted(scene: Scene) -> None:
    github, token = scene.github, await scene.token()
    await github.open_issue(scene.name, "Edit", token=scene.person.token)
    written = await github.comment(scene.name, 1, "first", token=token)
    path = f"/repos/{scene.name}/issues/comments/{written['id']}"
    assert (await github.api("PATCH", path, {"body": "second"}, token=token))["body"] == "second"
    await github.api("DELETE", path, token=token)
    assert await github.comments(scene.name, 1) == []


async def test_person_with_read_access_cannot_edit_the_apps_comment(scene: Scene) -> None:
    await scene.github.set_collaborator(scene.name, scene.person.login, "read")
    await scene.github.open_issue(scene.name, "Edit", token=scene.person.token)
    written = await scene.github.comment(scene.name, 1, "mine", token=await scene.token())
    path = f"/repos/{scene.name}/issues/comments/{written['id']}"
    with pytest.raises(httpx.HTTPStatusError, match="403"):
        await scene.github.api("PATCH", path, {"body": "x"}, token=scene.person.token)


async def test_labels_are_put_on_once_and_taken_off(scene: Scene) -> None:
    github, token = scene.github, scene.person.token
    await github.open_issue(scene.name, "Labels", token=token)
    await github.label(scene.name, 1, "bug", "patch wright/1", token=token)
    names = [x["name"] for x in await github.label(scene.name, 1, "BUG", token=token)]
    assert names == ["bug", "patch wright/1"]
    await github.unlabel(scene.name, 1, "patch wright/1", token=token)
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        await github.unlabel(scene.name, 1, "patch wright/1", token=token)


async def test_same_reaction_twice_is_one(scene: Scene, http: httpx.AsyncClient) -> None:
    await scene.github.open_issue(scene.name, "React", token=scene.person.token)
    address = f"{scene.github.api_url}/repos/{scene.name}/issues/1/reactions"
    headers = {"Authorization": f"Bearer {await scene.token()}"}
    first = await http.post(address, json={"content": "eyes"}, headers=headers)
    second = await http.post(address, json={"content": "eyes"}, headers=headers)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]


async def test_pages_of_comments_are_linked(scene: Scene, http: httpx.AsyncClient) -> None:
    await scene.github.open_issue(scene.name, "Many", token=scene.person.token)
    for number in range(5):
        await scene.github.comment(scene.name, 1, f"no {number}", token=scene.person.token)
    address = f"{scene.github.api_url}/repos/{scene.name}/issues/1/comments?per_page=2"
    bodies, headers = [], {"Authorization": f"token {scene.person.token}"}
    while address:
        answer = await http.get(address, headers=headers)
        bodies += [comment["body"] for comment in answer.json()]
        address = answer.links.get("next", {}).get("url", "")
    assert bodies == [f"no {number}" for number in range(5)]
    assert answer.links["first"]["url"].endswith("page=1")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "Problems parsing JSON"), (b"[]", "Body should be a JSON object")],
)
async def test_body_that_is_no_object_is_a_400(
    scene: Scene, http: httpx.AsyncClient, content: bytes, message: str
) -> None:
    address = f"{scene.github.api_url}/repos/{scene.name}/issues"
    headers = {"Authorization": f"Bearer {scene.person.token}"}
    answer = await http.post(address, content=content, headers=headers)
    assert (answer.status_code, answer.json()["message"]) == (400, message)


async def test_unknown_endpoint_is_githubs_404(http: httpx.AsyncClient, address: str) -> None:
    answer = await http.get(f"{address}/api/v3/no/such/thing")
    assert answer.status_code == 404
    assert answer.json()["message"] == "Not Found"
    assert answer.headers["x-ratelimit-limit"] == "5000"
