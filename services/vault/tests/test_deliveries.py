"""The App's delivery log through the vault, and the App's facts."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from harness.programs import github_standin, program
from patchwright_common.credentials import AppFacts, TokenRequest, Vault
from patchwright_vault.deliveries import next_cursor
from standin_github.client import StandinGitHub

from .serving import READY, Serving, record_job, request, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
NOWHERE = "http://127.0.0.1:9/hooks"


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="vault")
async def _vault(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    async with serving(tmp_path_factory.mktemp("vault")) as running:
        await running.github.change_app(running.app.id, webhook_url=NOWHERE)
        for name in ("one", "two", "three"):
            await running.install(name)
        await running.github.settled()
        yield running


async def page(vault: Serving, **body: Any) -> dict[str, Any]:
    reply = await vault.ask("ingest", "deliveries", request(**body))
    assert reply.value, reply.error
    found: dict[str, Any] = json.loads(reply.value)
    return found


async def test_page_has_the_facts_of_each_delivery_and_no_payload(vault: Serving) -> None:
    newest = (await page(vault))["deliveries"][0]
    logged = (await vault.github.settled())[-1]
    assert set(newest) == {
        *("id", "guid", "event", "action", "status_code", "delivered_at"),
        *("redelivery", "installation_id", "repository_id"),
    }
    assert (newest["id"], newest["guid"]) == (logged["id"], logged["guid"])
    assert (newest["event"], newest["action"]) == ("installation", "created")
    assert (newest["status_code"], newest["redelivery"]) == (0, False)


async def test_pages_lead_through_the_whole_log(vault: Serving) -> None:
    logged = [delivery["id"] for delivery in await vault.github.settled()]
    seen: list[int] = []
    cursor = ""
    for _ in range(20):
        found = await page(vault, cursor=cursor, per_page=1)
        seen += [delivery["id"] for delivery in found["deliveries"]]
        cursor = found["next"]
        if not cursor:
            break
    assert seen == sorted(logged, reverse=True)
    assert len(seen) > 3


@pytest.mark.parametrize(
    "body",
    [
        {"cursor": "v1_1\r\nx: y"},
        {"cursor": "x" * 300},
        {"per_page": 0},
        {"per_page": 101},
        {"cursor": 7},
    ],
)
async def test_malformed_request_for_a_page_is_refused(vault: Serving, body: Any) -> None:
    reply = await vault.ask("ingest", "deliveries", request(**body))
    assert reply.permanent
    assert "malformed" in reply.error


async def test_cursor_that_github_does_not_take_is_a_refusal(vault: Serving) -> None:
    reply = await vault.ask("ingest", "deliveries", request(cursor="v1_&per_page=9#"))
    assert reply.permanent
    assert "does not know this page" in reply.error


async def test_redelivery_is_another_entry_of_the_same_webhook(vault: Serving) -> None:
    before = (await page(vault))["deliveries"]
    reply = await vault.ask("ingest", "redeliver", request(id=before[0]["id"]))
    assert json.loads(reply.value or "") == {"id": before[0]["id"]}
    await vault.github.settled()
    again = (await page(vault))["deliveries"][0]
    assert again["guid"] == before[0]["guid"]
    assert again["redelivery"]


async def test_delivery_that_the_log_does_not_hold_is_a_refusal(vault: Serving) -> None:
    reply = await vault.ask("ingest", "redeliver", request(id=999_999_999))
    assert reply.permanent
    assert "does not hold" in reply.error
    for wrong in ("1/../../x", -1, None):
        assert (await vault.ask("ingest", "redeliver", request(id=wrong))).permanent


@pytest.mark.parametrize("verb", ["deliveries", "redeliver"])
async def test_rate_limit_of_the_log_is_passed_on(vault: Serving, verb: str) -> None:
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(time.time()) + 90)}
    await vault.github.fault(path="/app/hook/deliveries", status=403, headers=headers)
    reply = await vault.ask("ingest", verb, request(id=1))
    assert reply.error
    assert not reply.permanent
    assert reply.retry_after == pytest.approx(90, abs=3)
    fault = {"status": 429, "headers": {"retry-after": "7"}}
    await vault.github.fault(path="/app/hook/deliveries", **fault)  # type: ignore[arg-type]
    assert (await vault.ask("ingest", verb, request(id=1))).retry_after == 7


@pytest.mark.parametrize(
    ("fault", "after"),
    [
        ({"status": 429}, 60),
        ({"status": 403, "body": {"message": "You have exceeded a secondary rate limit."}}, 60),
        ({"status": 403, "body": {"message": "You triggered an abuse detection mechanism."}}, 60),
        ({"status": 503, "headers": {"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}}, 0),
        ({"status": 503}, None),
        ({"status": 403}, None),
    ],
)
async def test_limit_without_a_time_is_waited_for_as_github_asks(
    vault: Serving, fault: dict[str, Any], after: float | None
) -> None:
    await vault.github.fault(path="/app/hook/deliveries", **fault)
    reply = await vault.ask("ingest", "redeliver", request(id=1))
    assert reply.error
    assert not reply.permanent
    assert reply.retry_after == after


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 502},
        {"drop": True},
        {"status": 200, "body": "{"},
        {"status": 200, "body": [{"id": 1}]},
        {"status": 401},
    ],
)
async def test_failure_of_the_log_may_pass(vault: Serving, fault: dict[str, Any]) -> None:
    await vault.github.fault(path="/app/hook/deliveries", **fault)
    reply = await vault.ask("ingest", "deliveries")
    assert reply.error
    assert not reply.permanent
    assert (await page(vault))["deliveries"]


@pytest.mark.parametrize("caller", ["triage", "runner", "publisher", "setup"])
async def test_log_is_for_ingest_alone(vault: Serving, caller: str) -> None:
    for verb in ("deliveries", "redeliver"):
        assert (await vault.ask(caller, verb, request(id=1))).permanent


async def test_cursor_is_taken_from_the_next_link() -> None:
    base = "https://api.github.com/app/hook/deliveries?per_page=9"
    assert next_cursor(f'<{base}&cursor=v1_12%3D>; rel="next"') == "v1_12="
    assert next_cursor(f'<{base}>; rel="first", <{base}&cursor=v1_3>; rel="next"') == "v1_3"
    assert next_cursor(f'<{base}&cursor=v1_3>; rel="prev"') == ""
    assert next_cursor("") == ""


# --- the App's facts -------------------------------------------------------------------


async def facts(vault: Serving) -> AppFacts:
    return await Vault(vault.bus, "triage").app()


async def test_app_from_the_environment_learns_its_name_from_github_once(vault: Serving) -> None:
    app_id = vault.app.client_id
    for _ in range(3):
        found = await facts(vault)
        assert (found.app_id, found.slug) == (app_id, vault.app.slug)
        assert found.api_url == vault.github.api_url
        assert found.html_url.endswith(f"/apps/{vault.app.slug}")
    asked = [r for r in await vault.github.requests("GET") if r["path"].endswith("/app")]
    assert len(asked) == 1


async def test_name_that_the_operator_set_is_not_asked_for(vault: Serving) -> None:
    await vault.vault.stop()
    given = vault.environment | {"PATCHWRIGHT_APP_SLUG": "my-own"}
    async with program("patchwright-vault", environment=given) as again:
        await again.line(READY)
        assert (await facts(vault)).slug == "my-own"


async def test_name_falls_back_while_github_is_away(vault: Serving) -> None:
    await vault.vault.stop()
    await vault.github.fault("GET", "/app$", times=9, status=502)
    async with program("patchwright-vault", environment=vault.environment) as again:
        await again.line(READY)
        assert (await facts(vault)).slug == "patchwright"
    await vault.github.clear_faults()


async def test_app_of_another_github_is_served_by_that_one(vault: Serving, tmp_path: Path) -> None:
    """Its record names an Enterprise Server; the setting names github.com."""
    await vault.vault.stop()
    async with github_standin(tmp_path / "other") as address, StandinGitHub(address) as other:
        app = await other.create_app("Elsewhere")
        made = await other.create_repository("labs/far", {"a": "b"}, private=True)
        installation = await other.install(app.id, ["labs/far"])
        async with program("patchwright-vault", environment=vault.environment) as again:
            await again.line(READY)
            record = {
                "app_id": str(app.id),
                "private_key": app.private_key,
                "api_url": other.api_url,
                "slug": "elsewhere",
            }
            body = {"name": "github-app", "value": json.dumps(record)}
            await Vault(vault.bus, "setup").tell("put", body)
            assert (await facts(vault)).api_url == other.api_url
            job_id = await record_job(vault.bus, installation, made.id)
            wanted = TokenRequest(
                installation_id=installation, repository_id=made.id, job_id=job_id
            )
            token = await vault.token("runner", wanted)
            found = await other.api("GET", f"/repositories/{made.id}", token=token)
            assert found["full_name"] == "labs/far"
            await vault.finish(job_id)
            for _ in range(400):
                revoked = await other.requests("DELETE", "/installation/token")
                if revoked and revoked[0]["status"]:
                    break
                await asyncio.sleep(0.05)
            assert [found["status"] for found in revoked] == [204]
