"""Every answer against models that were generated from GitHub's published OpenAPI."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from githubkit import AppInstallationAuthStrategy, GitHub
from githubkit.exception import RequestFailed
from githubkit_schemas.latest import models
from pydantic import TypeAdapter

from standin_github.client import StandinGitHub
from standin_github.scene import Scene, make_scene

Json = dict[str, Any]


def conforms(model: Any, data: Any) -> None:
    """Raises ValidationError; lists are checked by their items."""
    assert data, "an empty answer proves nothing"
    TypeAdapter(list[model] if isinstance(data, list) else model).validate_python(data)


@pytest.fixture
async def full_scene(github: StandinGitHub, receiver: Any) -> Scene:
    """With an issue, a comment, reactions, labels, a pull request and a check run."""
    scene = await make_scene(github, webhook_url=receiver.url)
    token, name = await scene.token(), scene.name
    await github.open_issue(name, "Wrong", "text", token=scene.person.token, labels=["bug"])
    comment = await github.comment(name, 1, "Working", token=token)
    for path in ("issues/1", f"issues/comments/{comment['id']}"):
        await github.api(
            "POST", f"/repos/{name}/{path}/reactions", {"content": "rocket"}, token=token
        )
    files = {"new.txt": "new\n", "README.md": None}
    sha = await github.commit(name, files, login=scene.person.login, branch="fix")
    pull = {"title": "Fix", "head": "fix", "base": "main", "body": "Fixes #1"}
    await github.api("POST", f"/repos/{name}/pulls", pull, token=token)
    await github.label(name, 2, "bug", token=token)
    check = {"name": "verify", "head_sha": sha, "status": "in_progress"}
    await github.api("POST", f"/repos/{name}/check-runs", check, token=token)
    await github.settled()
    return scene


READS = {
    "": models.FullRepository,
    "/branches/main": models.BranchWithProtection,
    "/git/ref/heads/main": models.GitRef,
    "/git/matching-refs/heads": models.GitRef,
    "/contents/src/calculator.py": models.ContentFile,
    "/commits/fix": models.Commit,
    "/issues": models.Issue,
    "/issues/1": models.Issue,
    "/issues/2": models.Issue,
    "/issues/comments": models.IssueComment,
    "/issues/1/comments": models.IssueComment,
    "/issues/1/reactions": models.Reaction,
    "/issues/1/labels": models.Label,
    "/labels": models.Label,
    "/pulls": models.PullRequestSimple,
    "/pulls/2": models.PullRequest,
    "/pulls/2/files": models.DiffEntry,
    "/pulls/2/commits": models.Commit,
    "/commits/fix/check-runs": models.ReposOwnerRepoCommitsRefCheckRunsGetResponse200,
}


async def test_repository_answers_conform(full_scene: Scene) -> None:
    token = await full_scene.token()
    for path, model in READS.items():
        data = await full_scene.github.api("GET", f"/repos/{full_scene.name}{path}", token=token)
        conforms(model, data)


async def test_collaborator_permission_conforms(full_scene: Scene) -> None:
    path = f"/repos/{full_scene.name}/collaborators/{full_scene.person.login}/permission"
    data = await full_scene.github.api("GET", path, token=await full_scene.token())
    conforms(models.RepositoryCollaboratorPermission, data)


async def test_app_answers_conform(full_scene: Scene) -> None:
    github, own = full_scene.github, full_scene.app_jwt()
    installation = f"/app/installations/{full_scene.installation_id}"
    reads: dict[str, Any] = {
        "/app": models.Integration,
        "/app/installations": models.Installation,
        installation: models.Installation,
        f"/repos/{full_scene.name}/installation": models.Installation,
        "/app/hook/config": models.WebhookConfig,
        "/app/hook/deliveries": models.HookDeliveryItem,
    }
    for path, model in reads.items():
        conforms(model, await github.api("GET", path, token=own))
    body = {"repositories": ["calculator"], "permissions": {"contents": "read"}}
    made = await github.api("POST", f"{installation}/access_tokens", body, token=own)
    conforms(models.InstallationToken, made)
    delivery = (await github.api("GET", "/app/hook/deliveries", token=own))[0]
    path = f"/app/hook/deliveries/{delivery['id']}"
    conforms(models.HookDelivery, await github.api("GET", path, token=own))


async def test_token_answers_conform(full_scene: Scene) -> None:
    github, token = full_scene.github, await full_scene.token()
    repositories = await github.api("GET", "/installation/repositories", token=token)
    conforms(models.InstallationRepositoriesGetResponse200, repositories)
    conforms(models.RateLimitOverview, await github.api("GET", "/rate_limit", token=token))
    path = f"/repositories/{full_scene.repository.id}"
    conforms(models.FullRepository, await github.api("GET", path, token=token))
    path = f"/users/{full_scene.person.login}"
    conforms(models.SimpleUser, await github.api("GET", path, token=token))


async def test_written_answers_conform(full_scene: Scene) -> None:
    github, token, name = full_scene.github, await full_scene.token(), full_scene.name
    person = full_scene.person.token

    async def write(method: str, path: str, body: Json) -> Any:
        return await github.api(method, f"/repos/{name}{path}", body, token=token)

    issue = await github.open_issue(name, "Second", token=person)
    conforms(models.Issue, issue)
    comment = await write("POST", "/issues/1/comments", {"body": "x"})
    conforms(models.IssueComment, comment)
    conforms(
        models.IssueComment,
        await write("PATCH", f"/issues/comments/{comment['id']}", {"body": "y"}),
    )
    conforms(models.Label, await write("POST", "/issues/1/labels", {"labels": ["a b"]}))
    conforms(models.Reaction, await write("POST", "/issues/1/reactions", {"content": "+1"}))
    conforms(models.Issue, await write("PATCH", "/issues/1", {"state": "closed"}))
    conforms(models.PullRequest, await write("PATCH", "/pulls/2", {"title": "New title"}))
    sha = (await write("GET", "/git/ref/heads/fix", {}))["object"]["sha"]
    reference = await write("POST", "/git/refs", {"ref": "refs/heads/more", "sha": sha})
    conforms(models.GitRef, reference)
    check = await write("POST", "/check-runs", {"name": "lint", "head_sha": sha})
    conforms(models.CheckRun, check)
    done = {"conclusion": "failure", "output": {"title": "x", "summary": "y"}}
    conforms(models.CheckRun, await write("PATCH", f"/check-runs/{check['id']}", done))


async def test_folder_conforms(full_scene: Scene) -> None:
    path = f"/repos/{full_scene.name}/contents/"
    data = await full_scene.github.api("GET", path, token=await full_scene.token())
    conforms(models.ContentDirectoryItems, data)


async def test_errors_conform(full_scene: Scene, http: httpx.AsyncClient) -> None:
    address = f"{full_scene.github.api_url}/repos/{full_scene.name}"
    headers = {"Authorization": f"Bearer {await full_scene.token()}"}
    conforms(models.BasicError, (await http.get(f"{address}/issues/99", headers=headers)).json())
    refused = await http.post(f"{address}/issues", json={}, headers=headers)
    conforms(models.ValidationError, refused.json())


EVENTS = {
    ("ping", None): models.WebhookPing,
    ("installation", "created"): models.WebhookInstallationCreated,
    ("issues", "opened"): models.WebhookIssuesOpened,
    ("issues", "labeled"): models.WebhookIssuesLabeled,
    ("issue_comment", "created"): models.WebhookIssueCommentCreated,
    ("push", None): models.WebhookPush,
    ("pull_request", "opened"): models.WebhookPullRequestOpened,
    ("pull_request", "labeled"): models.WebhookPullRequestLabeled,
    ("pull_request", "closed"): models.WebhookPullRequestClosed,
    ("pull_request", "synchronize"): models.WebhookPullRequestSynchronize,
    ("issues", "closed"): models.WebhookIssuesClosed,
    ("issues", "edited"): models.WebhookIssuesEdited,
    ("issues", "reopened"): models.WebhookIssuesReopened,
    ("issues", "unlabeled"): models.WebhookIssuesUnlabeled,
    ("issue_comment", "edited"): models.WebhookIssueCommentEdited,
    ("issue_comment", "deleted"): models.WebhookIssueCommentDeleted,
}


async def test_webhook_payloads_conform(full_scene: Scene, receiver: Any) -> None:
    github, token, name = full_scene.github, full_scene.person.token, full_scene.name
    await github.commit(name, {"y": "y"}, login=full_scene.person.login, branch="fix")
    issue = f"/repos/{name}/issues/1"
    changes: list[Json] = [{"state": "closed"}, {"state": "open"}, {"title": "New"}, {"labels": []}]
    for change in changes:
        await github.api("PATCH", issue, change, token=token)
    comment = (await github.comments(name, 1))[0]["id"]
    path = f"/repos/{name}/issues/comments/{comment}"
    await github.api("PATCH", path, {"body": "edited"}, token=token)
    await github.api("DELETE", path, token=token)
    await github.api("PATCH", f"/repos/{name}/pulls/2", {"state": "closed"}, token=token)
    await github.settled()
    seen = set()
    for got in receiver.received:
        payload = json.loads(got.body)
        kind = (got.headers["X-GitHub-Event"], payload.get("action"))
        seen.add(kind)
        conforms(EVENTS[kind], payload)
    assert seen == set(EVENTS)


async def test_githubs_python_client_finds_its_way(full_scene: Scene) -> None:
    """githubkit signs its own JWT, gets its own token and parses every answer."""
    strategy = AppInstallationAuthStrategy(
        full_scene.app.id, full_scene.app.private_key, full_scene.installation_id
    )
    owner, _, name = full_scene.name.partition("/")
    async with GitHub(strategy, base_url=f"{full_scene.github.api_url}/") as kit:
        issues = (await kit.rest.issues.async_list_for_repo(owner, name)).parsed_data
        assert [issue.number for issue in issues] == [2, 1]
        made = await kit.rest.issues.async_create_comment(owner, name, 1, body="from githubkit")
        assert made.parsed_data.user is not None
        assert made.parsed_data.user.login == full_scene.app.bot
        with pytest.raises(RequestFailed):
            await kit.rest.issues.async_get(owner, name, 99)
