"""What becomes of an installation: suspended, shrunk, removed; and who hears of it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from githubkit_schemas.latest import models
from pydantic import TypeAdapter

from standin_github.client import StandinGitHub
from standin_github.scene import Scene, make_scene

SUSPENDED = (403, "This installation has been suspended")
EVENTS: dict[tuple[str, str], Any] = {
    ("installation", "created"): models.WebhookInstallationCreated,
    ("installation", "deleted"): models.WebhookInstallationDeleted,
    ("installation", "suspend"): models.WebhookInstallationSuspend,
    ("installation", "unsuspend"): models.WebhookInstallationUnsuspend,
    ("installation", "new_permissions_accepted"): (
        models.WebhookInstallationNewPermissionsAccepted
    ),
    ("installation_repositories", "added"): models.WebhookInstallationRepositoriesAdded,
    ("installation_repositories", "removed"): models.WebhookInstallationRepositoriesRemoved,
}


async def refusal(scene: Scene, method: str, path: str, token: str) -> tuple[int, str]:
    with pytest.raises(httpx.HTTPStatusError) as caught:
        await scene.github.api(method, path, token=token)
    answer = caught.value.response
    return answer.status_code, answer.json()["message"]


def path_of(scene: Scene) -> str:
    return f"/app/installations/{scene.installation_id}"


async def test_suspension_stops_old_and_new_tokens_until_it_ends(scene: Scene) -> None:
    token, own = await scene.token(), scene.app_jwt()
    await scene.github.api("PUT", f"{path_of(scene)}/suspended", token=own)
    assert await refusal(scene, "GET", f"/repos/{scene.name}", token) == SUSPENDED
    assert await refusal(scene, "POST", f"{path_of(scene)}/access_tokens", own) == SUSPENDED
    shown = await scene.github.api("GET", path_of(scene), token=own)
    assert shown["suspended_at"]
    TypeAdapter(models.Installation).validate_python(shown)
    await scene.github.api("DELETE", f"{path_of(scene)}/suspended", token=own)
    assert await scene.github.api("GET", f"/repos/{scene.name}", token=token)
    assert await scene.token()


async def test_removed_installation_takes_its_tokens_along(scene: Scene) -> None:
    token, own = await scene.token(), scene.app_jwt()
    await scene.github.api("DELETE", path_of(scene), token=own)
    assert await refusal(scene, "GET", f"/repos/{scene.name}", token) == (401, "Bad credentials")
    assert (await refusal(scene, "GET", path_of(scene), own))[0] == 404
    again = await scene.github.install(scene.app.id, [scene.name])
    assert again != scene.installation_id


async def test_removed_repository_is_covered_no_more(scene: Scene) -> None:
    token = await scene.token()
    await scene.github.remove_repositories(scene.installation_id, [scene.name])
    assert (await refusal(scene, "GET", f"/repos/{scene.name}", token))[0] == 404


async def test_installation_of_another_app_cannot_be_touched(
    scene: Scene, github: StandinGitHub
) -> None:
    stranger = (await make_scene(github)).app_jwt()
    assert (await refusal(scene, "DELETE", path_of(scene), stranger))[0] == 404
    assert (await refusal(scene, "PUT", f"{path_of(scene)}/suspended", stranger))[0] == 404


async def test_app_hears_of_all_of_it_as_documented(github: StandinGitHub, receiver: Any) -> None:
    scene = await make_scene(github, webhook_url=receiver.url)
    other = await github.create_repository(f"{scene.owner}/other", {"a": "b"})
    await github.install(scene.app.id, [other.full_name])
    await github.remove_repositories(scene.installation_id, [other.full_name])
    await github.change_app(scene.app.id, permissions={"contents": "read", "issues": "write"})
    await github.suspend(scene.installation_id)
    await github.open_issue(scene.name, "nobody hears", token=scene.person.token)
    await github.unsuspend(scene.installation_id)
    await github.uninstall(scene.installation_id)
    await github.settled()
    seen = set()
    for got in receiver.received:
        payload = json.loads(got.body)
        kind = (got.headers["X-GitHub-Event"], str(payload.get("action")))
        if kind[0] == "ping":
            continue
        seen.add(kind)
        TypeAdapter(EVENTS[kind]).validate_python(payload)
        assert payload["installation"]["id"] == scene.installation_id
    assert seen == set(EVENTS)
