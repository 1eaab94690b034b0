"""Webhooks: what is sent, how it is signed, and what the delivery log says."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx

from standin_github.client import StandinGitHub
from standin_github.process import running
from standin_github.scene import Scene, make_scene


async def openssl_signature(secret: str, body: bytes) -> str:
    """The same computation by a program that shares no code with the stand-in."""
    process = await asyncio.create_subprocess_exec(
        *("openssl", "dgst", "-sha256", "-hmac", secret),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate(body)
    return "sha256=" + output.decode().split("= ")[1].strip()


async def test_signature_is_the_hmac_of_the_raw_body(github: StandinGitHub, receiver: Any) -> None:
    scene = await make_scene(github, webhook_url=receiver.url)
    await github.open_issue(scene.name, "Grüße ☃", "x" * 1000, token=scene.person.token)
    await github.settled()
    for got in receiver.received:
        expected = await openssl_signature(scene.app.webhook_secret, got.body)
        assert got.headers["X-Hub-Signature-256"] == expected
    assert "☃".encode() in receiver.named("issues")[0].body


async def test_delivery_carries_githubs_headers(github: StandinGitHub, receiver: Any) -> None:
    scene = await make_scene(github, webhook_url=receiver.url)
    await github.settled()
    headers = receiver.named("installation")[0].headers
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"].startswith("GitHub-Hookshot/")
    assert len(headers["X-GitHub-Delivery"]) == 36
    assert headers["X-GitHub-Hook-Installation-Target-ID"] == str(scene.app.id)
    assert headers["X-GitHub-Hook-Installation-Target-Type"] == "integration"
    assert headers["X-GitHub-Hook-ID"].isdigit()
    assert len(receiver.named("ping")) == 1


async def test_issue_with_a_label_is_opened_and_labeled(
    github: StandinGitHub, receiver: Any
) -> None:
    scene = await make_scene(github, webhook_url=receiver.url)
    await github.open_issue(scene.name, "x", token=scene.person.token, labels=["patchwright"])
    await github.settled()
    payloads = {json.loads(r.body)["action"]: json.loads(r.body) for r in receiver.named("issues")}
    assert set(payloads) == {"opened", "labeled"}
    labeled = payloads["labeled"]
    assert labeled["label"]["name"] == "patchwright"
    assert labeled["installation"]["id"] == scene.installation_id
    assert labeled["repository"]["id"] == scene.repository.id
    assert labeled["sender"]["login"] == scene.person.login


async def test_what_the_app_does_is_sent_by_its_bot(github: StandinGitHub, receiver: Any) -> None:
    scene = await make_scene(github, webhook_url=receiver.url)
    await github.open_issue(scene.name, "x", token=scene.person.token)
    await github.comment(scene.name, 1, "working", token=await scene.token())
    await github.settled()
    payload = json.loads(receiver.named("issue_comment")[0].body)
    assert (payload["sender"]["type"], payload["sender"]["login"]) == ("Bot", scene.app.bot)


async def test_push_and_pull_request_are_told(github: StandinGitHub, receiver: Any) -> None:
    scene = await make_scene(github, webhook_url=receiver.url)
    sha = await github.commit(scene.name, {"x": "x"}, login=scene.person.login, branch="fix")
    body = {"title": "x", "head": "fix", "base": "main"}
    await github.api("POST", f"/repos/{scene.name}/pulls", body, token=scene.person.token)
    await github.settled()
    push = json.loads(receiver.named("push")[0].body)
    assert (push["ref"], push["after"], push["created"]) == ("refs/heads/fix", sha, True)
    assert json.loads(receiver.named("pull_request")[0].body)["action"] == "opened"


async def test_unsubscribed_events_are_not_sent(github: StandinGitHub, receiver: Any) -> None:
    scene = await make_scene(github, webhook_url=receiver.url)
    await github.change_app(scene.app.id, events=["issues"])
    await github.open_issue(scene.name, "x", token=scene.person.token)
    await github.comment(scene.name, 1, "x", token=scene.person.token)
    await github.settled()
    assert receiver.named("issue_comment") == []
    assert len(receiver.named("issues")) == 1


async def test_refused_delivery_is_logged_and_not_tried_again(
    github: StandinGitHub, receiver: Any
) -> None:
    receiver.status = 503
    scene = await make_scene(github, webhook_url=receiver.url)
    await github.settled()
    await asyncio.sleep(0.3)
    assert len(receiver.named("installation")) == 1
    failed = await deliveries(scene, "?status=failure")
    assert {d["status_code"] for d in failed} == {503}
    detail = await scene.github.api(
        "GET", f"/app/hook/deliveries/{failed[0]['id']}", token=scene.app_jwt()
    )
    assert detail["request"]["payload"]["action"] == "created"
    assert detail["response"]["payload"] == "ok"


async def deliveries(scene: Scene, query: str = "") -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = await scene.github.api(
        "GET", f"/app/hook/deliveries{query}", token=scene.app_jwt()
    )
    return listed


async def test_redelivery_has_the_same_guid_and_the_same_bytes(
    github: StandinGitHub, receiver: Any
) -> None:
    receiver.status = 500
    scene = await make_scene(github, webhook_url=receiver.url)
    await github.settled()
    receiver.status = 202
    missed = next(d for d in await deliveries(scene) if d["event"] == "installation")
    path = f"/app/hook/deliveries/{missed['id']}/attempts"
    await github.api("POST", path, token=scene.app_jwt())
    await github.settled()
    first, second = receiver.named("installation")
    assert first.body == second.body
    assert first.headers["X-GitHub-Delivery"] == second.headers["X-GitHub-Delivery"]
    again = (await deliveries(scene))[0]
    assert (again["guid"], again["redelivery"]) == (missed["guid"], True)
    assert (again["status"], again["status_code"]) == ("OK", 202)


async def test_delivery_log_is_paged_by_cursor(
    github: StandinGitHub, receiver: Any, http: httpx.AsyncClient
) -> None:
    scene = await make_scene(github, webhook_url=receiver.url)
    for number in range(5):
        await github.open_issue(scene.name, f"{number}", token=scene.person.token)
    await github.settled()
    seen: list[int] = []
    address = f"{github.api_url}/app/hook/deliveries?per_page=3"
    while address:
        headers = {"Authorization": f"Bearer {scene.app_jwt()}"}
        answer = await http.get(address, headers=headers)
        seen += [d["id"] for d in answer.json()]
        address = answer.links.get("next", {}).get("url", "")
    assert len(seen) == len(set(seen)) == 7
    assert seen == sorted(seen, reverse=True)


async def test_receiver_that_is_away_is_logged_as_unreachable(github: StandinGitHub) -> None:
    scene = await make_scene(github, webhook_url="http://127.0.0.1:1/nobody")
    await github.settled()
    assert {d["status"] for d in await deliveries(scene)} == {"failed to connect to host"}


async def test_slow_receiver_times_out(tmp_path: Path, receiver: Any) -> None:
    receiver.delay = 5.0
    async with running(tmp_path, "--delivery-timeout", "0.2") as github:
        scene = await make_scene(github, webhook_url=receiver.url)
        await github.settled()
        assert {d["status"] for d in await deliveries(scene)} == {"timed out"}
        receiver.released.set()
