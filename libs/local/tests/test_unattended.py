"""`just setup --non-interactive`: the same as the pages, from files and variables."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from harness.nats import NatsServer
from harness.programs import model_standin
from patchwright_common.requests import SETUP
from standin_github.client import CreatedApp, StandinGitHub

from .operating import Said, Terminal, operating

MODEL_KEY = "sk-standin-canary-unattended"


@dataclass(frozen=True)
class Provisioning:
    """A vault without secrets, and what there is to give it."""

    terminal: Terminal
    github: StandinGitHub
    app: CreatedApp

    def given(self, **other: str) -> dict[str, str]:
        """Everything, partly in files."""
        pem = self.terminal.folder / "app.pem"
        pem.write_text(self.app.private_key)
        secret = self.terminal.folder / "webhook-secret"
        secret.write_text(self.app.webhook_secret + "\n")
        return {
            "PATCHWRIGHT_GITHUB_APP_ID": str(self.app.id),
            "PATCHWRIGHT_GITHUB_PRIVATE_KEY_FILE": str(pem),
            "PATCHWRIGHT_WEBHOOK_SECRET_FILE": str(secret),
            "PATCHWRIGHT_APP_SLUG": self.app.slug,
            "PATCHWRIGHT_GITHUB_API_URL": self.github.api_url,
            "ANTHROPIC_API_KEY": MODEL_KEY,
        } | other

    async def install(self) -> None:
        name = f"labs-{self.app.id}/doorbell"
        await self.github.create_repository(name, {"README.md": "x"})
        await self.github.install(self.app.id, [name])


@pytest.fixture
async def provisioning(
    nats: NatsServer, tmp_path: Path, github: StandinGitHub
) -> AsyncIterator[Provisioning]:
    app = await github.create_app(f"Unattended {uuid4().hex[:8]}", webhook_secret=uuid4().hex)
    async with (
        model_standin(MODEL_KEY) as model,
        operating(nats, tmp_path, ANTHROPIC_BASE_URL=model) as terminal,
    ):
        yield Provisioning(terminal, github, app)


def lines(said: Said) -> dict[str, tuple[bool, str]]:
    found = {}
    for line in said.out.splitlines():
        mark, rest = line[:3].strip(), line[3:]
        found[rest[:16].strip()] = (mark == "ok", rest[16:])
    return found


async def test_everything_that_is_given_is_stored_and_tried(provisioning: Provisioning) -> None:
    await provisioning.install()
    said = await provisioning.terminal.setup(**provisioning.given())
    found = lines(said)
    assert said.code == 0, said.all
    assert [found[name] for name in ("github-app", "webhook-secret", "model-key")] == [
        (True, "stored")
    ] * 3
    assert found["check token"][0]
    assert "doorbell" in found["check token"][1]
    assert found["check model"][0]
    # The App has no webhook address here: told, but not a reason to fail.
    assert not found["check webhook"][0]
    secrets = (MODEL_KEY, provisioning.app.webhook_secret, provisioning.app.private_key[60:100])
    assert not [secret for secret in secrets if secret in said.all]


async def test_it_may_be_repeated_with_everything_or_with_nothing(
    provisioning: Provisioning,
) -> None:
    await provisioning.install()
    await provisioning.terminal.setup(**provisioning.given())
    again = lines(await provisioning.terminal.setup(**provisioning.given()))
    assert again["model-key"] == (True, "unchanged")
    bare = await provisioning.terminal.setup()
    assert bare.code == 0, bare.all
    assert lines(bare)["github-app"] == (True, "there already")


async def test_what_is_missing_is_named_with_its_variable(provisioning: Provisioning) -> None:
    said = await provisioning.terminal.setup()
    assert said.code == 1
    found = lines(said)
    for name, variable in {
        "github-app": "PATCHWRIGHT_GITHUB_PRIVATE_KEY_FILE",
        "webhook-secret": "PATCHWRIGHT_WEBHOOK_SECRET",
        "model-key": "ANTHROPIC_API_KEY",
    }.items():
        ok, text = found[name]
        assert not ok
        assert "missing" in text
        assert variable in text
    assert not [name for name in found if name.startswith("check")]


async def test_private_key_without_an_id_and_the_other_way_round(
    provisioning: Provisioning,
) -> None:
    given = provisioning.given()
    lacking = {k: v for k, v in given.items() if k != "PATCHWRIGHT_GITHUB_APP_ID"}
    said = await provisioning.terminal.setup(**lacking)
    assert said.code == 1
    assert "set PATCHWRIGHT_GITHUB_APP_ID" in lines(said)["github-app"][1]
    lacking = {k: v for k, v in given.items() if k != "PATCHWRIGHT_GITHUB_PRIVATE_KEY_FILE"}
    said = await provisioning.terminal.setup(**lacking)
    assert said.code == 1
    assert "PATCHWRIGHT_GITHUB_PRIVATE_KEY_FILE" in lines(said)["github-app"][1]
    await provisioning.terminal.setup(**given)
    other = lacking | {"PATCHWRIGHT_GITHUB_APP_ID": "999"}
    said = await provisioning.terminal.setup(**other)
    assert said.code == 1
    assert "another App" in lines(said)["github-app"][1]


async def test_app_that_is_not_installed_fails_it(provisioning: Provisioning) -> None:
    said = await provisioning.terminal.setup(**provisioning.given())
    assert said.code == 1
    found = lines(said)
    assert "not installed anywhere" in found["check token"][1]
    assert found["check model"][0]


async def test_key_that_the_model_does_not_take_fails_it(provisioning: Provisioning) -> None:
    await provisioning.install()
    given = provisioning.given(ANTHROPIC_API_KEY="sk-canary-wrong")
    said = await provisioning.terminal.setup(**given)
    assert said.code == 1
    found = lines(said)
    assert found["check token"][0]
    assert "key is not accepted" in found["check model"][1]
    assert "canary" not in said.all


async def test_bad_value_is_told_and_the_rest_goes_on(provisioning: Provisioning) -> None:
    given = provisioning.given(PATCHWRIGHT_WEBHOOK_SECRET="canary-short")
    said = await provisioning.terminal.setup(**given)
    assert said.code == 1
    ok, text = lines(said)["webhook-secret"]
    assert not ok
    assert "at least 16 characters" in text
    assert lines(said)["model-key"] == (True, "stored")
    assert "canary" not in said.all


async def test_file_that_is_not_there_is_named(provisioning: Provisioning) -> None:
    given = provisioning.given(ANTHROPIC_API_KEY="", ANTHROPIC_API_KEY_FILE="absent.key")
    said = await provisioning.terminal.setup(**given)
    assert said.code == 1
    assert "absent.key cannot be read" in said.err


async def test_variables_that_are_empty_are_as_if_not_there(provisioning: Provisioning) -> None:
    empty = dict.fromkeys(provisioning.given(), "")
    said = await provisioning.terminal.setup(**empty)
    assert "missing" in lines(said)["github-app"][1]


async def test_vault_that_does_not_answer_is_told(nats: NatsServer, tmp_path: Path) -> None:
    said = await Terminal(tmp_path, nats.environment(SETUP)).setup(ANTHROPIC_API_KEY=MODEL_KEY)
    assert said.code == 1
    assert "could not be asked" in said.err
    assert "Nothing was stored" in said.err
    assert MODEL_KEY not in said.all
