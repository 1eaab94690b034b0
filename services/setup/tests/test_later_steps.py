"""Installing, the model's key, the checks, the end; and coming back in the middle."""

from __future__ import annotations

import json

import pytest

from patchwright_common.credentials import Reply

from .conftest import Pages
from .double import FINE

KEY = "sk-ant-0123456789abcdef"
WRONG = json.dumps({"ok": False, "detail": "It is <b>broken</b>.", "advice": "Mend it."})


@pytest.fixture
async def inside(pages: Pages) -> Pages:
    """With an App that is installed, and no model's key yet."""
    pages.vault.holds("github-app", "webhook-secret", "transport-key")
    await pages.visitor.enter(pages.door.new_link())
    return pages


@pytest.mark.parametrize(
    ("records", "check", "path"),
    [
        ((), FINE, "/app"),
        (("github-app",), FINE, "/app"),
        (("webhook-secret", "model-key"), FINE, "/app"),
        (("github-app", "webhook-secret"), WRONG, "/install"),
        (("github-app", "webhook-secret"), FINE, "/model"),
        (("github-app", "webhook-secret", "model-key"), FINE, "/check"),
    ],
)
async def test_set_up_goes_on_at_the_first_step_that_is_missing(
    pages: Pages, records: tuple[str, ...], check: str, path: str
) -> None:
    pages.vault.holds(*records)
    pages.vault.answer("check", check)
    page = await pages.visitor.enter(pages.door.new_link())
    assert page.url.path == path
    assert page.text.count('aria-current="step"') == 1


async def test_installation_is_asked_from_github_and_not_believed(inside: Pages) -> None:
    inside.vault.answer("check", WRONG)
    page = await inside.visitor.get("/installed?installation_id=1&setup_action=install")
    assert page.url.path == "/install"
    assert "It is &lt;b&gt;broken&lt;/b&gt;." in page.text
    assert "Mend it." in page.text
    assert 'href="https://ghe.example.com/github-apps/patchwright-x/installations/new"' in page.text


async def test_installation_that_waits_for_an_owner_is_explained(inside: Pages) -> None:
    page = await inside.visitor.get("/installed?setup_action=request")
    assert "asked an owner of the organisation" in page.text
    assert "asked an owner" not in (await inside.visitor.get("/install")).text


async def test_model_key_goes_sealed_to_the_vault_and_is_never_shown(inside: Pages) -> None:
    await inside.visitor.get("/model")
    page = await inside.visitor.post("/model", key=f"  {KEY}\n")
    [(_, body, sealed)] = [entry for entry in inside.vault.asked if entry[0] == "put"]
    assert body == {"name": "model-key", "value": KEY}
    assert sealed
    assert KEY not in page.text
    assert "is stored" in page.text


async def test_wrong_model_key_is_explained_and_not_repeated(inside: Pages) -> None:
    await inside.visitor.get("/model")
    for entered in ("", "two words"):
        page = await inside.visitor.post("/model", key=entered)
        assert page.status_code == 422
        assert "two words" not in page.text
    inside.vault.answer("put", Reply(error="The vault does not like it.", permanent=True))
    page = await inside.visitor.post("/model", key=KEY)
    assert page.status_code == 422
    assert "does not like it" in page.text
    assert KEY not in page.text


async def test_model_key_that_is_there_can_be_kept(inside: Pages) -> None:
    inside.vault.holds("github-app", "webhook-secret", "model-key")
    page = await inside.visitor.get("/model")
    assert "since 2026-09-21 14:13 UTC" in page.text
    assert "Keep it and go on" in page.text


async def test_check_tries_each_part_and_says_what_to_do(inside: Pages) -> None:
    inside.vault.asked.clear()
    inside.vault.answer("check", WRONG)
    page = await inside.visitor.get("/check")
    asked = {body["what"] for body in inside.vault.told("check")}
    assert asked == {"webhook", "token", "model"}
    assert page.text.count("Mend it.") == 3
    assert "Not every part works yet" in page.text
    inside.vault.answer("check", FINE)
    assert "Every part works" in (await inside.visitor.get("/check")).text


async def test_vault_that_cannot_check_is_a_finding(inside: Pages) -> None:
    inside.vault.answer("check", Reply(error="GitHub did not answer"))
    page = await inside.visitor.get("/check")
    assert page.status_code == 200
    assert page.text.count("This could not be checked: GitHub did not answer.") == 3


async def test_last_page_ends_set_up_and_only_after_the_button(inside: Pages) -> None:
    assert (await inside.visitor.get("/done")).url.path == "/check"
    assert inside.finished == 0
    inside.vault.holds("github-app", "webhook-secret", "model-key")
    await inside.visitor.get("/check")
    page = await inside.visitor.post("/finish")
    assert page.url.path == "/done"
    assert "Patchwright is set up" in page.text
    assert "its link is dead" in page.text
    assert inside.finished == 1


async def test_unfinished_set_up_can_be_ended_and_says_what_is_left(inside: Pages) -> None:
    inside.vault.answer("check", WRONG)
    await inside.visitor.get("/check")
    page = await inside.visitor.post("/finish")
    assert "something left to do" in page.text
    assert page.text.count("Mend it.") == 3


async def test_silent_vault_is_explained_on_every_page(inside: Pages) -> None:
    await inside.visitor.get("/model")
    inside.vault.answer("list", Reply(error="no answer on the bus"))
    inside.vault.answer("put", Reply(error="no answer on the bus"))
    for path in ("/", "/app", "/install", "/model", "/check"):
        page = await inside.visitor.get(path)
        assert page.status_code == 503
        assert "Nothing was lost or changed" in page.text
        assert f'href="{path}"' in page.text


async def test_key_is_not_lost_silently_when_the_vault_cannot_store_it(inside: Pages) -> None:
    await inside.visitor.get("/model")
    inside.vault.answer("put", Reply(error="the bucket is full"))
    page = await inside.visitor.post("/model", key=KEY)
    assert page.status_code == 503
    assert "the bucket is full" in page.text
    assert KEY not in page.text
