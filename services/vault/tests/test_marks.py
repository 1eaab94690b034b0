"""The signature of comment markers outlives every key."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from patchwright_common.bus import Bus
from patchwright_common.errors import Permanent
from patchwright_vault.keys.environment import EnvironmentKeys
from patchwright_vault.keys.file import FileKeys
from patchwright_vault.marks import mark, mark_key
from patchwright_vault.rotation import retire, rotate
from patchwright_vault.sealing import Sealer
from patchwright_vault.store import MARK_KEY, MODEL_KEY, Store

from .test_sealing import sealed_long_ago
from .test_store import held, lay

OLD_KEY = b"\xab" * 32


@given(st.binary(min_size=32, max_size=32), st.text(max_size=30), st.text(max_size=30))
def test_mark_belongs_to_one_job_and_one_key(key: bytes, job: str, other: str) -> None:
    assert mark(key, job) == mark(key, job)
    assert len(bytes.fromhex(mark(key, job))) == 16
    assert (mark(key, job) == mark(key, other)) == (job == other)
    assert mark(key, job) != mark(bytes(31) + b"x", job)


async def test_key_is_random_and_made_once(bus: Bus, tmp_path: Path) -> None:
    stores = [await Store.open(bus.js, Sealer(FileKeys(tmp_path / "vault.key"))) for _ in "123"]
    keys = await asyncio.gather(*(mark_key(store) for store in stores for _ in "12"))
    assert len(set(keys)) == 1
    assert len(keys[0]) == 32
    derived = hmac.digest(await stores[0].keys.legacy() or b"", b"patchwright/mark/1", "sha256")
    assert keys[0] != derived


async def test_marks_stay_the_same_through_rotations(bus: Bus, tmp_path: Path) -> None:
    store = await Store.open(bus.js, Sealer(FileKeys(tmp_path / "vault.key")))
    before = mark(await mark_key(store), "7-1")
    await rotate(store)
    await retire(store)
    assert mark(await mark_key(store), "7-1") == before


async def test_comments_of_the_first_releases_are_still_recognised(
    bus: Bus, tmp_path: Path
) -> None:
    path = tmp_path / "vault.key"
    path.write_text(OLD_KEY.hex() + "\n")
    path.chmod(0o600)
    await lay(bus, MODEL_KEY, sealed_long_ago(MODEL_KEY, b"sk", OLD_KEY))
    old = hmac.digest(
        hmac.digest(OLD_KEY, b"patchwright/mark/1", hashlib.sha256), b"7-1", hashlib.sha256
    )
    store = await Store.open(bus.js, Sealer(FileKeys(path)))
    assert mark(await mark_key(store), "7-1") == old[:16].hex()
    await rotate(store)
    await retire(store)
    assert mark(await mark_key(store), "7-1") == old[:16].hex()


async def test_old_comments_key_that_is_not_at_hand_is_not_replaced(bus: Bus) -> None:
    await lay(bus, MODEL_KEY, sealed_long_ago(MODEL_KEY, b"sk", OLD_KEY))
    store = await Store.open(bus.js, Sealer(EnvironmentKeys(SecretStr("2:" + "11" * 32))))
    with pytest.raises(Permanent, match="not at hand"):
        await mark_key(store)
    assert MARK_KEY not in await store.names()
    wrong = await Store.open(bus.js, Sealer(EnvironmentKeys(SecretStr("1:" + "11" * 32))))
    with pytest.raises(Permanent, match="cannot be opened"):
        await mark_key(wrong)
    assert MARK_KEY not in await store.names()
    assert (await held(bus, MODEL_KEY))[0] == 1
