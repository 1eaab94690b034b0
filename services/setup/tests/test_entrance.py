"""Who gets in: by one link, once, in time, from the pages themselves."""

from __future__ import annotations

import pytest

from patchwright_setup.door import LINK_LIFETIME, SESSION_LIFETIME
from patchwright_setup.page import COOKIE

from .conftest import WANTED, Pages
from .visitor import Visitor

PRIVATE = [
    ("GET", "/"),
    ("GET", "/app"),
    ("POST", "/app"),
    ("GET", "/app/review"),
    ("GET", "/app/existing"),
    ("POST", "/app/existing"),
    ("GET", "/app/again"),
    ("POST", "/app/again"),
    ("GET", "/callback?code=x&state=y"),
    ("GET", "/install"),
    ("GET", "/installed?setup_action=install"),
    ("GET", "/model"),
    ("POST", "/model"),
    ("GET", "/check"),
    ("POST", "/finish"),
    ("GET", "/done"),
]


async def test_looking_at_the_link_does_not_burn_it(pages: Pages) -> None:
    token = pages.door.new_link()
    for _ in range(3):
        assert "Begin" in (await pages.visitor.get(f"/start?token={token}")).text
    await pages.visitor.client.head(f"/start?token={token}")
    entered = await pages.visitor.post("/start")
    assert "Create the GitHub App" in entered.text


async def test_second_use_is_refused_and_says_how_to_get_a_new_link(pages: Pages) -> None:
    token = pages.door.new_link()
    await pages.visitor.enter(token)
    thief = Visitor(pages.visitor.client)
    pages.visitor.client.cookies.clear()
    for answer in (
        await thief.get(f"/start?token={token}"),
        await thief.post("/start", token=token),
    ):
        assert answer.status_code == 403
        assert "already used" in answer.text
        assert "Press Enter in the terminal" in answer.text
    assert COOKIE not in pages.visitor.client.cookies


async def test_link_expires(pages: Pages) -> None:
    token = pages.door.new_link()
    pages.now += LINK_LIFETIME - 1
    await pages.visitor.get(f"/start?token={token}")
    pages.now += 2
    answer = await pages.visitor.post("/start")
    assert answer.status_code == 403
    assert "too old" in answer.text
    assert COOKIE not in pages.visitor.client.cookies


@pytest.mark.parametrize("token", ["", "wrong", "é", "x" * 5000])
async def test_wrong_token_is_refused(pages: Pages, token: str) -> None:
    pages.door.new_link()
    answer = await pages.visitor.get(f"/start?token={token}")
    assert answer.status_code == 403
    answer = await pages.visitor.post("/start", token=token)
    assert answer.status_code == 403
    assert COOKIE not in pages.visitor.client.cookies


async def test_no_link_at_all_lets_nobody_in(pages: Pages) -> None:
    pages.now = 0.0  # a machine that has just been started
    assert (await pages.visitor.post("/start", token="")).status_code == 403


async def test_new_link_replaces_the_one_before_and_then_its_session(pages: Pages) -> None:
    old, new = pages.door.new_link(), pages.door.new_link()
    assert (await pages.visitor.enter(old)).status_code == 403
    assert (await pages.visitor.enter(new)).status_code == 200
    cookie = pages.visitor.client.cookies[COOKIE]
    third = pages.door.new_link()
    assert (await pages.visitor.get("/app")).status_code == 200
    await pages.visitor.client.get("/start", params={"token": third})
    await pages.visitor.client.post(
        "/start", data={"token": third}, headers={"Origin": pages.visitor.origin}
    )
    assert pages.visitor.client.cookies[COOKIE] != cookie
    pages.visitor.client.cookies.set(COOKIE, cookie, domain="127.0.0.1")
    pages.visitor.client.cookies.clear()
    pages.visitor.client.cookies.set(COOKIE, cookie)
    assert (await pages.visitor.get("/app")).status_code == 403


@pytest.mark.parametrize(("method", "path"), PRIVATE)
async def test_every_page_is_shut_without_the_session(pages: Pages, method: str, path: str) -> None:
    pages.door.new_link()
    for cookie in ("", "wrong"):
        if cookie:
            pages.visitor.client.cookies.set(COOKIE, cookie)
        visit = pages.visitor.get if method == "GET" else pages.visitor.post
        answer = await visit(path)
        assert answer.status_code == 403
        assert "no key to these pages" in answer.text
    assert pages.vault.asked == []


async def test_session_ends_by_itself(pages: Pages) -> None:
    await pages.visitor.enter(pages.door.new_link())
    pages.now += SESSION_LIFETIME + 1
    assert (await pages.visitor.get("/app")).status_code == 403


async def test_cookie_is_out_of_reach_of_scripts_and_other_sites(pages: Pages) -> None:
    token = pages.door.new_link()
    await pages.visitor.get(f"/start?token={token}")
    answer = await pages.visitor.client.post(
        "/start", data={"token": token}, headers={"Origin": pages.visitor.origin}
    )
    attributes = answer.headers["set-cookie"].lower()
    assert "httponly" in attributes
    assert "samesite=lax" in attributes
    assert "secure" not in attributes  # http on this machine
    assert token not in answer.headers["location"]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8083", "localhost:8083", "127.0.0.1", "127.0.0.1:80", ""]
)
async def test_dns_rebinding_finds_nothing(pages: Pages, host: str) -> None:
    token = pages.door.new_link()
    await pages.visitor.enter(token)
    for path in ("/", "/start?token=x", "/static/setup.css"):
        answer = await pages.visitor.client.get(path, headers={"Host": host})
        assert answer.status_code == 421
        assert "evil" not in answer.text


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:8083", "https://127.0.0.1:8083", ""]
)
async def test_form_from_another_site_is_refused(pages: Pages, origin: str) -> None:
    token = pages.door.new_link()
    await pages.visitor.get(f"/start?token={token}")
    answer = await pages.visitor.post("/start", headers={"Origin": origin})
    assert answer.status_code == 403
    await pages.visitor.enter(token)
    await pages.visitor.get("/model")
    answer = await pages.visitor.post("/model", headers={"Origin": origin}, key="sk-ant-evil")
    assert answer.status_code == 403
    assert pages.vault.told("put") == []


@pytest.mark.parametrize("csrf", ["", "wrong"])
@pytest.mark.parametrize("path", [path for method, path in PRIVATE if method == "POST"])
async def test_form_without_the_sessions_token_changes_nothing(
    pages: Pages, path: str, csrf: str
) -> None:
    await pages.visitor.enter(pages.door.new_link())
    answer = await pages.visitor.post(path, csrf=csrf, key="sk-ant-x", **WANTED)
    assert answer.status_code == 403
    assert "Nothing was changed" in answer.text
    assert pages.vault.told("put") == []
    assert "/app" in (await pages.visitor.get("/app/review")).url.path


async def test_every_answer_says_what_the_browser_must_not_do(pages: Pages) -> None:
    token = pages.door.new_link()
    seen = [
        await pages.visitor.get(f"/start?token={token}"),
        await pages.visitor.get("/start?token=wrong"),
        await pages.visitor.get("/nowhere"),
        await pages.visitor.get("/static/setup.css"),
        await pages.visitor.client.get("/", headers={"Host": "evil.example"}),
        await pages.visitor.enter(token),
        await pages.visitor.client.post("/start", headers={"Origin": "http://evil.example"}),
    ]
    for answer in seen:
        policy = answer.headers["content-security-policy"]
        for part in ("default-src 'none'", "form-action 'self'", "frame-ancestors 'none'"):
            assert part in policy
        assert "script-src" not in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "strict-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_oversized_or_unmeasured_body_is_not_read(pages: Pages) -> None:
    headers = {"Origin": pages.visitor.origin}
    too_much = await pages.visitor.client.post("/start", content=b"x" * 200_000, headers=headers)
    assert too_much.status_code == 413

    async def trickle():  # type: ignore[no-untyped-def]
        yield b"token=x"

    unmeasured = await pages.visitor.client.post("/start", content=trickle(), headers=headers)
    assert unmeasured.status_code == 411
