"""A new key-encryption key while requests go on, and the end of an old one."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from harness.nats import NatsServer
from patchwright_common.bus import Bus
from patchwright_common.errors import Permanent
from patchwright_vault.bucket import Bucket
from patchwright_vault.keys.environment import EnvironmentKeys
from patchwright_vault.keys.file import FileKeys
from patchwright_vault.rotation import retire, rotate
from patchwright_vault.sealing import Sealer
from patchwright_vault.store import MODEL_KEY, WEBHOOK_SECRET, Store

from .test_sealing import sealed_long_ago
from .test_store import held, lay


class Interrupted(FileKeys):
    """Something happens right before a data key is unwrapped, or right after one was wrapped."""

    before_unwrap: Callable[[], Awaitable[object]] | None = None
    after_wrap: Callable[[], Awaitable[object]] | None = None

    async def wrap(self, data_key: bytes, context: bytes) -> tuple[int, bytes]:
        wrapped = await super().wrap(data_key, context)
        happens, self.after_wrap = self.after_wrap, None
        if happens:
            await happens()
        return wrapped

    async def unwrap(self, version: int, wrapped: bytes, context: bytes) -> bytes:
        happens, self.before_unwrap = self.before_unwrap, None
        if happens:
            await happens()
        return await super().unwrap(version, wrapped, context)


ROTATE = """
import asyncio, pathlib, sys
import nats
from patchwright_vault.keys.file import FileKeys
from patchwright_vault.rotation import rotate
from patchwright_vault.sealing import Sealer
from patchwright_vault.store import Store

async def main():
    client = await nats.connect(sys.argv[1])
    store = await Store.open(client.jetstream(), Sealer(FileKeys(pathlib.Path(sys.argv[2]))))
    print("ready", flush=True)
    while True:
        await rotate(store)

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vault.key"


@pytest.fixture
async def store(bus: Bus, path: Path) -> Store:
    return await another(bus, path)


async def another(bus: Bus, path: Path) -> Store:
    """As a vault that starts has it, or another one beside."""
    return await Store.open(bus.js, Sealer(FileKeys(path)))


async def key_versions(store: Store) -> set[int]:
    return {record.key_version for record in await store.describe()}


async def test_rotation_seals_every_record_with_the_new_key(store: Store, bus: Bus) -> None:
    for n in range(5):
        await store.put(f"installation.{n}", b"%d" % n)
    before = {record.name: record for record in await store.describe()}
    sealed = await held(bus, "installation.0")
    rotation = await rotate(store)
    assert (rotation.key_version, rotation.made, rotation.retirable) == (2, True, (1,))
    assert (rotation.records, rotation.resealed) == (5, 5)
    for record in await store.describe():
        assert record.key_version == 2
        assert record.version == before[record.name].version + 1
        assert record.changed_at == before[record.name].changed_at
    assert [await store.get(f"installation.{n}") for n in range(5)] == [b"%d" % n for n in range(5)]
    # A new data key too: whoever had the old key could have it.
    assert (await held(bus, "installation.0"))[99:] != sealed[99:]


async def test_retired_key_opens_no_copy_from_a_backup(store: Store, bus: Bus, path: Path) -> None:
    await store.put(MODEL_KEY, b"sk")
    backup = await held(bus, MODEL_KEY)
    await rotate(store)
    retirement = await retire(store)
    assert (retirement.key_version, retirement.retired) == (2, (1,))
    assert await store.get(MODEL_KEY) == b"sk"
    await lay(bus, MODEL_KEY, backup)
    for vault in (store, await another(bus, path)):
        with pytest.raises(Permanent) as refused:
            await vault.get(MODEL_KEY)
        assert "sealed with key version 1, but the vault's key file has 2" in refused.value.reason
        assert "Nothing was overwritten" in refused.value.reason
    assert await held(bus, MODEL_KEY) == backup


async def test_version_in_use_is_not_retired(store: Store, bus: Bus) -> None:
    await store.put(MODEL_KEY, b"sk")
    await store.put(WEBHOOK_SECRET, b"w")
    old = await held(bus, MODEL_KEY)
    await rotate(store)
    await lay(bus, MODEL_KEY, old)
    restarted = Store(await Bucket.open(bus.js), Sealer(store.keys))
    for version in (None, 1):
        with pytest.raises(Permanent, match="still in use, by the record 'model-key'"):
            await retire(restarted, version)
    assert await restarted.keys.versions() == (2, 1)
    assert (await rotate(restarted)).made is False
    assert (await retire(restarted, 1)).retired == (1,)
    assert await restarted.get(MODEL_KEY) == b"sk"


async def test_record_that_lies_about_its_key_does_not_cost_the_key(store: Store, bus: Bus) -> None:
    await store.put(MODEL_KEY, b"sk")
    old = bytearray(await held(bus, MODEL_KEY))
    await rotate(store)
    old[12] = 2
    await lay(bus, MODEL_KEY, bytes(old))
    with pytest.raises(Permanent, match="cannot be opened"):
        await retire(store)
    assert await store.keys.versions() == (2, 1)


async def test_current_and_unknown_versions_are_not_retired(store: Store) -> None:
    await rotate(store)
    with pytest.raises(Permanent, match="current"):
        await retire(store, 2)
    with pytest.raises(Permanent, match="no key version 7"):
        await retire(store, 7)
    assert (await retire(store)).retired == (1,)
    assert (await retire(store)).retired == ()
    with pytest.raises(Permanent, match="no key version 1"):
        await retire(store, 1)


async def test_records_of_the_first_format_are_rewritten(bus: Bus, path: Path) -> None:
    path.write_text("ab" * 32)
    path.chmod(0o600)
    await lay(bus, MODEL_KEY, sealed_long_ago(MODEL_KEY, b"sk", b"\xab" * 32))
    store = await another(bus, path)
    with pytest.raises(Permanent, match="no key version"):
        await retire(store, 3)
    rotation = await rotate(store)
    assert (rotation.key_version, rotation.resealed) == (2, 1)
    assert (await held(bus, MODEL_KEY))[0] == 2
    await retire(store)
    assert await store.get(MODEL_KEY) == b"sk"


async def test_record_of_the_first_format_keeps_its_key_from_being_retired(
    bus: Bus, store: Store, path: Path
) -> None:
    await store.keys.rotate()
    key = await store.keys.legacy()
    assert key
    await lay(bus, MODEL_KEY, sealed_long_ago(MODEL_KEY, b"sk", key))
    with pytest.raises(Permanent, match="version 1 is still in use"):
        await retire(store)
    assert await store.get(MODEL_KEY) == b"sk"


async def test_record_that_does_not_open_is_named_and_the_others_are_done(
    store: Store, bus: Bus
) -> None:
    await store.put(MODEL_KEY, b"sk")
    await store.put(WEBHOOK_SECRET, b"w")
    damaged = (await held(bus, MODEL_KEY))[:-1]
    await lay(bus, MODEL_KEY, damaged)
    for _ in range(2):
        with pytest.raises(Permanent, match="record 'model-key' cannot be opened"):
            await rotate(store)
        assert await store.keys.versions() == (2, 1)  # one version, however often it is tried
    assert await store.get(WEBHOOK_SECRET) == b"w"
    assert await held(bus, MODEL_KEY) == damaged
    with pytest.raises(Permanent, match="cannot be opened"):
        await retire(store)
    await store.delete(MODEL_KEY)
    assert (await retire(store)).retired == (1,)
    assert (await rotate(store)).key_version == 3


@pytest.mark.parametrize("name", [MODEL_KEY, "mark-key", "conversion"])
async def test_secret_of_which_nothing_is_left_is_no_stray(
    store: Store, bus: Bus, name: str
) -> None:
    """Its key may be needed yet, for the record from a backup."""
    await store.put(name, b"sk")
    await lay(bus, name, b"overwritten")
    with pytest.raises(Permanent, match="cannot be opened"):
        await rotate(store)
    with pytest.raises(Permanent, match="cannot be opened"):
        await retire(store)
    assert await store.keys.versions() == (2, 1)


async def test_rotation_that_was_killed_is_carried_through_by_the_next(
    store: Store, bus: Bus, path: Path, nats: NatsServer
) -> None:
    names = [f"installation.{n}" for n in range(12)]
    for name in names:
        await store.put(name, name.encode())
    cut_short = 0
    for killed_after in (0.0, 0.01, 0.03, 0.06, 0.1, 0.15):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", ROTATE, nats.url, str(path)),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout
        assert await process.stdout.readline() == b"ready\n"
        await asyncio.sleep(killed_after)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        for name in names:
            assert await store.get(name) == name.encode()
        (newest, *_) = await store.keys.versions()
        unfinished = await key_versions(store) != {newest}
        rotation = await rotate(store)
        assert rotation.made is not unfinished
        assert await key_versions(store) == {rotation.key_version}
        cut_short += unfinished
    (newest, *_) = await store.keys.versions()
    for name in names[:-1]:  # the worst moment: the key is made, and one record is done
        await store.reseal(name)
    await store.keys.rotate()
    await store.reseal(names[0])
    rotation = await rotate(await another(bus, path))
    assert (rotation.key_version, rotation.made, rotation.resealed) == (newest + 1, False, 11)
    assert await key_versions(store) == {newest + 1}


async def test_put_during_a_rotation_wins(store: Store, bus: Bus, path: Path) -> None:
    other = await another(bus, path)
    for n in range(20):
        await store.put(MODEL_KEY, b"old %d" % n)
        await asyncio.gather(rotate(store), other.put(MODEL_KEY, b"new %d" % n))
        assert await store.get(MODEL_KEY) == b"new %d" % n
        assert (await rotate(store)).key_version in await key_versions(store)


async def test_record_that_was_deleted_during_a_rotation_stays_deleted(
    store: Store, bus: Bus, path: Path
) -> None:
    other = await another(bus, path)
    for n in range(10):
        await store.put(MODEL_KEY, b"%d" % n)
        await asyncio.gather(rotate(store), other.delete(MODEL_KEY))
        assert await store.names() == []


async def test_write_that_was_sealed_before_the_retirement_is_never_stored(
    store: Store, bus: Bus, path: Path
) -> None:
    """A vault that is paused between sealing and storing would store what nothing opens."""
    bucket = await Bucket.open(bus.js)
    await store.put(MODEL_KEY, b"sk")
    paused = await bucket.sequence()
    sealed = await Sealer(FileKeys(path)).seal("other", b"x", version=1, changed_at=1.0)
    await store.keys.rotate()
    await store.reseal(MODEL_KEY)
    paused_later = await bucket.sequence()  # nothing was written between this and retiring
    await retire(store)
    for sequence in (paused, paused_later):
        assert not await bucket.put("other", sealed, sequence)


async def test_record_whose_key_is_retired_while_it_is_read_is_read_again(
    store: Store, bus: Bus, path: Path
) -> None:
    keys = Interrupted(path)
    other = await Store.open(bus.js, Sealer(keys))

    async def change_keys() -> None:
        await rotate(store)
        await retire(store)

    await store.put(MODEL_KEY, b"sk")
    keys.before_unwrap = change_keys
    assert await other.get(MODEL_KEY) == b"sk"
    keys.before_unwrap = change_keys
    assert await other.put(MODEL_KEY, b"new")
    keys.before_unwrap = change_keys
    assert not await other.reseal(MODEL_KEY)
    assert await store.get(MODEL_KEY) == b"new"
    assert await store.keys.versions() == (4,)


async def test_write_that_was_sealed_before_a_rotation_is_sealed_again(
    store: Store, bus: Bus, path: Path
) -> None:
    keys = Interrupted(path)
    other = await Store.open(bus.js, Sealer(keys))
    keys.after_wrap = lambda: rotate(store)
    assert await other.put(MODEL_KEY, b"one")
    assert await key_versions(store) == {2}
    keys.after_wrap = lambda: rotate(store)
    assert await other.create("other", b"two")
    assert await key_versions(store) == {3}
    assert (await retire(store)).retired == (2, 1)
    assert (await store.get(MODEL_KEY), await store.get("other")) == (b"one", b"two")


async def test_operators_new_key_is_used_by_the_next_rotation(bus: Bus) -> None:
    one, two = "11" * 32, "22" * 32

    async def vault(keys: str) -> Store:
        return await Store.open(bus.js, Sealer(EnvironmentKeys(SecretStr(keys))))

    store = await vault(f"1:{one}")
    await store.put(MODEL_KEY, b"sk")
    with pytest.raises(Permanent, match="only you can add one"):
        await rotate(store)
    store = await vault(f"2:{two},1:{one}")
    rotation = await rotate(store)
    assert (rotation.key_version, rotation.made, rotation.resealed) == (2, False, 1)
    with pytest.raises(Permanent, match="No record uses key version 1 any more"):
        await retire(store)
    assert await (await vault(f"2:{two}")).get(MODEL_KEY) == b"sk"
    with pytest.raises(Permanent, match=r"sealed with key version 2, but .* has 1"):
        await (await vault(f"1:{one}")).get(MODEL_KEY)


async def test_rotation_of_nothing_makes_a_key_all_the_same(store: Store) -> None:
    rotation = await rotate(store)
    assert (rotation.key_version, rotation.records, rotation.resealed) == (2, 0, 0)
    assert await store.describe() == []
