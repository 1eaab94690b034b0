"""Tokens that the real vault mints at a GitHub that verifies: how far they reach, how often."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from pydantic import SecretStr

from patchwright_common.credentials import (
    EXPIRY_MARGIN,
    Reply,
    Request,
    TokenRequest,
    Vault,
    digest,
)
from patchwright_common.errors import Permanent
from patchwright_vault.tokens import REPLACEMENT_INTERVAL

from .looking import bytes_on_disk, everything_stored, lines_of
from .serving import MODEL_KEY, WEBHOOK_SECRET, Serving, request

pytestmark = pytest.mark.asyncio(loop_scope="module")
CALLERS = ("triage", "runner", "publisher")
HANG = 60.0


@dataclass
class Hanging:
    """Requests for one installation, whose answer never comes."""

    replies: list[asyncio.Task[Reply]]
    began: float = field(default_factory=time.monotonic)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hanging(vault: Serving) -> Hanging:
    """They begin before the first test, and the last ones see how they end."""
    [slow] = await vault.install("slow")
    path = f"/app/installations/{slow.installation_id}/access_tokens"
    await vault.github.fault("POST", path, times=9, delay=HANG)
    asking = [asyncio.create_task(vault.ask("runner", "token", slow)) for _ in range(3)]
    await asyncio.sleep(0.3)
    return Hanging(asking)


async def test_slow_installation_holds_up_no_other(
    vault: Serving, hanging: Hanging, ours: TokenRequest
) -> None:
    started = time.monotonic()
    await vault.token("runner", ours)
    assert (await vault.ask("runner", "model-key")).value == MODEL_KEY
    assert time.monotonic() - started < 3
    assert not any(reply.done() for reply in hanging.replies)


WRITES: dict[str, tuple[str, str, Any]] = {
    "an issue": ("POST", "/issues", {"title": "x"}),
    "a comment": ("POST", "/issues/1/comments", {"body": "x"}),
    "a label": ("POST", "/issues/1/labels", {"labels": ["bug"]}),
    "a title": ("PATCH", "/issues/1", {"title": "x"}),
    "a branch": ("POST", "/git/refs", {"ref": "refs/heads/x", "sha": "HEAD"}),
    "a check": ("POST", "/check-runs", {"name": "x", "head_sha": "HEAD"}),
    "a pull request": ("POST", "/pulls", {"title": "x", "head": "x", "base": "main"}),
}


async def issue(vault: Serving, name: str) -> None:
    person = await vault.github.create_user(f"ada-{name.partition('/')[0]}")
    await vault.github.set_collaborator(name, person.login, "write")
    await vault.github.open_issue(name, "Division is wrong", token=person.token)


async def head(vault: Serving, name: str, token: str) -> str:
    found = await vault.github.api("GET", f"/repos/{name}/branches/main", token=token)
    return str(found["commit"]["sha"])


@pytest.mark.parametrize("caller", ["triage", "runner"])
async def test_who_only_reads_cannot_write(vault: Serving, ours: TokenRequest, caller: str) -> None:
    token = await vault.token(caller, ours)
    name = await vault.name_of(ours, token)
    await issue(vault, name)
    sha = await head(vault, name, token)
    for method, path, body in WRITES.values():
        wanted = {name: sha if value == "HEAD" else value for name, value in body.items()}
        assert await vault.status(method, f"/repos/{name}{path}", token, wanted) in (403, 404)
    assert await vault.status("GET", f"/repos/{name}/commits/main", token) == 200
    issues = await vault.status("GET", f"/repos/{name}/issues/1/comments", token)
    assert issues == (200 if caller == "triage" else 403)


async def test_publisher_can_write_what_it_publishes(vault: Serving, ours: TokenRequest) -> None:
    token = await vault.token("publisher", ours)
    name = await vault.name_of(ours, token)
    await issue(vault, name)
    sha = await head(vault, name, token)
    comment = await vault.status("POST", f"/repos/{name}/issues/1/comments", token, {"body": "x"})
    reference = {"ref": "refs/heads/x", "sha": sha}
    assert comment == 200
    assert await vault.status("POST", f"/repos/{name}/git/refs", token, reference) == 200
    check = {"name": "patchwright", "head_sha": sha}
    assert await vault.status("POST", f"/repos/{name}/check-runs", token, check) == 200


@pytest.mark.parametrize("caller", CALLERS)
async def test_token_reaches_one_repository_of_its_installation(
    vault: Serving, caller: str
) -> None:
    one, other = await vault.install("one", "other")
    token, others = await vault.token(caller, one), await vault.token(caller, other)
    assert token != others
    name = await vault.name_of(other, others)
    assert await vault.status("GET", f"/repos/{name}/commits/main", others) == 200
    assert await vault.status("GET", f"/repos/{name}/commits/main", token) in (403, 404)
    covered = await vault.github.api("GET", "/installation/repositories", token=token)
    assert [repository["id"] for repository in covered["repositories"]] == [one.repository_id]


async def test_callers_do_not_share_a_token(vault: Serving, ours: TokenRequest) -> None:
    tokens = {await vault.token(caller, ours) for caller in CALLERS}
    assert len(tokens) == 3


async def test_token_is_minted_once_and_then_remembered(vault: Serving, ours: TokenRequest) -> None:
    first = await vault.ask("runner", "token", ours)
    assert first.expires_at - time.time() == pytest.approx(3600, abs=10)
    assert await vault.token("runner", ours) == first.value
    assert await vault.minted(ours) == 1


async def test_jobs_do_not_share_a_token(vault: Serving, ours: TokenRequest) -> None:
    """So that the end of one can end its tokens and no other's."""
    other = await vault.job(ours)
    assert await vault.token("runner", ours) != await vault.token("runner", other)


async def test_those_who_ask_at_once_cause_one_request(vault: Serving, ours: TokenRequest) -> None:
    path = f"/app/installations/{ours.installation_id}/access_tokens"
    await vault.github.fault("POST", path, delay=0.5)
    tokens = await asyncio.gather(*(vault.token("runner", ours) for _ in range(25)))
    assert len(set(tokens)) == 1
    assert await vault.minted(ours) == 1


async def test_token_is_minted_again_shortly_before_it_expires(
    vault: Serving, ours: TokenRequest
) -> None:
    await vault.github.change_settings(token_lifetime=EXPIRY_MARGIN + 2)
    try:
        first = await vault.token("runner", ours)
        assert await vault.token("runner", ours) == first
        await asyncio.sleep(2.1)
        assert await vault.token("runner", ours) != first
        assert await vault.minted(ours) == 2
    finally:
        await vault.github.change_settings(token_lifetime=3600)


async def test_token_that_github_refused_is_replaced(vault: Serving, ours: TokenRequest) -> None:
    first = await vault.token("runner", ours)
    named = ours.model_copy(update={"refused": digest(SecretStr(first))})
    second = await vault.token("runner", named)
    assert second != first
    # Whoever is behind gets the one that is newer than what was refused.
    assert await vault.token("runner", named) == second
    assert await vault.token("runner", ours) == second
    assert await vault.minted(ours) == 2


async def test_calling_every_token_bad_does_not_use_up_the_rate_limit(
    vault: Serving, ours: TokenRequest
) -> None:
    token = await vault.token("runner", ours)
    for _ in range(10):
        named = ours.model_copy(update={"refused": digest(SecretStr(token))})
        reply = await vault.ask("runner", "token", named)
        token = reply.value or token
    assert "refused a token that is new" in reply.error
    assert not reply.permanent
    assert 0 < (reply.retry_after or 0) <= REPLACEMENT_INTERVAL
    assert await vault.minted(ours) == 2
    assert await vault.token("runner", ours) == token  # for everybody else it is there


def limited(**headers: str) -> dict[str, Any]:
    body = {"message": "API rate limit exceeded for installation ID 1."}
    return {"status": 403, "headers": {k.replace("_", "-"): v for k, v in headers.items()},
            "body": body}  # fmt: skip


def soon() -> str:
    return str(int(time.time()) + 120)


SUSPENDED = {"message": "This installation has been suspended"}
UNKNOWN_APP = {"message": "Integration not found"}
RETRIED: dict[str, dict[str, Any]] = {
    "500": {"status": 500},
    "502 in HTML": {"status": 502, "body": "<html>"},
    "503": {"status": 503, "headers": {"retry-after": "7"}},
    "401": {"status": 401, "body": {"message": "A JSON web token could not be decoded"}},
    "an unknown App": {"status": 404, "body": UNKNOWN_APP},
    "403 without a reason": {"status": 403},
    "429": {"status": 429, "headers": {"retry-after": "7"}},
    "a secondary limit": limited(retry_after="7"),
    "a limit by a date": limited(retry_after="Wed, 21 Oct 2015 07:28:00 GMT"),
    "an odd limit": limited(retry_after="²", x_ratelimit_remaining="0", x_ratelimit_reset="³"),
    "a redirect": {"status": 301, "headers": {"location": "http://127.0.0.1:9/"}},
    "a dropped connection": {"drop": True},
    "half an answer": {"status": 201, "body": '{"token": "ghs_'},
    "an answer without a token": {"status": 201, "body": {"expires_at": "2099-01-01T00:00:00Z"}},
    "an answer without an end": {"status": 201, "body": {"token": "ghs_x"}},
    "a list": {"status": 201, "body": "[]"},
    "an odd time": {"status": 201, "body": {"token": "ghs_x", "expires_at": "ghs_y"}},
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "404": ({"status": 404, "body": {"message": "Not Found"}}, "not installed"),
    "422": ({"status": 422, "body": {"message": "There is ghs_zzz"}}, "lacks a permission"),
    "a suspension": ({"status": 403, "body": SUSPENDED}, "suspended"),
}


WAITS = {"a limit by a date": 0.0, "an odd limit": 60.0}
"""Seconds: a date that has passed, and what GitHub asks for where it names no time."""


@pytest.mark.parametrize("fault_name", RETRIED)
async def test_failure_that_may_pass_is_answered_as_one(
    vault: Serving, ours: TokenRequest, fault_name: str
) -> None:
    fault = RETRIED[fault_name]
    path = f"/app/installations/{ours.installation_id}/access_tokens"
    await vault.github.fault("POST", path, **fault)
    reply = await vault.ask("runner", "token", ours)
    assert reply.error
    assert "log says more" not in reply.error  # foreseen
    assert "ghs_" not in reply.error
    assert not reply.permanent
    assert reply.value is None
    said = 7 if "'retry-after': '7'" in str(fault) else None
    assert reply.retry_after == WAITS.get(fault_name, said)
    assert await vault.token("runner", ours)


async def test_rate_limit_is_answered_with_its_end(vault: Serving, ours: TokenRequest) -> None:
    path = f"/app/installations/{ours.installation_id}/access_tokens"
    fault = limited(x_ratelimit_remaining="0", x_ratelimit_reset=soon())
    await vault.github.fault("POST", path, **fault)
    reply = await vault.ask("runner", "token", ours)
    assert reply.retry_after == pytest.approx(120, abs=3)
    far = limited(x_ratelimit_remaining="0", x_ratelimit_reset="9" * 30)
    await vault.github.fault("POST", path, **far)
    assert (await vault.ask("runner", "token", ours)).retry_after == 3600


@pytest.mark.parametrize(("fault", "words"), REFUSED.values(), ids=REFUSED)
async def test_refusal_for_good_is_answered_as_one(
    vault: Serving, ours: TokenRequest, fault: dict[str, Any], words: str
) -> None:
    path = f"/app/installations/{ours.installation_id}/access_tokens"
    await vault.github.fault("POST", path, **fault)
    reply = await vault.ask("runner", "token", ours)
    assert reply.permanent
    assert words in reply.error
    assert "ghs_" not in reply.error
    assert await vault.token("runner", ours)  # and it is not remembered


async def test_real_refusals_of_github_are_understood(vault: Serving, ours: TokenRequest) -> None:
    """As the stand-in itself gives them, without a fault."""
    [other] = await vault.install("other")
    ahead = ours.model_copy(update={"job_id": ""})
    unknown = ahead.model_copy(update={"installation_id": 99999999})
    foreign = ahead.model_copy(update={"repository_id": other.repository_id})
    for wrong, words in ((unknown, "not installed"), (foreign, "does not cover")):
        reply = await vault.ask("triage", "token", wrong)
        assert reply.permanent
        assert reply.not_installed
        assert words in reply.error
    poor = f"labs-{ours.repository_id}/poor"
    made = await vault.github.create_repository(poor, {"a": "b"})
    permissions = {"metadata": "read", "contents": "read"}
    installation = await vault.github.install(vault.app.id, [poor], permissions=permissions)
    little = await vault.job(TokenRequest(installation_id=installation, repository_id=made.id))
    reply = await vault.ask("publisher", "token", little)
    assert "lacks a permission" in reply.error
    assert not reply.not_installed
    assert await vault.token("runner", little)


@pytest.mark.parametrize(
    ("caller", "verb"),
    [
        ("runner", "webhook-secret"),
        ("publisher", "webhook-secret"),
        ("triage", "webhook-secret"),
        ("ingest", "model-key"),
        ("triage", "model-key"),
        ("publisher", "model-key"),
        ("ingest", "token"),
        ("vault", "token"),
        ("nobody", "token"),
        ("Publisher", "token"),
        ("publisher-2", "token"),
        ("runner", "mark"),
        ("nobody", "mark"),
    ],
)
async def test_others_are_refused_for_good(
    vault: Serving, ours: TokenRequest, caller: str, verb: str
) -> None:
    body = request(installation_id=ours.installation_id, repository_id=ours.repository_id,
                   job_id="7-1-issue-1")  # fmt: skip
    reply = await vault.ask(caller, verb, body)
    assert reply.permanent
    assert f"{caller} may not ask" in reply.error
    assert reply.value is None
    assert await vault.minted(ours) == 0


async def test_each_secret_goes_to_its_one_service(vault: Serving, ours: TokenRequest) -> None:
    [secret] = await Vault(vault.bus, "ingest").webhook_secrets()
    assert secret.secret.get_secret_value() == WEBHOOK_SECRET
    key = await Vault(vault.bus, "runner").model_key()
    assert key.get_secret_value() == MODEL_KEY
    with pytest.raises(Permanent):
        await Vault(vault.bus, "publisher").model_key()
    publisher, other = Vault(vault.bus, "publisher"), await vault.job(ours)
    assert await publisher.mark(ours.job_id) == await publisher.mark(ours.job_id)
    assert await publisher.mark(ours.job_id) != await publisher.mark(other.job_id)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "null",
        "[]",
        "\x00",
        "{}",
        request(installation_id="1/../../app", repository_id=1),
        request(installation_id=1),
        request(installation_id=None, repository_id=1),
        request(installation_id=1.5, repository_id=1),
        request(installation_id=1, repository_id=[1, 2]),
    ],
)
async def test_malformed_request_is_refused_for_good(vault: Serving, body: str) -> None:
    reply = await vault.ask("runner", "token", body)
    assert reply.permanent
    assert "malformed" in reply.error
    assert (await vault.ask("publisher", "mark", body)).permanent


async def test_message_that_is_no_request_is_answered_with_nothing(vault: Serving) -> None:
    """There is no key to seal an answer to."""
    whole = Request(key="ab" * 32, nonce="n" * 16, body='{"job_id": "7"}').model_dump()
    for wrong in ({}, {**whole, "key": "no"}, {**whole, "nonce": ""}, {**whole, "sealed": "ab"}):
        data = json.dumps(wrong).encode()
        assert await vault.bus.request("pw.rpc.vault.publisher.mark", data) == b""
    assert await vault.bus.request("pw.rpc.vault.publisher.mark", b"\xff{") == b""


async def test_hang_is_answered_before_those_who_wait_give_up(hanging: Hanging) -> None:
    for reply in await asyncio.gather(*hanging.replies):
        assert reply.error
        assert not reply.permanent
        assert reply.value is None


async def test_secrets_are_in_no_log_and_no_stream(vault: Serving) -> None:
    """After everything above, with every log line that there is."""
    assert await vault.vault.stop() == 0
    app = vault.app.private_key
    key = (vault.folder / "vault.key").read_text().strip()
    said = "\n".join(vault.vault.lines).encode()
    kept = await everything_stored(vault.bus) + bytes_on_disk(vault.folder / "nats")
    assert b"sealed github-app" in said
    assert b"KV.PW_VAULT.github-app" in kept
    for secret in (WEBHOOK_SECRET, MODEL_KEY, key, *lines_of(app)):
        assert secret.encode() not in said
        assert secret.encode() not in kept
    for text in (said, kept):
        assert re.search(rb"ghs_[0-9A-Za-z]{8}", text) is None
        assert re.search(rb"eyJ[\w-]{10,}\.eyJ", text) is None
    assert b"Traceback" not in said
