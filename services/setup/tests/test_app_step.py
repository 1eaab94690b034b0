"""The App: asked for by manifest, taken over by its code, or brought along."""

from __future__ import annotations

import html
import json
import re

import pytest

from patchwright_common.credentials import Reply

from .conftest import WANTED, Pages
from .double import FACTS

CODE = "a1b2c3d4e5f6code"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nAAAASECRETAAAA\n-----END RSA PRIVATE KEY-----\n"
EXISTING = {
    "github": "https://github.com",
    "app_id": "12345",
    "slug": "https://github.com/apps/my-app",
    "key_text": PEM,
    "webhook_secret": "a-webhook-secret-of-mine",
}


async def test_review_asks_for_the_least_and_says_why(pages: Pages) -> None:
    await pages.review()
    page = pages.visitor.page
    assert page is not None
    raw = re.search(r'name="manifest" value="([^"]*)"', page.text)
    assert raw is not None
    manifest = json.loads(html.unescape(raw[1]))
    assert manifest["default_permissions"] == {
        "contents": "write",
        "pull_requests": "write",
        "issues": "write",
        "checks": "write",
        "actions": "read",
        "metadata": "read",
    }
    assert manifest["default_events"] == ["issues", "issue_comment"]
    assert manifest["public"] is False
    assert manifest["hook_attributes"] == {
        "url": "https://hooks.example.com/webhooks/github",
        "active": True,
    }
    assert manifest["redirect_url"] == f"{pages.visitor.origin}/callback"
    assert manifest["setup_url"] == f"{pages.visitor.origin}/installed"
    action = "https://ghe.example.com/organizations/engines/settings/apps/new?state="
    assert f'action="{action}' in page.text
    policy = page.headers["content-security-policy"]
    assert "form-action 'self' https://ghe.example.com;" in policy
    for why in ("push a branch", "why the repository&#39;s own CI failed", "sets the label"):
        assert why in page.text


async def test_personal_account_has_an_address_of_its_own(pages: Pages) -> None:
    await pages.visitor.enter(pages.door.new_link())
    await pages.visitor.get("/app")
    page = await pages.visitor.post(
        "/app", **WANTED | {"owner": "personal", "github": "github.com"}
    )
    assert 'action="https://github.com/settings/apps/new?state=' in page.text


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        ({"organization": ""}, "organization", "Enter the organisation"),
        ({"organization": "a/b"}, "organization", "letters, digits and dashes"),
        ({"name": " "}, "name", "Enter a name"),
        ({"name": "x" * 35}, "name", "at most 34"),
        ({"github": "http://ghe.example.com"}, "github", "https://"),
        ({"github": "https://a b"}, "github", "Enter an address"),
        ({"github": "https://x@ghe.example.com"}, "github", "without a path"),
        ({"github": "https://ghe.example.com/api/v3"}, "github", "without a path"),
        ({"webhook_url": ""}, "webhook_url", "full address"),
        ({"webhook_url": "https://["}, "webhook_url", "full address"),
        ({"webhook_url": "javascript:alert(1)"}, "webhook_url", "full address"),
        ({"webhook_url": "http://hooks.example.com"}, "webhook_url", "https://"),
        ({"webhook_url": "https://u:p@hooks.example.com"}, "webhook_url", "password"),
        (
            {"webhook_url": "http://127.0.0.1:8080", "github": "https://github.com"},
            "webhook_url",
            "cannot reach 127.0.0.1",
        ),
    ],
)
async def test_wrong_entry_is_explained_at_its_field(
    pages: Pages, changes: dict[str, str], field: str, problem: str
) -> None:
    await pages.visitor.enter(pages.door.new_link())
    await pages.visitor.get("/app")
    page = await pages.visitor.post("/app", **WANTED | changes)
    assert page.status_code == 422
    assert f'href="#{field}"' in page.text
    assert re.search(rf'<input id="{field}"[^>]*aria-describedby="[^"]*{field}-problem"', page.text)
    found = re.search(rf'id="{field}-problem">.*?</p>', page.text, re.DOTALL)
    assert found is not None
    assert problem in found[0]
    assert "autofocus" in page.text
    assert page.text.count('class="problem"') == 1


async def test_code_is_converted_by_the_vault(pages: Pages) -> None:
    state = await pages.review()
    pages.vault.holds("github-app", "webhook-secret")
    page = await pages.visitor.get(f"/callback?code={CODE}&state={state}")
    assert "patchwright-x is installed" in page.text
    assert page.url.path == "/install"
    assert CODE not in str(page.url)
    [asked] = [entry for entry in pages.vault.asked if entry[0] == "convert"]
    assert asked == ("convert", {"code": CODE, "api_url": "https://ghe.example.com/api/v3"}, True)


@pytest.mark.parametrize("state", ["", "wrong", "é"])
async def test_foreign_state_is_refused_and_the_right_one_still_works(
    pages: Pages, state: str
) -> None:
    right = await pages.review()
    page = await pages.visitor.get(f"/callback?code={CODE}&state={state}")
    assert page.status_code == 403
    assert "Nothing was taken over" in page.text
    assert pages.vault.told("convert") == []
    await pages.visitor.get(f"/callback?code={CODE}&state={right}")
    assert len(pages.vault.told("convert")) == 1


async def test_state_is_good_once(pages: Pages) -> None:
    state = await pages.review()
    await pages.visitor.get(f"/callback?code={CODE}&state={state}")
    page = await pages.visitor.get(f"/callback?code=another&state={state}")
    assert page.status_code == 403
    assert len(pages.vault.told("convert")) == 1


async def test_empty_state_matches_nothing_before_anything_was_asked(pages: Pages) -> None:
    await pages.visitor.enter(pages.door.new_link())
    page = await pages.visitor.get(f"/callback?code={CODE}&state=")
    assert page.status_code == 403


@pytest.mark.parametrize("code", ["", "a/../b", "x" * 300, "<script>"])
async def test_callback_with_an_unusable_code_begins_again(pages: Pages, code: str) -> None:
    state = await pages.review()
    page = await pages.visitor.get(f"/callback?code={code}&state={state}")
    assert "no usable code" in page.text
    assert page.url.path == "/app"
    assert pages.vault.told("convert") == []


async def test_failed_storing_loses_nothing_and_is_tried_again(pages: Pages) -> None:
    state = await pages.review()
    failure = Reply(error="the bucket is full", retry_after=5)
    pages.vault.answer("convert", failure, failure, json.dumps(FACTS))
    page = await pages.visitor.get(f"/callback?code={CODE}&state={state}")
    assert page.status_code == 503
    for part in ("the bucket is full.", "Nothing is lost", "Try again"):
        assert part in page.text
    assert CODE not in page.text
    # Whoever leaves the page comes back to it.
    assert "Nothing is lost" in (await pages.visitor.get("/")).text
    assert (await pages.visitor.post("/app/again")).status_code == 503
    pages.vault.holds("github-app", "webhook-secret")
    page = await pages.visitor.post("/app/again")
    assert page.url.path == "/install"
    asked = pages.vault.told("convert")
    assert len(asked) == 3
    assert asked[0] == asked[1] == asked[2]


async def test_code_survives_a_new_link(pages: Pages) -> None:
    state = await pages.review()
    pages.vault.answer("convert", Reply(error="away"), json.dumps(FACTS))
    await pages.visitor.get(f"/callback?code={CODE}&state={state}")
    pages.visitor.client.cookies.clear()
    page = await pages.visitor.enter(pages.door.new_link())
    assert "Nothing is lost" in page.text
    await pages.visitor.post("/app/again")
    assert len(pages.vault.told("convert")) == 2


async def test_refused_code_is_explained_and_leads_to_the_beginning(pages: Pages) -> None:
    state = await pages.review()
    refusal = Reply(error="GitHub does not know this code.", permanent=True)
    pages.vault.answer("convert", refusal)
    page = await pages.visitor.get(f"/callback?code={CODE}&state={state}")
    assert page.status_code == 502
    assert "GitHub does not know this code." in page.text
    assert "Start over" in page.text
    await pages.visitor.get("/app")
    page = await pages.visitor.post("/app/again")
    assert page.url.path == "/app"
    assert len(pages.vault.told("convert")) == 1
    assert pages.visitor.hidden()
    assert await pages.visitor.get("/app/review")
    assert pages.visitor.state() != state


async def test_existing_app_is_sealed_to_the_vault(pages: Pages) -> None:
    await pages.visitor.enter(pages.door.new_link())
    await pages.visitor.get("/app/existing")
    page = await pages.visitor.post("/app/existing", **EXISTING)
    assert page.status_code == 200
    puts = [entry for entry in pages.vault.asked if entry[0] == "put"]
    assert all(sealed for _, _, sealed in puts)
    assert [body["name"] for _, body, _ in puts] == ["webhook-secret", "github-app"]
    assert json.loads(puts[1][1]["value"]) == {
        "app_id": "12345",
        "private_key": PEM,
        "slug": "my-app",
        "api_url": "https://api.github.com",
        "html_url": "https://github.com/apps/my-app",
    }


async def test_key_file_can_be_uploaded(pages: Pages) -> None:
    visitor = pages.visitor
    await visitor.enter(pages.door.new_link())
    await visitor.get("/app/existing")
    answer = await visitor.client.post(
        "/app/existing",
        data=visitor.hidden() | EXISTING | {"key_text": ""},
        files={"key_file": ("app.pem", b"\xef\xbb\xbf" + PEM.encode())},
        headers={"Origin": visitor.origin},
    )
    assert answer.status_code == 303
    assert json.loads(pages.vault.told("put")[1]["value"])["private_key"] == PEM


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"app_id": "abc"}, "app_id"),
        ({"slug": "a b"}, "slug"),
        ({"key_text": ""}, "key_file"),
        ({"key_text": "-----BEGIN CERTIFICATE-----SECRET"}, "key_text"),
        ({"webhook_secret": "SECRET"}, "webhook_secret"),
    ],
)
async def test_wrong_app_is_explained_without_repeating_its_secrets(
    pages: Pages, changes: dict[str, str], field: str
) -> None:
    await pages.visitor.enter(pages.door.new_link())
    await pages.visitor.get("/app/existing")
    page = await pages.visitor.post("/app/existing", **EXISTING | changes)
    assert page.status_code == 422
    assert f'href="#{field}"' in page.text
    assert "SECRET" not in page.text
    assert EXISTING["webhook_secret"] not in page.text
    assert pages.vault.told("put") == []


async def test_refusal_of_the_vault_is_shown_without_the_secrets(pages: Pages) -> None:
    await pages.visitor.enter(pages.door.new_link())
    await pages.visitor.get("/app/existing")
    pages.vault.answer("put", Reply(error="The key is not an RSA key in PEM.", permanent=True))
    page = await pages.visitor.post("/app/existing", **EXISTING)
    assert page.status_code == 422
    assert "not an RSA key" in page.text
    assert "SECRET" not in page.text
