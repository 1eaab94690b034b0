"""`just setup` from the printed link to the first pull request, for a GitHub that is not ours."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from harness.browser import browser
from harness.programs import free_port, github_elsewhere, model_standin, program
from harness.stack import FREE_PORTS
from patchwright_local import state
from standin_github.client import StandinGitHub
from standin_model.scripting import bash, issue_with_script

REPOSITORY = "ada/notes"
SCRIPT = issue_with_script({"tools": [bash("echo one > one.txt")]}, {"text": "A file is new."})


@pytest.mark.timeout(240)
async def test_app_that_was_set_up_in_a_browser_works_and_stays(tmp_path: Path) -> None:
    key = f"sk-ant-{uuid4().hex}"
    async with (
        github_elsewhere(tmp_path / "github") as address,
        model_standin(key) as model,
        StandinGitHub(address) as github,
    ):
        ada = await github.create_user("ada")
        await github.create_repository(
            REPOSITORY, {"README.md": "# Notes\n"}, collaborators={"ada": "write"}
        )
        environment = FREE_PORTS | {
            "PATCHWRIGHT_HOME": str(tmp_path / "home"),
            "PATCHWRIGHT_SETUP_PORT": str(free_port()),
            "PATCHWRIGHT_INGEST_PORT": str(free_port()),
            "ANTHROPIC_BASE_URL": model,
            "HOME": str(tmp_path),
            "PATH": os.environ["PATH"],
        }
        webhook_url = f"http://127.0.0.1:{environment['PATCHWRIGHT_INGEST_PORT']}/webhooks/github"
        folder = state.Folder(tmp_path / "home")

        async def solved(title: str) -> str:
            await _ready(webhook_url)
            issue = await github.open_issue(
                REPOSITORY, title, SCRIPT, token=ada.token, labels=["patchwright"]
            )
            async with asyncio.timeout(60):
                while True:
                    for pull in await github.pulls(REPOSITORY):
                        if pull["head_ref"].startswith(f"patchwright/{issue['number']}-"):
                            return str(pull["state"])
                    await asyncio.sleep(0.1)

        options = (f"--github-url={address}", f"--webhook-url={webhook_url}")
        async with program("patchwright", "setup", *options, environment=environment) as setup:
            link = (await setup.line(r"(http\S+/start\?token=\S+)", timeout=60))[1]
            async with browser() as sight:
                await sight.page.goto(link)
                await sight.press("Begin")
                await sight.press("Look at what it may do")
                await sight.press("Create it on GitHub")
                await sight.press("Create GitHub App")
                await _ready(webhook_url)
                await sight.press("Install it on GitHub")
                await sight.page.get_by_label(REPOSITORY).check()
                await sight.press("Install")
                await sight.press("Go on")
                await sight.page.get_by_label("Key", exact=True).fill(key)
                await sight.press("Store the key")
                assert "Every part works" in await sight.look("check")
                await sight.press("Finish")
            await setup.line("is set up")
            assert urlsplit(link).query.partition("=")[2] not in _logged(folder)
            assert await solved("First") == "open"
            assert await setup.stop() == 0

        # From now on it is the App that the stack works for, without any variable.
        async with program("patchwright", "up", environment=environment) as up:
            await up.line("Patchwright is up", timeout=60)
            assert await solved("Second") == "open"
            assert await up.stop() == 0
        shown = "\n".join([*setup.lines, *up.lines, _logged(folder)])
        assert key not in shown
        assert "PRIVATE KEY" not in shown


async def _ready(webhook_url: str) -> None:
    url = webhook_url.replace("/webhooks/github", "/readyz")
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(60):
        while not await _is_up(http, url):
            await asyncio.sleep(0.1)


async def _is_up(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url)).is_success
    except httpx.HTTPError:
        return False


def _logged(folder: state.Folder) -> str:
    return "\n".join(path.read_text() for path in folder.logs.glob("*.log"))
