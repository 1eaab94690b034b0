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
from harness.programs import Program, free_port, github_elsewhere, model_standin, program
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
            assert await _solved(github, webhook_url, ada.token) == "open"
            assert await setup.stop() == 0

        # From now on it is the App that the stack works for, without any variable.
        async with program("patchwright", "up", environment=environment) as up:
            await up.line("Patchwright is up", timeout=60)
            assert await _solved(github, webhook_url, ada.token) == "open"
            assert await up.stop() == 0
        shown = "\n".join([*setup.lines, *up.lines, _logged(folder)])
        assert key not in shown
        assert "PRIVATE KEY" not in shown


@pytest.mark.timeout(180)
async def test_app_that_was_brought_by_variables_works_and_its_secrets_rotate(
    tmp_path: Path,
) -> None:
    key, webhook_secret = f"sk-ant-{uuid4().hex}", uuid4().hex
    async with (
        github_elsewhere(tmp_path / "github") as address,
        model_standin(key) as model,
        StandinGitHub(address) as github,
    ):
        port = free_port()
        webhook_url = f"http://127.0.0.1:{port}/webhooks/github"
        app = await github.create_app(
            "Brought", webhook_url=webhook_url, webhook_secret=webhook_secret
        )
        ada = await github.create_user("ada")
        await github.create_repository(
            REPOSITORY, {"README.md": "# Notes\n"}, collaborators={"ada": "write"}
        )
        await github.install(app.id, [REPOSITORY])
        (tmp_path / "app.pem").write_text(app.private_key)
        environment = FREE_PORTS | {
            "PATCHWRIGHT_HOME": str(tmp_path / "home"),
            "PATCHWRIGHT_INGEST_PORT": str(port),
            "ANTHROPIC_BASE_URL": model,
            "HOME": str(tmp_path),
            "PATH": os.environ["PATH"],
        }
        given = {
            "PATCHWRIGHT_GITHUB_APP_ID": str(app.id),
            "PATCHWRIGHT_GITHUB_PRIVATE_KEY_FILE": str(tmp_path / "app.pem"),
            "PATCHWRIGHT_GITHUB_API_URL": github.api_url,
            "PATCHWRIGHT_WEBHOOK_SECRET": webhook_secret,
        }
        unfinished = await _ended("setup", "--non-interactive", environment=environment | given)
        assert unfinished.process.returncode == 1
        await unfinished.line("model-key +missing: set ANTHROPIC_API_KEY")

        whole = environment | given | {"ANTHROPIC_API_KEY": key}
        finished = await _ended("setup", "--non-interactive", environment=whole)
        assert finished.process.returncode == 0, "\n".join(finished.lines)
        await finished.line(f"check token .*{REPOSITORY}")
        await finished.line("is set up")

        async with program("patchwright", "up", environment=environment) as up:
            await up.line("Patchwright is up", timeout=60)
            for what in ("key", "webhook-secret"):
                rotated = await _ended("secrets", "rotate", what, environment=environment)
                assert rotated.process.returncode == 0, "\n".join(rotated.lines)
            shown = await _ended("secrets", "list", environment=environment)
            await shown.line("webhook-secret .* 2 ")
            assert await _solved(github, webhook_url, ada.token) == "open"
            assert await up.stop() == 0
        said = "\n".join(
            line for each in (unfinished, finished, rotated, shown, up) for line in each.lines
        )
        for secret in (key, webhook_secret, "PRIVATE KEY-----"):
            assert secret not in said + _logged(state.Folder(tmp_path / "home"))


async def _ended(*arguments: str, environment: dict[str, str]) -> Program:
    """A command of Patchwright, with all that it said."""
    async with program("patchwright", *arguments, environment=environment) as running:
        await asyncio.wait_for(running.process.wait(), 90)
    return running


async def _solved(github: StandinGitHub, webhook_url: str, token: str) -> str:
    """The state of the pull request for a new issue."""
    await _ready(webhook_url)
    issue = await github.open_issue(REPOSITORY, "One", SCRIPT, token=token, labels=["patchwright"])
    async with asyncio.timeout(60):
        while True:
            for pull in await github.pulls(REPOSITORY):
                if pull["head_ref"].startswith(f"patchwright/{issue['number']}-"):
                    return str(pull["state"])
            await asyncio.sleep(0.1)


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
