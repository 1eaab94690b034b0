"""Keys in a PKCS#11 token: they stay there, and a token in trouble harms nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pkcs11
import pytest
from pkcs11 import Attribute, ObjectClass
from pydantic import SecretStr

from harness.nats import NatsServer
from harness.programs import program
from patchwright_common.bus import Bus
from patchwright_common.errors import Permanent, Retry
from patchwright_vault.keys import hsm
from patchwright_vault.keys.choice import KeySettings, chosen_keys
from patchwright_vault.keys.hsm import Pkcs11Keys, TokenSettings
from patchwright_vault.rotation import retire, rotate
from patchwright_vault.sealing import Sealer
from patchwright_vault.store import MODEL_KEY, Store

from .looking import writes
from .serving import READY
from .soft_hsm import PIN, SoftHsm


@pytest.fixture
def token(soft_hsm: SoftHsm) -> TokenSettings:
    return soft_hsm.token()


def look(token: TokenSettings) -> list[dict[Attribute, object]]:
    """What the token tells of its secret keys."""
    wanted = [
        *(Attribute.LABEL, Attribute.TOKEN, Attribute.PRIVATE, Attribute.SENSITIVE),
        *(Attribute.EXTRACTABLE, Attribute.NEVER_EXTRACTABLE, Attribute.LOCAL),
        *(Attribute.WRAP, Attribute.SIGN, Attribute.DERIVE),
    ]
    opened = pkcs11.lib(str(token.module)).get_token(token_label=token.token)
    session = opened.open(rw=True)  # the process is logged in
    keys = session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY})
    return [{name: key[name] for name in wanted} for key in keys]


async def test_key_is_made_in_the_token_and_cannot_be_had(
    soft_hsm: SoftHsm, token: TokenSettings
) -> None:
    keys = soft_hsm.keys(token)
    await keys.begin()
    assert look(token) == [
        {
            Attribute.LABEL: "patchwright-vault-1",
            Attribute.TOKEN: True,
            Attribute.PRIVATE: True,
            Attribute.SENSITIVE: True,
            Attribute.EXTRACTABLE: False,
            Attribute.NEVER_EXTRACTABLE: True,
            Attribute.LOCAL: True,
            Attribute.WRAP: False,
            Attribute.SIGN: False,
            Attribute.DERIVE: False,
        }
    ]
    assert await keys.legacy() is None


async def test_retired_key_is_destroyed_in_the_token(
    soft_hsm: SoftHsm, token: TokenSettings
) -> None:
    keys = soft_hsm.keys(token)
    await keys.begin()
    await keys.rotate()
    await keys.retire(1)
    assert [found[Attribute.LABEL] for found in look(token)] == ["patchwright-vault-2"]


async def test_keys_of_others_in_the_same_token_are_left_alone(
    soft_hsm: SoftHsm, token: TokenSettings
) -> None:
    ours, theirs = soft_hsm.keys(token), soft_hsm.keys(replace(token, prefix="patchwright-vault-2"))
    await theirs.begin()
    await theirs.rotate()
    assert await ours.versions() == ()
    await ours.begin()
    await ours.rotate()
    await ours.retire(1)
    assert await ours.versions() == (2,)
    assert await theirs.versions() == (2, 1)


async def test_version_that_another_process_made_is_noticed(
    soft_hsm: SoftHsm, token: TokenSettings
) -> None:
    theirs = [await soft_hsm.elsewhere(token, "begin")]
    ours = soft_hsm.keys(token)
    wrapped = await ours.wrap(b"data key", b"")
    assert wrapped[0] == 1
    theirs.append(await soft_hsm.elsewhere(token, "rotate"))
    assert (await ours.wrap(b"data key", b""))[0] == 2
    for version, each in (wrapped, *theirs):
        assert await ours.unwrap(version, each, b"") == b"data key"


async def test_two_keys_of_one_version_both_open_and_the_same_one_wraps(
    soft_hsm: SoftHsm, token: TokenSettings
) -> None:
    """PKCS#11 has no way to make a key unless there is one."""
    keys = soft_hsm.keys(token)
    await keys.begin()
    wrapped = []
    for _ in range(6):
        wrapped.append(await keys.wrap(b"data key", b""))
        await keys._ask(hsm._made, token.prefix, 1)
    assert len(look(token)) == 7
    assert await keys.versions() == (1,)
    for each in wrapped:
        assert await keys.unwrap(*each, b"") == b"data key"
    assert len({(await soft_hsm.keys(token).wrap(b"", b""))[1][:8] for _ in range(3)}) == 1
    await keys.rotate()
    await keys.retire(1)
    assert len(look(token)) == 1


async def test_token_that_hangs_is_a_reason_to_come_back(
    soft_hsm: SoftHsm, token: TokenSettings
) -> None:
    keys = soft_hsm.keys(token, time_limit=0.3)
    await keys.begin()
    wrapped = await keys.wrap(b"data key", b"")
    with soft_hsm.hanging():
        attempts = [keys.rotate(), *(keys.unwrap(*wrapped, b"") for _ in range(5))]
        results = await asyncio.gather(*attempts, return_exceptions=True)
        assert {type(result) for result in results} == {Retry}
        assert "the token did not answer in 0.3 s" in str(results[0])
    patient = soft_hsm.keys(token)
    assert await patient.unwrap(*wrapped, b"") == b"data key"
    assert await keys.unwrap(*wrapped, b"") == b"data key"


async def test_wrong_pin_is_said_and_not_shown(soft_hsm: SoftHsm) -> None:
    token = replace(soft_hsm.token(), pin=SecretStr("not-the-pin"))
    with pytest.raises(Permanent, match="does not take the PIN") as refused:
        await soft_hsm.keys(token).begin()
    assert "not-the-pin" not in refused.value.reason + refused.value.advice + repr(token)


async def test_what_is_not_there_is_named(
    soft_hsm: SoftHsm, token: TokenSettings, tmp_path: Path
) -> None:
    with pytest.raises(Permanent, match="not one token 'other'"):
        await soft_hsm.keys(replace(token, token="other")).begin()
    (tmp_path / "text.so").write_text("text")
    for path in (tmp_path / "absent.so", tmp_path / "text.so"):
        with pytest.raises(Permanent, match="cannot be loaded"):
            await soft_hsm.keys(replace(token, module=path)).begin()


# The library tries to end a search of the lost session, and says that it cannot.
@pytest.mark.filterwarnings("ignore:Exception ignored in. 'pkcs11")
async def test_session_that_was_lost_is_opened_again(
    soft_hsm: SoftHsm, token: TokenSettings
) -> None:
    keys = soft_hsm.keys(token)
    await keys.begin()
    wrapped = await keys.wrap(b"data key", b"")
    soft_hsm.forget()
    assert await keys.unwrap(*wrapped, b"") == b"data key"


async def test_login_that_was_lost_does_not_look_like_lost_keys(
    soft_hsm: SoftHsm, token: TokenSettings
) -> None:
    """Private keys are invisible then, without an error."""
    keys = soft_hsm.keys(token)
    await keys.begin()
    wrapped = await keys.wrap(b"data key", b"")
    for use in (keys.rotate, keys.versions, lambda: keys.unwrap(*wrapped, b"")):
        session = keys._session
        assert session
        session.close()  # which logs out
        session = pkcs11.lib(str(token.module)).get_token(token_label=token.token).open(rw=True)
        keys._session = session
        assert await use()
    assert await keys.versions() == (2, 1)


def test_pin_comes_from_a_file_or_a_variable(tmp_path: Path) -> None:
    given = {"vault_pkcs11_library": "/lib/x.so", "vault_pkcs11_token": "t"}
    with pytest.raises(Permanent, match="PIN_FILE"):
        chosen_keys(KeySettings(**given))
    with pytest.raises(Permanent, match="absent cannot be read: No such file"):
        chosen_keys(KeySettings(**given, vault_pkcs11_pin_file=tmp_path / "absent"))
    (tmp_path / "pin").write_text("pin-in-a-file\n")
    for mode in (0o640, 0o604, 0o622):
        (tmp_path / "pin").chmod(mode)
        with pytest.raises(Permanent, match=r"PIN file is open to others: chmod 600 .*pin"):
            chosen_keys(KeySettings(**given, vault_pkcs11_pin_file=tmp_path / "pin"))
    (tmp_path / "pin").chmod(0o600)
    for pin in ({"vault_pkcs11_pin_file": tmp_path / "pin"}, {"vault_pkcs11_pin": "a-pin"}):
        keys = chosen_keys(KeySettings(**given, **pin))
        assert isinstance(keys, Pkcs11Keys)
        assert not any(shown in repr(vars(keys)) for shown in ("pin-in-a-file", "a-pin"))


async def test_store_rotates_and_retires_in_the_token(
    bus: Bus, soft_hsm: SoftHsm, token: TokenSettings
) -> None:
    store = await Store.open(bus.js, Sealer(soft_hsm.keys(token)))
    await store.put(MODEL_KEY, b"sk")
    rotation = await rotate(store)
    assert (rotation.key_version, rotation.resealed) == (2, 1)
    assert (await retire(store)).retired == (1,)
    again = await Store.open(bus.js, Sealer(soft_hsm.keys(token)))
    assert await again.get(MODEL_KEY) == b"sk"


async def test_vault_program_keeps_its_keys_in_the_token(
    nats: NatsServer, bus: Bus, soft_hsm: SoftHsm, token: TokenSettings, tmp_path: Path
) -> None:
    (tmp_path / "pin").write_text(PIN)
    (tmp_path / "pin").chmod(0o600)
    plain = {
        **soft_hsm.environment,
        **nats.environment("vault"),
        "PATCHWRIGHT_VAULT_PKCS11_LIBRARY": str(token.module),
        "PATCHWRIGHT_VAULT_PKCS11_TOKEN": token.token,
        "PATCHWRIGHT_VAULT_PKCS11_PIN_FILE": str(tmp_path / "pin"),
    }
    for environment in (plain | {"ANTHROPIC_API_KEY": "a-key"}, plain):
        async with program("patchwright-vault", environment=environment) as vault:
            await vault.line(READY)
            assert await vault.stop() == 0
        assert not any(PIN in line for line in vault.lines)
    store = await Store.open(bus.js, Sealer(soft_hsm.keys(token)))
    assert await store.get(MODEL_KEY) == b"a-key"
    before = await writes(bus)
    empty = {"PATCHWRIGHT_VAULT_PKCS11_TOKEN": soft_hsm.token().token}
    wrong = {"PATCHWRIGHT_VAULT_PKCS11_PIN_FILE": "", "PATCHWRIGHT_VAULT_PKCS11_PIN": "wrong-pin"}
    for mistake, said in ((empty, "has no key"), (wrong, "does not take the PIN")):
        async with program("patchwright-vault", environment=plain | mistake) as vault:
            assert await asyncio.wait_for(vault.process.wait(), 30) == 1
        assert said in vault.lines[-1]
        assert not any("wrong-pin" in line for line in vault.lines)
    assert await writes(bus) == before
