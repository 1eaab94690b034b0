"""What operators bring is checked, sealed and announced; what they get back is never a value."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from harness.nats import NatsServer
from patchwright_common.bus import Bus
from patchwright_common.credentials import Vault
from patchwright_common.errors import Permanent
from standin_github.client import StandinGitHub

from .administering import Operator, administering, rsa_pem
from .looking import everything_stored, lines_of, writes
from .serving import asking

MODEL_KEY = "sk-ant-canary-7d1f0c"
SECRET = "canary-webhook-secret-21"


@pytest.fixture(name="bus")
async def _bus(nats: NatsServer) -> AsyncIterator[Bus]:
    async with asking(nats) as connection:
        yield connection


@pytest.fixture(scope="module")
def pem() -> str:
    return rsa_pem()


@pytest.fixture
async def operator(nats: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Operator]:
    async with administering(nats, bus, tmp_path) as running:
        yield running


def app(pem: str, **other: str) -> str:
    return json.dumps({"app_id": "7", "private_key": pem} | other)


async def test_what_is_put_is_what_the_services_get(operator: Operator, bus: Bus, pem: str) -> None:
    assert await operator.put("model-key", MODEL_KEY) == "stored"
    assert await operator.put("webhook-secret", SECRET) == "stored"
    facts = {"slug": "doorbell", "api_url": "https://github.example/api/v3/"}
    assert await operator.put("github-app", app(pem, **facts)) == "stored"
    assert (await Vault(bus, "runner").model_key()).get_secret_value() == MODEL_KEY
    [secret] = await Vault(bus, "ingest").webhook_secrets()
    assert secret.secret.get_secret_value() == SECRET
    found = await Vault(bus, "triage").app()
    assert (found.app_id, found.slug) == ("7", "doorbell")
    assert found.api_url == "https://github.example/api/v3"


async def test_same_value_again_is_unchanged(operator: Operator) -> None:
    assert await operator.put("model-key", MODEL_KEY) == "stored"
    assert await operator.put("model-key", MODEL_KEY) == "unchanged"
    assert await operator.put("model-key", MODEL_KEY + "2") == "stored"


async def test_what_a_paste_adds_at_the_ends_is_taken_off(
    operator: Operator, bus: Bus, pem: str
) -> None:
    await operator.put("model-key", f"  {MODEL_KEY}\r\n")
    await operator.put("webhook-secret", f"\t{SECRET}\n")
    assert (await Vault(bus, "runner").model_key()).get_secret_value() == MODEL_KEY
    [secret] = await Vault(bus, "ingest").webhook_secrets()
    assert secret.secret.get_secret_value() == SECRET
    for pasted in (f"\n  {pem}\n\n", pem.replace("\n", "\\n"), pem.replace("\n", "\r\n")):
        assert await operator.put("github-app", app(pasted, app_id=" Iv1.8a61f9b3a7aba766 "))
    assert (await Vault(bus, "triage").app()).app_id == "Iv1.8a61f9b3a7aba766"


BAD_VALUES = [
    ("model-key", " \n", "is empty"),
    ("model-key", "sk-canary one two", "one word"),
    ("model-key", "sk-canary\nsecond-line", "one word"),
    ("model-key", "sk-canary-ü", "one word"),
    ("model-key", "canary" * 1000, "one word"),
    ("webhook-secret", "canary-of-15-ch", "at least 16"),
    ("webhook-secret", "canary-and-\x00-some-more", "printable"),
    ("github-app", "canary", "JSON object"),
    ("github-app", '{"app_id": "7", "canary": 1}', "JSON object"),
    ("transport-key", "canary" * 10, "no such secret"),
    ("installation.7", "canary" * 10, "no such secret"),
    ("sk-canary-in-the-name", "x" * 20, "no such secret"),
]


@pytest.mark.parametrize(("name", "value", "said"), BAD_VALUES)
async def test_bad_value_is_refused_without_quoting_it(
    operator: Operator, bus: Bus, name: str, value: str, said: str
) -> None:
    reply = await operator.reply("put", {"name": name, "value": value})
    assert reply.permanent
    assert said in reply.error
    assert "canary" not in reply.error
    assert not [line for line in operator.program.lines if "canary" in line]
    assert b"canary" not in await everything_stored(bus)
    assert await operator.names() == []


@pytest.mark.parametrize("app_id", ["", "0", "-7", "seven", "7.5", "Iv", "7; drop"])
async def test_app_id_that_is_none_is_refused(operator: Operator, pem: str, app_id: str) -> None:
    with pytest.raises(Permanent, match="neither"):
        await operator.put("github-app", app(pem, app_id=app_id))


async def test_key_that_cannot_sign_is_refused(operator: Operator, pem: str) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    curve = ec.generate_private_key(ec.SECP256R1())
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    other = curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for wrong in (locked, public, other, pem.encode()[:-200]):
        reply = await operator.reply("put", {"name": "github-app", "value": app(wrong.decode())})
        assert reply.permanent, reply.error
        assert "not an RSA key in PEM" in reply.error
        assert not [line for line in lines_of(wrong.decode()) if line in reply.error]


@pytest.mark.parametrize(
    "url",
    ["http://github.example/api/v3", "https://u:p@github.example", "ftp://x", "nonsense",
     "https://x/?q", "https://x/ y", "https://[::1", "https://x:99999999"],
)  # fmt: skip
async def test_address_over_which_no_key_should_go_is_refused(
    operator: Operator, pem: str, url: str
) -> None:
    with pytest.raises(Permanent, match="address of GitHub's API"):
        await operator.put("github-app", app(pem, api_url=url))


async def test_listing_tells_names_and_versions_and_no_value(
    operator: Operator, bus: Bus, pem: str
) -> None:
    await operator.put("model-key", MODEL_KEY)
    await operator.put("github-app", app(pem))
    listing = await operator.asked("list")
    records = {record["name"]: record for record in json.loads(listing)}
    assert sorted(records) == ["github-app", "mark-key", "model-key", "transport-key"]
    for record in records.values():
        assert set(record) == {"name", "version", "key_version", "changed_at"}
    assert MODEL_KEY not in listing
    before = records["model-key"]["version"]
    await operator.put("model-key", MODEL_KEY + "2")
    after = {r["name"]: r["version"] for r in json.loads(await operator.asked("list"))}
    assert after["model-key"] != before
    assert after["github-app"] == records["github-app"]["version"]


async def test_deleted_secret_is_gone(operator: Operator, bus: Bus) -> None:
    await operator.put("model-key", MODEL_KEY)
    assert await operator.asked("delete", name="model-key") == "deleted"
    assert await operator.asked("delete", name="model-key") == "missing"
    with pytest.raises(Permanent, match="holds no model-key"):
        await Vault(bus, "runner").model_key()
    assert await operator.put("model-key", MODEL_KEY) == "stored"


async def test_only_an_operators_records_can_be_deleted(operator: Operator) -> None:
    for name in ("transport-key", "installation.1", ""):
        with pytest.raises(Permanent, match="no such secret"):
            await operator.asked("delete", name=name)
    assert await operator.names() == []


async def test_every_change_is_announced_by_name(operator: Operator) -> None:
    await operator.put("model-key", MODEL_KEY)
    await operator.put("webhook-secret", SECRET)
    await operator.asked("delete", name="model-key")
    await operator.reply("put", {"name": "model-key", "value": ""})
    await operator.bus.client.flush()
    assert operator.changes == ["model-key", "webhook-secret", "model-key"]


async def test_secret_in_the_clear_is_refused(operator: Operator, bus: Bus) -> None:
    body = {"name": "model-key", "value": MODEL_KEY}
    reply = await operator.reply("put", body, sealed=False)
    assert reply.permanent
    assert "must be sealed" in reply.error
    assert await operator.names() == []
    code = {"code": "c0de", "api_url": "https://github.example"}
    assert "must be sealed" in (await operator.reply("convert", code, sealed=False)).error


async def test_words_that_fit_nothing_are_refused(operator: Operator) -> None:
    for verb in ("put", "delete", "convert", "check", "rotate", "retire"):
        reply = await operator.reply(verb, {"canary": "x"})
        assert reply.permanent
        assert reply.error == "The request to the vault was malformed."


async def test_nobody_but_the_setup_administers(operator: Operator, bus: Bus) -> None:
    for caller in ("runner", "publisher", "ingest", "triage", "vault", "operator"):
        for verb in ("key", "list", "put", "delete", "rotate", "retire", "convert", "check"):
            reply = await Vault(bus, caller).exchange(verb, "{}")
            assert reply.permanent
            assert reply.error == f"{caller} may not ask the vault for {verb}."


async def test_each_change_leaves_a_grant_without_its_value(operator: Operator, bus: Bus) -> None:
    await operator.put("model-key", MODEL_KEY)
    await operator.asked("delete", name="model-key")
    grants = []
    for sequence in range(1, (await bus.js.stream_info("PW_EVENTS")).state.last_seq + 1):
        message = await bus.js.get_msg("PW_EVENTS", seq=sequence)
        grants.append(json.loads(message.data or b""))
    assert [g["verb"] for g in grants] == ["key", "put", "delete"]
    assert {g["caller"] for g in grants} == {"setup"}
    assert MODEL_KEY.encode() not in await everything_stored(bus)


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("put", {"name": "model-key", "value": MODEL_KEY + "2"}),
        ("delete", {"name": "model-key"}),
        ("rotate", {"what": "key"}),
        ("rotate", {"what": "webhook-secret"}),
        ("retire", {"what": "key"}),
        ("convert", {"code": "c0de", "api_url": "http://127.0.0.1:9"}),
    ],
)
async def test_nothing_is_changed_when_it_cannot_be_recorded(
    operator: Operator, bus: Bus, verb: str, body: dict[str, str]
) -> None:
    await operator.put("model-key", MODEL_KEY)
    await operator.put("webhook-secret", SECRET)
    key = bytes.fromhex(await operator.asked("key"))
    before = await writes(bus)
    info = await bus.js.stream_info("PW_EVENTS")
    info.config.max_msgs = info.state.messages
    await bus.js.update_stream(info.config)
    reply = await operator.vault.exchange(verb, json.dumps(body), seal_to=key)
    assert reply.error
    assert not reply.permanent
    assert await writes(bus) == before
    assert (await bus.js.stream_info("PW_EVENTS")).state.last_seq == info.state.last_seq


async def test_change_is_recorded_before_it_is_made_and_its_refusal_after(
    operator: Operator, bus: Bus
) -> None:
    reply = await operator.reply("put", {"name": "model-key", "value": " "})
    assert reply.permanent
    last = (await bus.js.stream_info("PW_EVENTS")).state.last_seq
    given, refused = [await bus.js.get_msg("PW_EVENTS", seq=seq) for seq in (last - 1, last)]
    assert (given.subject, refused.subject) == (
        "pw.evt.grant.given.none",
        "pw.evt.grant.refused.none",
    )
    assert json.loads(given.data or b"")["verb"] == "put"


# --- what others left in the bucket --------------------------------------------------------


async def test_junk_in_the_bucket_is_named_passed_over_and_can_be_deleted(
    operator: Operator, bus: Bus
) -> None:
    await operator.put("model-key", MODEL_KEY)
    formed = bytes([2]) + bytes(80)
    junk = {"junk": b"{}", "a.b": b"", "j!nk\x1b": b"x", "installation.9": b"x", "formed": formed}
    for name, body in junk.items():
        await bus.js.publish(f"$KV.PW_VAULT.{name}", body)
    for verb in ("rotate", "retire"):
        reply = await operator.reply(verb, {"what": "key"}, sealed=False)
        assert "record 'formed' cannot be opened" in reply.error
    assert await operator.asked("delete", name="formed") == "deleted"
    for verb in ("rotate", "retire"):
        facts = json.loads(await operator.asked(verb, what="key"))
        assert set(facts["strays"]) == set(junk) - {"formed"}
        assert "'junk'" in facts["detail"]
        assert "'j!nk\\x1b'" in facts["detail"]
        assert "`delete`" in facts["advice"]
    assert sorted(facts["retired"]) == [1, 2]
    for name in set(junk) - {"formed"}:
        assert await operator.asked("delete", name=name) == "deleted"
    assert await operator.names() == ["model-key"]
    facts = json.loads(await operator.asked("rotate", what="key"))
    assert facts["strays"] == []
    with pytest.raises(Permanent, match="no such secret"):
        await operator.asked("delete", name="junk")
    assert (await Vault(bus, "runner").model_key()).get_secret_value() == MODEL_KEY


async def test_two_who_put_at_once_leave_one_whole_value(operator: Operator, bus: Bus) -> None:
    values = [f"sk-canary-{number}" for number in range(6)]
    replies = await asyncio.gather(
        *(operator.reply("put", {"name": "model-key", "value": value}) for value in values)
    )
    stored = [v for v, reply in zip(values, replies, strict=True) if reply.value == "stored"]
    assert stored
    assert all(reply.value or not reply.permanent for reply in replies)
    assert (await Vault(bus, "runner").model_key()).get_secret_value() in stored


# --- rotating ------------------------------------------------------------------------------


async def secrets(bus: Bus) -> list[str]:
    return [
        found.secret.get_secret_value() for found in await Vault(bus, "ingest").webhook_secrets()
    ]


async def test_former_webhook_secret_verifies_beside_the_one_that_was_put(
    operator: Operator, bus: Bus
) -> None:
    await operator.put("webhook-secret", SECRET)
    assert await operator.put("webhook-secret", SECRET + "-2") == "stored"
    assert await secrets(bus) == [SECRET + "-2", SECRET]
    assert await operator.put("webhook-secret", SECRET + "-2") == "unchanged"
    assert await operator.put("webhook-secret", SECRET) == "stored"
    assert await secrets(bus) == [SECRET, SECRET + "-2"]
    facts = json.loads(await operator.asked("retire", what="webhook-secret"))
    assert "does not verify any more" in facts["detail"]
    assert await secrets(bus) == [SECRET]
    facts = json.loads(await operator.asked("retire", what="webhook-secret"))
    assert "no former" in facts["detail"]


async def test_secret_that_was_put_is_not_undone_by_the_environment(
    nats: NatsServer, bus: Bus, tmp_path: Path
) -> None:
    """A vault that is started with last month's variable keeps today's secret."""
    given = {"PATCHWRIGHT_WEBHOOK_SECRET": SECRET}
    async with administering(nats, bus, tmp_path, **given) as first:
        await first.put("webhook-secret", SECRET + "-2")
        await first.asked("retire", what="webhook-secret")
        assert await first.program.stop() == 0
    async with administering(nats, bus, tmp_path, **given):
        assert await secrets(bus) == [SECRET + "-2"]


async def test_rotated_webhook_secret_is_given_to_github(
    operator: Operator, bus: Bus, github: StandinGitHub
) -> None:
    made = await github.create_app(f"Rotated {uuid4().hex[:8]}", webhook_secret=SECRET)
    await operator.put("webhook-secret", SECRET)
    value = app(made.private_key, app_id=str(made.id), api_url=github.api_url)
    await operator.put("github-app", value)
    facts = json.loads(await operator.asked("rotate", what="webhook-secret"))
    newest, former = await secrets(bus)
    assert former == SECRET
    assert newest not in json.dumps(facts)
    assert "GitHub signs with a new webhook secret" in facts["detail"]
    assert "just secrets retire webhook-secret" in facts["advice"]


async def test_rotation_that_github_refuses_is_told(operator: Operator, pem: str) -> None:
    reply = await operator.reply("rotate", {"what": "webhook-secret"})
    assert reply.permanent
    assert "holds no webhook-secret" in reply.error
    await operator.put("webhook-secret", SECRET)
    reply = await operator.reply("rotate", {"what": "webhook-secret"})
    assert not reply.permanent
    assert "holds no github-app" in reply.error


async def test_rotated_key_keeps_every_value_and_the_old_one_can_go(
    operator: Operator, bus: Bus
) -> None:
    await operator.put("model-key", MODEL_KEY)
    facts = json.loads(await operator.asked("rotate", what="key"))
    assert facts["key_version"] == 2
    assert facts["retirable"] == [1]
    assert "key version 2" in facts["detail"]
    assert "just secrets retire key" in facts["advice"]
    listing = json.loads(await operator.asked("list"))
    assert {record["key_version"] for record in listing} == {2}
    facts = json.loads(await operator.asked("retire", what="key"))
    assert facts["retired"] == [1]
    assert facts["detail"] == "Key version 1 is destroyed. 2 is in use."
    assert (await Vault(bus, "runner").model_key()).get_secret_value() == MODEL_KEY
    again = json.loads(await operator.asked("retire", what="key"))
    assert "no old key" in again["detail"]
