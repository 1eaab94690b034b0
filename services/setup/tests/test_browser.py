"""Set-up from the printed link to the finished page, in a real Chromium with everything real."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import nats
import pytest

from harness.browser import PHONE, Sight, browser
from harness.programs import Program
from patchwright_common.bus import Bus
from patchwright_common.credentials import Vault
from patchwright_common.permissions import inbox

from .world import LINK, ORGANIZATION, PERSON, READY, World, world


@pytest.fixture(name="world")
async def _world(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def link(setup: Program) -> str:
    return (await setup.line(LINK))[1]


async def test_personal_account_without_scripts(world: World) -> None:
    async with world.setup() as setup, browser(java_script_enabled=False) as sight:
        await sight.page.goto(await link(setup))
        assert "Set Patchwright up" in await sight.look("1-start")
        await sight.press("Begin")
        await sight.look("2-app")
        await sight.press("Look at what it may do")
        assert "push a branch" in await sight.look("3-review")
        await sight.press("Create it on GitHub")
        await sight.look("4-github-create")
        await sight.press("Create GitHub App")
        assert "not installed anywhere" in await sight.look("5-install")
        await world.ingest.line(READY)  # it has the new webhook secret
        await sight.press("Install it on GitHub")
        await sight.look("6-github-install")
        await sight.page.get_by_label(f"{PERSON}/notes").check()
        await sight.press("Install")
        assert f"{PERSON}/notes" in await sight.look("7-installed")
        await sight.press("Go on")
        await sight.look("8-model")
        await sight.page.get_by_label("Key", exact=True).fill(world.model_key)
        await sight.press("Store the key")
        assert "Every part works" in await sight.look("9-check")
        await sight.press("Finish")
        assert "Patchwright is set up" in await sight.look("10-done")
        assert await setup.process.wait() == 0
        await _nothing_secret_was_shown(world, setup, sight)


async def _nothing_secret_was_shown(world: World, setup: Program, sight: Sight) -> None:
    """In no page, address or line of the log; GitHub's code in no address but its own two."""
    client = await nats.connect(world.nats.url, inbox_prefix=inbox("ingest"))
    [webhook_secret] = await Vault(Bus(client), "ingest").webhook_secrets()
    await client.close()
    shown = "\n".join([*sight.texts, *sight.urls, *setup.lines])
    for secret in (world.model_key, webhook_secret.secret.get_secret_value(), "PRIVATE KEY-----"):
        assert secret not in shown
    token = parse_qs(urlsplit(await link(setup)).query)["token"][0]
    assert [token in line for line in setup.lines].count(True) == 1
    [code] = {
        q["code"][0] for url in sight.urls if (q := parse_qs(urlsplit(url).query)).get("code")
    }
    assert code not in "\n".join([*sight.texts, *setup.lines])
    assert sum(code in url for url in sight.urls) == 1
    cookies = await sight.page.context.cookies()
    assert all(cookie["value"] not in shown for cookie in cookies)
    places = {urlsplit(url).netloc for url in sight.urls}
    assert places == {urlsplit(await link(setup)).netloc, urlsplit(world.github.base_url).netloc}


async def test_organisation_with_the_keyboard_alone(world: World) -> None:
    async with world.setup() as setup, browser() as sight:
        keyboard = sight.page.keyboard
        await sight.page.goto(await link(setup))

        async def follow(name: str) -> None:
            await sight.tab_to(name)
            async with sight.page.expect_navigation():
                await keyboard.press("Enter")

        await follow("Begin")
        await sight.tab_to("My personal account")
        await keyboard.press("ArrowDown")
        await follow("Look at what it may do")
        # The organisation was forgotten: the summary has the focus, and leads to the field.
        assert "Enter the organisation" in await sight.look("app-problem")
        assert await sight.page.evaluate("() => document.activeElement.id") == "problems"
        await sight.tab_to("Organisation")
        await keyboard.press("Enter")
        assert await sight.page.evaluate("() => document.activeElement.id") == "organization"
        await keyboard.type(ORGANIZATION)
        await follow("Look at what it may do")
        assert ORGANIZATION in await sight.look("review-organisation")
        await follow("Create it on GitHub")
        await follow(f"Create GitHub App for {ORGANIZATION}")
        await world.ingest.line(READY)
        await follow("Install it on GitHub")
        await sight.tab_to(f"{ORGANIZATION}/loom")
        await keyboard.press("Space")
        await follow("Install")
        assert f"{ORGANIZATION}/loom" in await sight.look("installed-organisation")
        await follow("Go on")
        await sight.tab_to("Key")
        await keyboard.type(world.model_key)
        await follow("Store the key")
        await follow("Finish")
        assert "Patchwright is set up" in await sight.look("done")
        assert await setup.process.wait() == 0


async def test_mishaps_on_a_phone(world: World) -> None:
    """GitHub fails once, the model's key is wrong, and set-up is begun again in between."""
    async with browser(PHONE, has_touch=True) as sight:
        async with world.setup() as setup:
            await sight.page.goto(await link(setup))
            await sight.press("Begin")
            await sight.page.get_by_label("Webhook address").fill("nowhere")
            await sight.page.get_by_label("Name of the App").fill("")
            await sight.press("Look at what it may do")
            assert "Some things need another look" in await sight.look("app-problems")
            await sight.page.get_by_label("Webhook address").fill(world.webhook_url)
            await sight.page.get_by_label("Name of the App").fill("Patchwright Phone")
            await sight.press("Look at what it may do")
            await sight.look("review-phone")
            await sight.press("Create it on GitHub")
            await world.github.fault("POST", "/app-manifests/.*", times=1, status=500)
            await sight.press("Create GitHub App")
            assert "Nothing is lost" in await sight.look("again")
            await sight.press("Try again")
            assert sight.path == "/install"
            await world.ingest.line(READY)
            await sight.page.goto("about:blank")
        async with world.setup() as setup:
            await sight.page.goto(await link(setup))
            await sight.press("Begin")
            assert sight.path == "/install"
            await sight.press("Install it on GitHub")
            await sight.page.get_by_label(f"{PERSON}/notes").check()
            await sight.press("Install")
            await sight.press("Go on")
            await sight.press("Store the key")
            await sight.look("model-problem")
            await sight.page.get_by_label("Key", exact=True).fill("sk-ant-mistyped")
            await sight.press("Store the key")
            text = await sight.look("check-problem")
            assert "The key is not accepted" in text
            await sight.press("Model's key")
            assert "Keep it and go on" in await sight.look("model-again")
            await sight.page.get_by_label("New key").fill(world.model_key)
            await sight.press("Replace the key")
            assert "Every part works" in await sight.look("check-phone")
            await sight.press("Finished: App")
            await sight.look("app-again")
            await sight.press("I already have an App")
            await sight.look("existing")
            await sight.press("Store it in the vault")
            assert "Some things need another look" in await sight.look("existing-problems")


async def test_link_works_for_one_browser_only(world: World) -> None:
    async with world.setup() as setup:
        async with browser() as preview:
            await preview.page.goto(await link(setup))
        async with browser() as first:
            await first.page.goto(await link(setup))
            await first.press("Begin")
            assert first.path == "/app"
            async with browser() as second:
                await second.page.goto(await link(setup))
                text = await second.look("link-used")
                assert "Press Enter in the terminal" in text
                origin = (await link(setup)).partition("/start")[0]
                await second.page.goto(f"{origin}/app")
                assert "no key to these pages" in await second.look("no-session")
            await first.page.reload()
            assert first.path == "/app"
