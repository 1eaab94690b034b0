"""A code becomes the App's credentials once, whoever dies or asks twice on the way."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from harness.nats import NatsServer
from patchwright_common.bus import Bus
from patchwright_common.credentials import Vault
from patchwright_common.errors import Permanent, Retry
from patchwright_vault.keys.file import FileKeys
from patchwright_vault.sealing import Sealer
from patchwright_vault.store import Store

from .administering import (
    Manifests,
    Operator,
    administering,
    conversion,
    free_port,
    http,
    manifests,
)
from .looking import bytes_on_disk, everything_stored, lines_of
from .serving import asking


@pytest.fixture(name="bus")
async def _bus(nats: NatsServer) -> AsyncIterator[Bus]:
    async with asking(nats) as connection:
        yield connection


@pytest.fixture
async def operator(nats: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Operator]:
    async with administering(nats, bus, tmp_path) as running:
        yield running


@pytest.fixture
async def github() -> AsyncIterator[Manifests]:
    async with manifests() as serving:
        yield serving


async def converted(operator: Operator, github: Manifests, code: str) -> dict[str, str]:
    facts: dict[str, str] = json.loads(
        await operator.told("convert", code=code, api_url=github.url)
    )
    return facts


async def test_code_becomes_the_apps_credentials(
    operator: Operator, github: Manifests, bus: Bus, tmp_path: Path
) -> None:
    code = github.code(slug="doorbell-fixer")
    made = github.codes[code]
    facts = await converted(operator, github, code)
    assert facts == {
        "app_id": "41",
        "slug": "doorbell-fixer",
        "api_url": github.url,
        "html_url": made["html_url"],
        "owner": "octo-org",
    }
    assert github.asked == [f"POST /api/v3/app-manifests/{code}/conversions"]
    [secret] = await Vault(bus, "ingest").webhook_secrets()
    assert secret.secret.get_secret_value() == made["webhook_secret"]
    app = await Vault(bus, "triage").app()
    assert app.model_dump() == {k: v for k, v in facts.items() if k != "owner"}
    await bus.client.flush()
    assert set(operator.changes) == {"github-app", "webhook-secret"}
    assert await operator.names() == ["github-app", "webhook-secret"]
    known = [made["webhook_secret"], made["client_secret"], code, *lines_of(made["pem"])]
    seen = [*operator.program.lines, str(await everything_stored(bus))]
    assert not [secret for secret in known for text in seen if secret in text]
    disk = bytes_on_disk(tmp_path / "nats")
    assert not [secret for secret in known if secret.encode() in disk]


async def test_same_code_again_gives_the_same_facts_without_asking_github(
    operator: Operator, github: Manifests
) -> None:
    code = github.code()
    first = await converted(operator, github, code)
    assert await converted(operator, github, code) == first
    assert len(github.asked) == 1


async def test_another_vault_knows_what_the_first_converted(
    operator: Operator, github: Manifests, nats: NatsServer, bus: Bus, tmp_path: Path
) -> None:
    code = github.code()
    first = await converted(operator, github, code)
    assert await operator.program.stop() == 0
    async with administering(nats, bus, tmp_path) as later:
        assert await converted(later, github, code) == first
    assert len(github.asked) == 1


async def test_calls_at_once_convert_once(operator: Operator, github: Manifests) -> None:
    code = github.code()
    found = await asyncio.gather(*(converted(operator, github, code) for _ in range(5)))
    assert all(facts == found[0] for facts in found)
    assert len(github.asked) == 1


async def test_two_vaults_asked_at_once_agree(
    operator: Operator, github: Manifests, nats: NatsServer, bus: Bus, tmp_path: Path
) -> None:
    async with administering(nats, bus, tmp_path):
        code = github.code()
        found = await asyncio.gather(
            *(converted(operator, github, code) for _ in range(6)), return_exceptions=True
        )
        facts = [f for f in found if not isinstance(f, BaseException)]
        assert facts
        assert all(f == facts[0] for f in facts)
        # One that ran into the other's probe says to come back.
        assert all(isinstance(f, Retry) for f in found if isinstance(f, BaseException))
        assert await converted(operator, github, code) == facts[0]


async def test_asker_who_gave_up_finds_the_app_afterwards(
    operator: Operator, github: Manifests
) -> None:
    github.answering.clear()
    code = github.code()
    with pytest.raises(Retry, match="has not answered yet"):
        await converted(operator, github, code)
    github.answering.set()
    assert (await converted(operator, github, code))["app_id"] == "41"
    assert len(github.asked) == 1


async def test_storage_that_fails_first_leaves_the_code_unused(
    operator: Operator, github: Manifests, bus: Bus
) -> None:
    code = github.code()
    await operator.asked("key")
    await full(bus)
    with pytest.raises(Retry, match="Nothing was converted"):
        await converted(operator, github, code)
    assert github.asked == []
    await full(bus, ended=True)
    assert (await converted(operator, github, code))["app_id"] == "41"


async def test_app_is_held_while_it_cannot_be_stored(
    operator: Operator, github: Manifests, bus: Bus
) -> None:
    code = github.code()
    made = github.codes[code]
    github.before_answer = lambda: full(bus)
    for _ in range(2):
        with pytest.raises(Retry, match="Nothing is lost") as caught:
            await converted(operator, github, code)
        assert made["slug"] in caught.value.reason
        assert not [line for line in lines_of(made["pem"]) if line in caught.value.reason]
    await full(bus, ended=True)
    assert (await converted(operator, github, code))["slug"] == made["slug"]
    assert len(github.asked) == 1
    [secret] = await Vault(bus, "ingest").webhook_secrets()
    assert secret.secret.get_secret_value() == made["webhook_secret"]


async def test_vault_holds_a_few_apps_and_converts_no_further_one(
    operator: Operator, github: Manifests, bus: Bus
) -> None:
    codes = [github.code(slug=f"held-{number}") for number in range(4)]
    for code in codes[:3]:

        async def fill() -> None:
            await full(bus)

        github.before_answer = fill
        with pytest.raises(Retry, match="Nothing is lost"):
            await converted(operator, github, code)
        await full(bus, ended=True)
    with pytest.raises(Retry, match="holds 3 Apps"):
        await converted(operator, github, codes[3])
    assert len(github.asked) == 3
    github.before_answer = None
    assert (await converted(operator, github, codes[0]))["slug"] == "held-0"
    assert (await converted(operator, github, codes[3]))["slug"] == "held-3"


async def test_code_whose_app_died_with_the_vault_says_what_is_at_github(
    operator: Operator, github: Manifests, nats: NatsServer, bus: Bus, tmp_path: Path
) -> None:
    """Killed between GitHub's answer and the first write: nobody has the key any more."""
    code = github.code()
    github.answering.clear()
    waiting = asyncio.create_task(operator.reply("convert", {"code": code, "api_url": github.url}))
    while not github.asked:
        await asyncio.sleep(0.01)
    operator.program.process.kill()
    github.answering.set()
    async with administering(nats, bus, tmp_path) as later:
        with pytest.raises(Permanent) as caught:
            await converted(later, github, code)
        assert "does not know this code" in caught.value.reason
        assert "delete it" in caught.value.reason
        assert "by hand" in caught.value.reason
        assert await later.names() == []
    waiting.cancel()


async def test_used_code_is_refused_and_changes_nothing(
    operator: Operator, github: Manifests
) -> None:
    await converted(operator, github, github.code(slug="first"))
    with pytest.raises(Permanent, match="does not know this code"):
        await converted(operator, github, "used0before")
    assert json.loads(await operator.asked("app"))["slug"] == "first"


@pytest.mark.parametrize("status", [500, 502, 503, 403, 429])
async def test_github_that_is_not_itself_is_asked_again(
    operator: Operator, github: Manifests, status: int
) -> None:
    code = github.code()
    github.raw[code] = http(status, b"canary", "retry-after: 7")
    reply = await operator.reply("convert", {"code": code, "api_url": github.url})
    assert not reply.permanent
    assert f"GitHub answered {status}" in reply.error
    assert "canary" not in reply.error
    assert reply.retry_after == 7
    del github.raw[code]
    assert (await converted(operator, github, code))["app_id"] == "41"


@pytest.mark.parametrize("status", [200, 400, 401, 422])
async def test_refusal_is_final(operator: Operator, github: Manifests, status: int) -> None:
    github.raw["c0de"] = http(status, conversion())
    with pytest.raises(Permanent, match=f"GitHub answered {status}"):
        await converted(operator, github, "c0de")
    assert await operator.names() == []


async def test_redirect_is_not_followed(operator: Operator, github: Manifests) -> None:
    code = github.code()
    target = f"location: {github.url}/app-manifests/{code}/conversions"
    for status in (301, 302, 307, 308):
        github.raw["c0de"] = http(status, b"", target)
        with pytest.raises(Permanent, match="it redirects"):
            await converted(operator, github, "c0de")
    assert code in github.codes


async def test_half_an_answer_says_what_may_have_happened(
    operator: Operator, github: Manifests
) -> None:
    code = github.code()
    whole = http(201, github.codes[code])
    github.raw[code] = whole[: len(whole) // 2]
    with pytest.raises(Retry, match="may have made the App"):
        await converted(operator, github, code)
    assert await operator.names() == []


@pytest.mark.parametrize(
    "body",
    [b"<html>", {"id": 41}, {"id": 41, "pem": "nonsense"}, conversion(webhook_secret="short")],
)
async def test_answer_that_is_none_is_not_stored(
    operator: Operator, github: Manifests, body: object
) -> None:
    github.raw["c0de"] = http(201, body)
    with pytest.raises(Permanent, match="could not be read"):
        await converted(operator, github, "c0de")
    assert await operator.names() == []


async def test_endless_answer_is_cut_off(operator: Operator, github: Manifests) -> None:
    github.raw["c0de"] = http(201, b"x" * 700_000)
    with pytest.raises(Retry, match="too large"):
        await converted(operator, github, "c0de")


async def test_nobody_at_the_address_leaves_the_code_unused(operator: Operator) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Retry, match=r"cannot be reached.*Nothing was converted"):
        await operator.told("convert", code="c0de", api_url=address)


@pytest.mark.parametrize("url", ["http://github.example", "https://a:b@github.example", "x"])
async def test_code_is_not_sent_where_others_could_read_it(operator: Operator, url: str) -> None:
    with pytest.raises(Permanent, match="address of GitHub's API"):
        await operator.told("convert", code="c0de", api_url=url)


@pytest.mark.parametrize("code", ["", "../../app", "a/b", "a b", "a?b", "x" * 201])
async def test_code_cannot_lead_elsewhere(operator: Operator, github: Manifests, code: str) -> None:
    with pytest.raises(Permanent, match="malformed"):
        await converted(operator, github, code)
    assert github.asked == []


async def test_app_without_a_webhook_leaves_the_secret_alone(
    operator: Operator, github: Manifests, bus: Bus
) -> None:
    await operator.put("webhook-secret", "the-one-from-before")
    await converted(operator, github, github.code(webhook_secret=None))
    [secret] = await Vault(bus, "ingest").webhook_secrets()
    assert secret.secret.get_secret_value() == "the-one-from-before"


async def test_rotated_webhook_secret_survives_the_code_coming_again(
    operator: Operator, github: Manifests, bus: Bus
) -> None:
    """A browser that goes back sends the code once more."""
    code = github.code()
    await converted(operator, github, code)
    await operator.put("webhook-secret", "a-newer-secret-from-here")
    await converted(operator, github, code)
    secrets = await Vault(bus, "ingest").webhook_secrets()
    assert secrets[0].secret.get_secret_value() == "a-newer-secret-from-here"


async def test_deleted_app_does_not_come_back_with_its_code(
    operator: Operator, github: Manifests
) -> None:
    code = github.code()
    await converted(operator, github, code)
    assert await operator.asked("delete", name="github-app") == "deleted"
    with pytest.raises(Permanent, match="does not know this code"):
        await converted(operator, github, code)


async def cut_off(bus: Bus, folder: Path, url: str, code: str) -> dict[str, Any]:
    """What a vault leaves that was killed after its first write."""
    made = conversion(slug="cut-off")
    record = {
        "app": {
            "app_id": "41",
            "private_key": made["pem"],
            "slug": made["slug"],
            "api_url": url,
            "code_digest": hashlib.sha256(f"{url} {code}".encode()).hexdigest(),
        },
        "webhook_secret": made["webhook_secret"],
    }
    store = await Store.open(bus.js, Sealer(FileKeys(folder / "vault.key")))
    assert await store.put("conversion", json.dumps(record).encode())
    return made


async def test_vault_that_died_while_storing_is_finished_by_the_next_call(
    operator: Operator, github: Manifests, bus: Bus, tmp_path: Path
) -> None:
    made = await cut_off(bus, tmp_path, github.url, "c0de")
    assert (await converted(operator, github, "c0de"))["slug"] == "cut-off"
    assert github.asked == []
    [secret] = await Vault(bus, "ingest").webhook_secrets()
    assert secret.secret.get_secret_value() == made["webhook_secret"]
    assert await operator.names() == ["github-app", "webhook-secret"]


@pytest.mark.parametrize("verb", ["put", "delete"])
async def test_half_stored_app_does_not_come_back_over_the_operators_own(
    operator: Operator, github: Manifests, bus: Bus, tmp_path: Path, verb: str
) -> None:
    await cut_off(bus, tmp_path, github.url, "c0de")
    if verb == "put":
        value = {"app_id": "7", "private_key": conversion()["pem"]}
        assert await operator.put("github-app", json.dumps(value)) == "stored"
    else:
        await operator.asked("delete", name="github-app")
    assert "conversion" not in await operator.names()
    with pytest.raises(Permanent, match="does not know this code"):
        await converted(operator, github, "c0de")


async def full(bus: Bus, *, ended: bool = False) -> None:
    """The vault's bucket takes no message any more, and gives what it has."""
    config = (await bus.js.stream_info("KV_PW_VAULT")).config
    config.max_msg_size = -1 if ended else 1
    await bus.js.update_stream(config)
