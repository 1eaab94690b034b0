"""Records what GitHub delivers when people do what triage reacts to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.programs import github_standin
from standin_github.client import StandinGitHub

UNREACHABLE = "http://127.0.0.1:9/"
"""The deliveries fail, and their bodies are in the log all the same."""


async def record(data: Path) -> dict[str, dict[str, Any]]:
    """Payloads by `<event>.<action>`; a comment on a pull request is `pull_comment`."""
    async with github_standin(data) as url, StandinGitHub(url) as github:
        app = await github.create_app("Patchwright", webhook_url=UNREACHABLE)
        ada = (await github.create_user("ada")).token
        name = "ada/calculator"
        await github.create_repository(name, {"README.md": "# Calculator\n"})
        await github.install(app.id, [name])
        await github.open_issue(name, "Division is wrong", "1/2 is 0", token=ada)
        await github.label(name, 1, "patchwright", token=ada)
        comment = await github.comment(name, 1, "Please look", token=ada)
        path = f"/repos/{name}/issues/comments/{comment['id']}"
        await github.api("PATCH", path, {"body": "@patchwright please look"}, token=ada)
        await github.close(name, 1, token=ada)
        payloads = _by_kind(await github.settled())
        await github.commit(name, {"a.txt": "a"}, login="ada", branch="change")
        wanted = {"title": "Change", "head": "change", "base": "main"}
        pull = await github.api("POST", f"/repos/{name}/pulls", wanted, token=ada)
        await github.comment(name, pull["number"], "@patchwright fix", token=ada)
        payloads["pull_comment"] = _by_kind(await github.settled())["issue_comment.created"]
    return payloads


def _by_kind(deliveries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {f"{d['event']}.{d['action']}": json.loads(d["body"]) for d in deliveries}
