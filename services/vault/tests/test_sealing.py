"""What is sealed opens as what it was sealed as, with its key alone, whole or not at all."""

from __future__ import annotations

import secrets
import struct

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from patchwright_common.errors import Permanent
from patchwright_vault.keys.environment import EnvironmentKeys
from patchwright_vault.keys.protocol import KEY_BYTES, ChangedError
from patchwright_vault.sealing import FORMAT, Sealer, _context, facts, installation_of

KEYS = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)
NAMES = st.text(min_size=1, max_size=30)
VERSIONS = st.integers(min_value=1, max_value=2**63)
KEY = bytes(range(KEY_BYTES))


def sealer(key: bytes = KEY, version: int = 1) -> Sealer:
    return Sealer(EnvironmentKeys(SecretStr(f"{version}:{key.hex()}")))


async def sealed(name: str, secret: bytes, version: int = 1, *, key: bytes = KEY) -> bytes:
    return await sealer(key).seal(name, secret, version=version, changed_at=1_700_000_000.5)


def sealed_long_ago(name: str, secret: bytes, key: bytes = KEY) -> bytes:
    """Format 1, as the first releases wrote it."""
    nonce = secrets.token_bytes(12)
    associated = f"patchwright/vault/1/{name}".encode()
    return b"\x01" + nonce + AESGCM(key).encrypt(nonce, secret, associated)


async def refusal(name: str, record: bytes, by: Sealer | None = None) -> str:
    """Why it does not open; every refusal says that nothing was harmed."""
    with pytest.raises(Permanent) as refused:
        await (by or sealer()).open(name, record)
    assert refused.value.reason.startswith(f"The vault's record {name!r} cannot be opened: ")
    assert refused.value.reason.endswith("Nothing was overwritten.")
    return refused.value.reason


@settings(deadline=None)
@given(KEYS, NAMES, VERSIONS, st.binary(max_size=5000))
async def test_secret_comes_back_as_it_was(
    key: bytes, name: str, version: int, secret: bytes
) -> None:
    opened = await sealer(key).open(name, await sealed(name, secret, version, key=key))
    assert opened.secret == secret
    told = opened.facts
    assert (told.name, told.version, told.key_version) == (name, version, 1)
    assert told.changed_at == 1_700_000_000.5
    assert facts(name, await sealed(name, secret, version, key=key)) == told


@settings(deadline=None)
@given(NAMES, st.binary(min_size=8, max_size=200))
async def test_record_shows_nothing_of_the_secret_and_is_new_each_time(
    name: str, secret: bytes
) -> None:
    first, second = await sealed(name, secret), await sealed(name, secret)
    assert secret not in first
    assert KEY not in first
    wrapped = slice(23, 23 + 64)
    assert first[wrapped][4:16] != second[wrapped][4:16]  # a nonce twice would break GCM
    assert first[wrapped][16:] != second[wrapped][16:]
    assert first[87:99] != second[87:99]
    assert first[99:] != second[99:]


@settings(max_examples=10, deadline=None)
@given(st.binary(max_size=40))
async def test_every_flipped_bit_is_refused(secret: bytes) -> None:
    record = await sealed("name", secret)
    for bit in range(8 * len(record)):
        flipped = bytearray(record)
        flipped[bit // 8] ^= 1 << bit % 8
        await refusal("name", bytes(flipped))


@settings(deadline=None)
@given(st.integers(5000, 60_000), st.data())
async def test_flipped_bit_of_a_large_record_is_refused(size: int, data: st.DataObject) -> None:
    record = bytearray(await sealed("name", b"x" * size))
    for bit in data.draw(st.lists(st.integers(0, 8 * len(record) - 1), min_size=1, max_size=20)):
        record[bit // 8] ^= 1 << bit % 8
        await refusal("name", bytes(record))
        record[bit // 8] ^= 1 << bit % 8


@settings(max_examples=10, deadline=None)
@given(st.binary(max_size=40))
async def test_every_flipped_bit_of_an_old_record_is_refused(secret: bytes) -> None:
    record = sealed_long_ago("name", secret)
    assert (await sealer().open("name", record)).secret == secret
    for bit in range(8 * len(record)):
        flipped = bytearray(record)
        flipped[bit // 8] ^= 1 << bit % 8
        await refusal("name", bytes(flipped))


@settings(deadline=None)
@given(st.binary(max_size=40), st.binary(min_size=1, max_size=5), st.booleans())
async def test_record_of_another_length_is_refused(secret: bytes, more: bytes, old: bool) -> None:
    record = sealed_long_ago("name", secret) if old else await sealed("name", secret)
    for changed in (*(record[:end] for end in range(len(record))), record + more, more + record):
        await refusal("name", changed)


@settings(deadline=None)
@given(NAMES, NAMES, st.binary(max_size=40))
async def test_record_that_was_moved_to_another_name_is_refused(
    name: str, other: str, secret: bytes
) -> None:
    if name == other:
        return
    assert "changed or moved" in await refusal(other, await sealed(name, secret))


@settings(deadline=None)
@given(st.integers(1, 10**9), st.integers(1, 10**9))
async def test_record_of_one_installation_is_none_of_another(one: int, other: int) -> None:
    names = f"installation.{one}", f"installation.{other}"
    assert [installation_of(name) for name in (*names, "model-key")] == [
        str(one),
        str(other),
        "none",
    ]
    if one != other:
        await refusal(names[1], await sealed(names[0], b"{}"))


@settings(deadline=None)
@given(VERSIONS, VERSIONS)
async def test_record_cannot_pass_for_another_version(version: int, other: int) -> None:
    if version == other:
        return
    record = bytearray(await sealed("name", b"secret", version))
    record[1:9] = struct.pack(">Q", other)
    assert "changed or moved" in await refusal("name", bytes(record))


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1))
async def test_record_cannot_pretend_to_be_of_another_time(changed_at: int) -> None:
    record = bytearray(await sealed("name", b"secret"))
    if record[13:21] != struct.pack(">Q", changed_at):
        record[13:21] = struct.pack(">Q", changed_at)
        assert "changed or moved" in await refusal("name", bytes(record))


async def test_data_key_is_new_each_time_and_bound_to_name_and_version() -> None:
    keys = sealer().keys
    contexts = [_context(*label) for label in (("name", 1), ("name", 2), ("eman", 1))]
    found = set()
    for _ in range(3):
        wrapped = (await sealed("name", b"secret"))[23:87]
        found.add(await keys.unwrap(1, wrapped, contexts[0]))
        for other in contexts[1:]:
            with pytest.raises(ChangedError):
                await keys.unwrap(1, wrapped, other)
    assert [len(key) for key in found] == [KEY_BYTES] * 3


async def test_parts_of_two_records_do_not_make_a_third() -> None:
    one, other = await sealed("name", b"one"), await sealed("name", b"two")
    await refusal("name", one[:87] + other[87:])  # a data key of one, a ciphertext of the other
    await refusal("name", one[:99] + other[99:])


@settings(deadline=None)
@given(KEYS, KEYS, st.binary(max_size=40))
async def test_other_key_is_refused_and_told_from_a_change(
    key: bytes, other: bytes, secret: bytes
) -> None:
    if key == other:
        return
    why = await refusal("name", await sealed("name", secret, key=key), by=sealer(other))
    assert "is not the key that sealed it" in why


async def test_each_reason_is_told_apart() -> None:
    record = await sealed("name", b"secret")
    reasons = {
        "as it is empty": b"",
        "its end is missing": record[:60],
        "its format 3 is not one": bytes([FORMAT + 1]) + record[1:],
        "changed or moved": record[:-1] + bytes([record[-1] ^ 1]),
        "sealed with key version 9, but PATCHWRIGHT_VAULT_KEYS has 1": record[:12]
        + b"\x09"
        + record[13:],
    }
    for why, wrong in reasons.items():
        assert why in await refusal("name", wrong)
    other = sealer(bytes(KEY_BYTES))
    assert "version 1 in PATCHWRIGHT_VAULT_KEYS is not the key" in await refusal(
        "name", record, by=other
    )
    old = sealed_long_ago("name", b"secret")
    assert "version 1 of the key is not the one" in await refusal("name", old, by=other)
    newer = sealer(KEY, version=2)
    assert "version 1 of the key is not at hand" in await refusal("name", old, by=newer)


@settings(deadline=None)
@given(st.binary(max_size=200))
async def test_nonsense_is_refused(record: bytes) -> None:
    await refusal("name", record)
    await refusal("name", b"\x01" + record)
    await refusal("name", b"\x02" + record)


@settings(deadline=None)
@given(NAMES, st.binary(max_size=40))
async def test_refusal_holds_neither_secret_nor_key(name: str, secret: bytes) -> None:
    record = await sealed(name, b"sk-secret" + secret)
    why = await refusal(name, record[:-1] + bytes([record[-1] ^ 1]))
    assert "sk-secret" not in why.removeprefix(f"The vault's record {name!r}")
    assert KEY.hex() not in why
    assert "sk-secret" not in repr(await sealer().open(name, record))
