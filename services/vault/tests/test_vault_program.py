"""`patchwright-vault` as its operator meets it: one line for each mistake, no secret lost."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from harness.nats import NatsServer
from harness.programs import Program, program
from patchwright_common import topology
from patchwright_common.bus import Bus
from patchwright_common.credentials import Vault
from patchwright_common.errors import Retry
from patchwright_vault.keys.file import FileKeys
from patchwright_vault.sealing import Sealer
from patchwright_vault.store import WEBHOOK_SECRET, Store
from patchwright_vault.webhook_secrets import OVERLAP

from .looking import writes
from .serving import READY, record_job, request

PROGRAM = "patchwright-vault"


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    form = PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(Encoding.PEM, form, NoEncryption()).decode()


@pytest.fixture(scope="session")
def rsa_key() -> str:
    return pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))


@pytest.fixture
def plain(nats: NatsServer, tmp_path: Path) -> dict[str, str]:
    """What a later start needs."""
    return {
        **nats.environment("vault"),
        "PATCHWRIGHT_VAULT_KEY_FILE": str(tmp_path / "vault.key"),
    }


async def refusal(environment: dict[str, str]) -> str:
    """The one line with which it ends."""
    async with program(PROGRAM, environment=environment) as vault:
        assert await asyncio.wait_for(vault.process.wait(), 15) == 1
    return vault.lines[-1]


def sealed(vault: Program) -> list[str]:
    return [line for line in vault.lines if '"sealed ' in line]


async def test_later_start_needs_no_secrets_and_writes_nothing(
    plain: dict[str, str], bus: Bus, rsa_key: str
) -> None:
    given = plain | {
        "PATCHWRIGHT_WEBHOOK_SECRET": "first-secret-of-all",
        "PATCHWRIGHT_GITHUB_APP_ID": "7",
        "PATCHWRIGHT_GITHUB_PRIVATE_KEY": rsa_key,
    }
    counts, written = [], []
    for environment in (given, given, plain):
        async with program(PROGRAM, environment=environment) as vault:
            await vault.line(READY)
            [secret] = await Vault(bus, "ingest").webhook_secrets()
            assert secret.secret.get_secret_value() == "first-secret-of-all"
            assert await vault.stop() == 0
        counts.append(len(sealed(vault)))
        written.append(await writes(bus))
    assert counts == [2, 0, 0]
    assert written == [written[0]] * 3


async def test_changed_secret_goes_before_the_old_one_which_verifies_for_the_overlap(
    plain: dict[str, str], bus: Bus
) -> None:
    """GitHub is given it by hand, earlier or later than the environment is."""
    secrets = ("the-first-secret-of-two", "the-second-secret-of-two")
    for number, secret in enumerate(secrets, 1):
        given = plain | {"PATCHWRIGHT_WEBHOOK_SECRET": f" {secret}\n"}
        async with program(PROGRAM, environment=given) as vault:
            await vault.line(READY)
            found = await Vault(bus, "ingest").webhook_secrets()
            assert [one.secret.get_secret_value() for one in found] == list(
                secrets[number - 1 :: -1]
            )
    assert found[0].until == 0
    assert found[1].until == pytest.approx(time.time() + OVERLAP, abs=60)


async def test_secret_that_is_too_short_ends_the_start_and_overwrites_nothing(
    plain: dict[str, str], bus: Bus
) -> None:
    given = plain | {"PATCHWRIGHT_WEBHOOK_SECRET": "a-secret-of-its-hook"}
    async with program(PROGRAM, environment=given) as vault:
        await vault.line(READY)
        assert await vault.stop() == 0
    before = await writes(bus)
    line = await refusal(plain | {"PATCHWRIGHT_WEBHOOK_SECRET": "  canary-of-15-ch "})
    assert "PATCHWRIGHT_WEBHOOK_SECRET" in line
    assert "at least 16 characters" in line
    assert "canary" not in line
    assert await writes(bus) == before


async def test_short_secret_of_an_earlier_release_goes_on_verifying(
    plain: dict[str, str], bus: Bus, tmp_path: Path
) -> None:
    store = await Store.open(bus.js, Sealer(FileKeys(tmp_path / "vault.key")))
    await store.put(WEBHOOK_SECRET, b"short")
    given = plain | {"PATCHWRIGHT_WEBHOOK_SECRET": "short"}
    async with program(PROGRAM, environment=given) as vault:
        await vault.line(READY)
        [found] = await Vault(bus, "ingest").webhook_secrets()
        assert found.secret.get_secret_value() == "short"


async def test_wrong_key_file_ends_the_start_and_overwrites_nothing(
    plain: dict[str, str], bus: Bus, tmp_path: Path
) -> None:
    given = plain | {"PATCHWRIGHT_WEBHOOK_SECRET": "a-secret-of-its-hook"}
    async with program(PROGRAM, environment=given) as vault:
        await vault.line(READY)
        assert await vault.stop() == 0
    before = await writes(bus)
    other = {"PATCHWRIGHT_VAULT_KEY_FILE": str(tmp_path / "other.key")}
    (tmp_path / "other.key").write_text("00" * 32)
    (tmp_path / "other.key").chmod(0o600)
    for environment in (plain | other, given | other):
        assert "cannot be opened" in await refusal(environment)
    assert await writes(bus) == before


async def test_key_file_that_is_open_to_others_ends_the_start(
    plain: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "vault.key").write_text("00" * 32)
    (tmp_path / "vault.key").chmod(0o644)
    assert "chmod 600" in await refusal(plain)


async def test_private_key_that_is_none_ends_the_start(
    plain: dict[str, str], bus: Bus, tmp_path: Path
) -> None:
    app = plain | {"PATCHWRIGHT_GITHUB_APP_ID": "7"}
    curve = pem(ec.generate_private_key(ec.SECP256R1()))
    for wrong in ("secret-nonsense", curve):
        line = await refusal(app | {"PATCHWRIGHT_GITHUB_PRIVATE_KEY": wrong})
        assert "not an RSA key in PEM" in line
        assert wrong[:40] not in line
    absent = {"PATCHWRIGHT_GITHUB_PRIVATE_KEY_FILE": str(tmp_path / "absent.pem")}
    assert "absent.pem cannot be read: No such file" in await refusal(app | absent)
    assert await writes(bus) == 0


async def test_private_key_without_an_app_id_ends_the_start(
    plain: dict[str, str], rsa_key: str
) -> None:
    line = await refusal(plain | {"PATCHWRIGHT_GITHUB_PRIVATE_KEY": rsa_key})
    assert "PATCHWRIGHT_GITHUB_APP_ID" in line


async def test_private_key_can_come_in_a_file(
    plain: dict[str, str], tmp_path: Path, rsa_key: str
) -> None:
    (tmp_path / "app.pem").write_text(rsa_key)
    given = plain | {
        "PATCHWRIGHT_GITHUB_APP_ID": "7",
        "PATCHWRIGHT_GITHUB_PRIVATE_KEY_FILE": str(tmp_path / "app.pem"),
    }
    async with program(PROGRAM, environment=given) as vault:
        await vault.line("sealed github-app")


async def test_variables_that_are_empty_are_as_if_not_there(plain: dict[str, str]) -> None:
    names = (*("GITHUB_APP_ID", "GITHUB_PRIVATE_KEY", "GITHUB_PRIVATE_KEY_FILE", "WEBHOOK_SECRET"),)
    empty = {f"PATCHWRIGHT_{name}": "" for name in names} | {"ANTHROPIC_API_KEY": ""}
    async with program(PROGRAM, environment=plain | empty) as vault:
        await vault.line(READY)
        assert sealed(vault) == []


async def test_vault_without_secrets_says_so_to_those_who_ask(
    plain: dict[str, str], bus: Bus
) -> None:
    """The App is waited for; a job without a model cannot go on, and its owner is told."""
    async with program(PROGRAM, environment=plain) as vault:
        await vault.line(READY)
        body = request(installation_id=1, repository_id=1)
        token = await Vault(bus, "triage").exchange("token", body)
        assert "holds no github-app" in token.error
        assert not token.permanent
        model = await Vault(bus, "runner").exchange("model-key", "{}")
        assert "holds no model-key" in model.error
        assert model.permanent


async def test_missing_bucket_is_waited_for(plain: dict[str, str], bus: Bus) -> None:
    await bus.js.delete_key_value("PW_VAULT")
    given = plain | {"PATCHWRIGHT_WEBHOOK_SECRET": "a-secret-of-its-hook"}
    async with program(PROGRAM, environment=given) as vault:
        await vault.line("waiting for the store: .*just topology")
        await topology.ensure(bus.js)
        await vault.line(READY)
        assert len(sealed(vault)) == 1


async def test_two_vaults_that_start_at_once_serve_the_same(
    plain: dict[str, str], bus: Bus
) -> None:
    given = plain | {"PATCHWRIGHT_WEBHOOK_SECRET": "a-secret-of-its-hook"}
    async with (
        program(PROGRAM, environment=given) as one,
        program(PROGRAM, environment=given) as other,
    ):
        await asyncio.gather(one.line(READY), other.line(READY))
        assert len(sealed(one) + sealed(other)) == 1
        job_id = await record_job(bus, 1, 1)
        for vault in (other, one):
            marks = {await Vault(bus, "publisher").mark(job_id) for _ in range(10)}
            assert len(marks) == 1
            [secret] = await Vault(bus, "ingest").webhook_secrets()
            assert secret.secret.get_secret_value() == "a-secret-of-its-hook"
            if vault is other:
                assert await vault.stop() == 0


async def test_vault_comes_through_a_restart_of_the_bus(
    plain: dict[str, str], nats: NatsServer, bus: Bus
) -> None:
    given = plain | {"PATCHWRIGHT_WEBHOOK_SECRET": "a-secret-of-its-hook"}
    async with program(PROGRAM, environment=given) as vault:
        await vault.line(READY)
        await nats.stop()
        await nats.start()
        for _ in range(100):
            try:
                async with asyncio.timeout(1):
                    [secret] = await Vault(bus, "ingest").webhook_secrets()
            except (Retry, TimeoutError):  # both connections are on their way back
                await asyncio.sleep(0.1)
                continue
            assert secret.secret.get_secret_value() == "a-secret-of-its-hook"
            break
        else:
            raise AssertionError("the vault did not come back")
        assert await vault.stop() == 0
