"""Every way in which GitHub can answer ends as a value, a `Retry` or a refusal."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import traceback
from email.utils import formatdate
from typing import Any

import pytest
from pydantic import SecretStr

from patchwright_common.errors import Retry
from patchwright_github import session as module
from patchwright_github.session import RefusedError, Session, client
from standin_github.scene import Scene


def _issues(scene: Scene) -> str:
    return f"repos/{scene.name}/issues"


async def _open(session: Session, scene: Scene, title: str = "One") -> dict[str, Any]:
    made: dict[str, Any] = await session.post(_issues(scene), {"title": title})
    return made


async def test_what_is_made_can_be_read_changed_and_deleted(session: Session, scene: Scene) -> None:
    issue = await _open(session, scene, "Ünïcode ☃")
    path = f"{_issues(scene)}/{issue['number']}"
    assert (await session.get(path))["title"] == "Ünïcode ☃"
    assert (await session.patch(path, {"title": "Two"}))["title"] == "Two"
    comment = await session.post(f"{path}/comments", {"body": "x"})
    where = f"{_issues(scene)}/comments/{comment['id']}"
    await session.delete(where)
    await session.delete(where)
    with pytest.raises(RefusedError) as caught:
        await session.get(where)
    assert caught.value.status == 404


async def test_pages_are_all_read_in_order(session: Session, scene: Scene) -> None:
    for number in range(5):
        await _open(session, scene, str(number))
    path = f"{_issues(scene)}?per_page=2&direction=asc"
    assert [issue["title"] async for issue in session.pages(path)] == ["0", "1", "2", "3", "4"]
    assert len(await scene.github.requests("GET", f"{scene.name}/issues?per_page=2")) == 3


async def test_next_page_on_another_host_does_not_get_the_token(
    session: Session, scene: Scene
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        link = f'<http://127.0.0.1:{other.getsockname()[1]}/x>; rel="next"'
        await scene.github.fault("GET", "/issues", status=200, headers={"Link": link}, body=[{}])
        with pytest.raises(Retry, match="another host"):
            [issue async for issue in session.pages(_issues(scene))]
        other.settimeout(0.1)
        with pytest.raises(TimeoutError):
            other.accept()


@pytest.mark.parametrize(
    ("answer", "after"),
    [
        ((429, {"Retry-After": "7"}, {"message": "Too many"}), 7),
        ((429, {}, {"message": "Too many"}), module.SECONDARY_LIMIT_WAIT),
        ((403, {"Retry-After": "0"}, {"message": "You have exceeded a secondary rate limit"}), 0),
        ((403, {}, {"message": "You have exceeded a secondary rate limit."}), 60),
        ((403, {"Retry-After": "31"}, {"message": "abuse detection mechanism"}), 31),
        ((403, {}, {"message": "You have triggered an abuse detection mechanism."}), 60),
        ((403, {"Retry-After": "5"}, {"message": "Forbidden"}), 5),
        ((503, {"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, {"message": "Away"}), 0),
        ((500, {}, {"message": "Server Error"}), None),
        ((502, {}, "<html>Bad gateway</html>"), None),
        ((503, {"Retry-After": "5"}, {"message": "Unavailable"}), 5),
        ((520, {}, "a status that Python does not know"), None),
        ((408, {}, {"message": "Timeout"}), None),
        ((401, {}, {"message": "Bad credentials"}), None),
        ((200, {}, '{"number": 1, "titl'), None),
    ],
)
async def test_what_time_may_cure_is_a_retry_when_the_server_says(
    session: Session,
    scene: Scene,
    answer: tuple[int, dict[str, str], Any],
    after: float | None,
) -> None:
    status, headers, body = answer
    await scene.github.fault("GET", "/issues", status=status, headers=headers, body=body)
    with pytest.raises(Retry) as caught:
        await session.get(_issues(scene))
    assert caught.value.after == after
    assert await session.get(_issues(scene)) == []


async def test_used_up_quota_is_a_retry_when_it_is_full_again(
    session: Session, scene: Scene
) -> None:
    headers = {
        "x-ratelimit-limit": "5000",
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": str(int(time.time()) + 1800),
    }
    body = {"message": "API rate limit exceeded for installation ID 1."}
    await scene.github.fault("GET", "/issues", status=403, headers=headers, body=body)
    with pytest.raises(Retry, match="rate limit") as caught:
        await session.get(_issues(scene))
    assert caught.value.after == pytest.approx(1800, abs=3)


async def test_date_to_come_back_at_is_kept(session: Session, scene: Scene) -> None:
    """GitHub names seconds; a proxy in front of it may name a date."""
    headers = {"Retry-After": formatdate(time.time() + 90, usegmt=True)}
    await scene.github.fault("GET", "/issues", status=503, headers=headers)
    with pytest.raises(Retry) as caught:
        await session.get(_issues(scene))
    assert caught.value.after == pytest.approx(90, abs=3)


async def test_reset_that_has_passed_waits_a_moment_and_not_negatively(
    session: Session, scene: Scene
) -> None:
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(time.time()) - 50)}
    await scene.github.fault("GET", "/issues", status=429, headers=headers)
    with pytest.raises(Retry) as caught:
        await session.get(_issues(scene))
    assert caught.value.after == 1.0


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (404, {"message": "Not Found"}, "404: Not Found"),
        (410, {"message": "This issue was deleted"}, "410: This issue was deleted"),
        (403, {"message": "Unable to create comment because issue is locked."}, "403: Unable"),
        (422, {"message": "Validation Failed"}, "422: Validation Failed"),
        (422, {"message": "No", "errors": ["a sentence"]}, "422: No: 'a sentence'"),
        (
            422,
            {"message": "Validation Failed", "errors": [{"code": "custom", "message": "exists"}]},
            "422: Validation Failed: 'exists'",
        ),
        (422, {"message": "No", "errors": [{"code": "invalid", "field": "head"}]}, "for 'head'"),
        (400, {"message": "Problems parsing JSON"}, "400: Problems"),
        (451, {"message": "Blocked"}, "451"),
    ],
)
async def test_no_is_a_refusal_with_githubs_reason(
    session: Session, scene: Scene, status: int, body: Any, reason: str
) -> None:
    await scene.github.fault("POST", "/issues", status=status, body=body)
    with pytest.raises(RefusedError) as caught:
        await _open(session, scene)
    assert caught.value.status == status
    assert reason in caught.value.reason


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_renamed_repository_is_followed_with_method_and_body(
    session: Session, scene: Scene, status: int
) -> None:
    there = f"{scene.github.api_url}/{_issues(scene)}"
    await scene.github.fault("POST", "/repos/old/name/issues", status=status, headers={
        "Location": there}, body={"message": "Moved", "url": there},
    )  # fmt: skip
    assert (await session.post("repos/old/name/issues", {"title": "One"}))["title"] == "One"


async def test_redirect_to_another_host_does_not_get_the_token(
    session: Session, scene: Scene
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        location = f"http://127.0.0.1:{other.getsockname()[1]}/x"
        await scene.github.fault("GET", "/issues", status=302, headers={"Location": location})
        with pytest.raises(Retry, match="another host"):
            await session.get(_issues(scene))


async def test_circle_of_redirects_ends(session: Session, scene: Scene) -> None:
    there = f"{scene.github.api_url}/{_issues(scene)}"
    await scene.github.fault("GET", "/issues", times=10, status=307, headers={"Location": there})
    with pytest.raises(Retry, match="circles"):
        await session.get(_issues(scene))
    assert len(await scene.github.requests("GET", f"{scene.name}/issues")) == 4


async def test_write_whose_answer_is_lost_is_a_retry_though_it_happened(
    session: Session, scene: Scene
) -> None:
    await scene.github.fault("POST", "/issues", drop=True, after=True)
    with pytest.raises(Retry, match="did not answer"):
        await _open(session, scene)
    assert [issue["title"] for issue in await session.get(_issues(scene))] == ["One"]


async def test_write_whose_time_is_over_is_not_sent_and_the_next_one_is(
    session: Session, scene: Scene
) -> None:
    for used in (False, True):  # the connection, which is another way to the wire
        with pytest.raises(Retry, match="nothing was sent"):
            await session.post(_issues(scene), {"title": "Late"}, by=time.monotonic() - 0.1)
        await session.post(_issues(scene), {"title": f"{used}"}, by=time.monotonic() + 60)
    assert [i["title"] for i in await session.get(_issues(scene))] == ["True", "False"]


class _OverAfterTheHeaders(float):
    """A time that has come when it is looked at again."""

    looks = 0

    def __lt__(self, _now: float) -> bool:
        self.looks += 1
        return self.looks > 1


async def test_write_whose_time_is_over_behind_its_headers_has_no_body(
    session: Session, scene: Scene
) -> None:
    with pytest.raises(Retry, match="nothing was sent"):
        await session.post(_issues(scene), {"title": "Late"}, by=_OverAfterTheHeaders())
    await session.post(_issues(scene), {"title": "Next"})
    assert [i["title"] for i in await session.get(_issues(scene))] == ["Next"]


async def test_answer_that_is_cut_in_the_middle_is_a_retry() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        async with client(f"http://127.0.0.1:{server.getsockname()[1]}") as connections:
            task = asyncio.create_task(Session(connections, SecretStr("t")).get("x"))
            await asyncio.sleep(0.1)
            peer, _ = server.accept()
            peer.recv(4096)
            head = (
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
            )
            peer.sendall(head + b'{"a": 1}')
            peer.close()
            with pytest.raises(Retry, match="did not answer"):
                await task


async def test_github_that_is_away_is_a_retry() -> None:
    async with client("http://127.0.0.1:9") as connections:
        with pytest.raises(Retry, match="ConnectError"):
            await Session(connections, SecretStr("t")).get("x")


async def test_token_that_is_not_accepted_any_more_is_renewed_once(scene: Scene) -> None:
    refused: list[str] = []

    async def renew(token: SecretStr) -> SecretStr:
        refused.append(token.get_secret_value())
        return SecretStr(await scene.token())

    first = await scene.token()
    async with client(scene.github.api_url) as connections:
        session = Session(connections, SecretStr(first), renew)
        await scene.github.api("DELETE", "/installation/token", token=first)
        made = await session.post(_issues(scene), {"title": "Once"})
        assert made["title"] == "Once"
        assert refused == [first]
        assert len([i async for i in session.pages(_issues(scene))]) == 1
        await scene.github.fault("GET", "/issues", status=401)
        with pytest.raises(Retry):
            await session.get(_issues(scene))
        assert refused == [first]


async def test_token_and_body_are_in_no_error(scene: Scene) -> None:
    async with client(scene.github.api_url) as connections:
        session = Session(connections, SecretStr("ghs_wrong_one"))
        with pytest.raises(Retry) as caught:
            await session.post(_issues(scene), {"title": "s3cret"})
        told = [repr(caught.value), repr(caught.value.__cause__), repr(vars(caught.value))]
        assert "ghs_wrong_one" not in json.dumps(told)
        assert "s3cret" not in json.dumps(told)


@pytest.mark.parametrize("status", [401, 403, 422, 429, 500])
async def test_token_that_an_answer_repeats_is_in_no_error(scene: Scene, status: int) -> None:
    token = await scene.token()
    await scene.github.fault("GET", "/issues", status=status, echo=True)
    async with client(scene.github.api_url) as connections:
        with pytest.raises((Retry, RefusedError)) as caught:
            await Session(connections, SecretStr(token)).get(_issues(scene))
    told = "".join(traceback.format_exception(caught.value))
    assert token not in told
    assert "GitHub" in told


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (
            "repos/ada/calc.js/issues/7/comments?per_page=1",
            "/repos/{owner}/{repo}/issues/{n}/comments",
        ),
        ("/repos/ada/calc/pulls", "/repos/{owner}/{repo}/pulls"),
        ("repositories/77/issues", "/repositories/{id}/issues"),
        ("rate_limit", "/rate_limit"),
    ],
)
def test_span_names_hold_neither_names_nor_ids(path: str, name: str) -> None:
    assert module._template(path.partition("?")[0]) == name
