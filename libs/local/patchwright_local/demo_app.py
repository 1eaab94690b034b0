"""The demo's App on the GitHub stand-in, with a repository and a person who may ask."""

from __future__ import annotations

import json
from pathlib import Path

import httpx

from patchwright_local.private import write_private
from patchwright_local.processes import StartError
from standin_github.client import StandinGitHub

APP_NAME = "Patchwright"
OWNER = "doorbell-labs"
REPOSITORY = f"{OWNER}/doorbell"
PERSON = "ada"


async def demo_app(root: Path, github_url: str, webhook_url: str) -> dict[str, str]:
    """The App's credentials as the vault's environment; made once in the folder `root`.

    Raises `StartError` when an earlier start was cut off in the middle.
    """
    path = root / "demo.json"
    if not path.exists():
        try:
            made = await make_demo(github_url, webhook_url)
        except httpx.HTTPStatusError as refused:
            raise StartError(
                "The demo's world is half made, because an earlier start was cut off: delete "
                f"{root / 'github'} and start again. ({refused})"
            ) from None
        write_private(path, json.dumps(made))
    made = json.loads(path.read_text())
    async with StandinGitHub(github_url) as github:
        # The port may be another one than when the App was made.
        await github.change_app(int(made["app_id"]), webhook_url=webhook_url)
    return {
        "PATCHWRIGHT_GITHUB_APP_ID": made["app_id"],
        "PATCHWRIGHT_GITHUB_PRIVATE_KEY": made["private_key"],
        "PATCHWRIGHT_WEBHOOK_SECRET": made["webhook_secret"],
    }


async def make_demo(github_url: str, webhook_url: str) -> dict[str, str]:
    """An App, a repository that it is installed on, and a person who may ask."""
    files = {
        path.name: path.read_text()
        for path in sorted((Path(__file__).parent / "demo_repository").iterdir())
        if path.is_file()
    }
    async with StandinGitHub(github_url) as github:
        app = await github.create_app(APP_NAME, webhook_url=webhook_url)
        person = await github.create_user(PERSON)
        await github.create_repository(REPOSITORY, files, collaborators={PERSON: "write"})
        await github.install(app.id, [REPOSITORY])
    return {
        "app_id": str(app.id),
        "private_key": app.private_key,
        "webhook_secret": app.webhook_secret,
        "person_token": person.token,
    }
