"""The records in `PW_VAULT`: ciphertext, written once, never over what does not open."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest
from pydantic import SecretStr

from harness.nats import NatsServer
from patchwright_common.bus import Bus
from patchwright_common.errors import Permanent, Retry
from patchwright_vault.bucket import Bucket
from patchwright_vault.keys.environment import EnvironmentKeys
from patchwright_vault.keys.file import FileKeys
from patchwright_vault.sealing import Sealer
from patchwright_vault.store import MODEL_KEY, WEBHOOK_SECRET, MissingError, Store

from .looking import everything_stored, writes
from .test_sealing import sealed_long_ago


def sealer(key: str = "") -> Sealer:
    return Sealer(EnvironmentKeys(SecretStr(key or secrets.token_hex(32))))


async def held(bus: Bus, name: str) -> bytes:
    """The record as it lies there."""
    return (await (await bus.js.key_value("PW_VAULT")).get(name)).value or b""


async def lay(bus: Bus, name: str, record: bytes) -> None:
    """Put a record there as somebody does who can write to the bucket."""
    await (await bus.js.key_value("PW_VAULT")).put(name, record)


async def test_secret_is_stored_as_ciphertext_and_once(bus: Bus) -> None:
    store = await Store.open(bus.js, sealer())
    with pytest.raises(MissingError):
        await store.get(MODEL_KEY)
    assert await store.put(MODEL_KEY, b"sk-very-secret")
    assert not await store.put(MODEL_KEY, b"sk-very-secret")
    assert await store.get(MODEL_KEY) == b"sk-very-secret"
    assert await store.put(MODEL_KEY, b"sk-other-secret")
    assert await store.get(MODEL_KEY) == b"sk-other-secret"
    assert await writes(bus) == 2
    assert b"-secret" not in await everything_stored(bus)


async def test_record_that_does_not_open_is_never_overwritten(bus: Bus) -> None:
    ours, theirs = await Store.open(bus.js, sealer()), await Store.open(bus.js, sealer())
    await theirs.put(MODEL_KEY, b"theirs")
    for attempt in (ours.get(MODEL_KEY), ours.put(MODEL_KEY, b"ours"), ours.check()):
        with pytest.raises(Permanent) as refused:
            await attempt
        assert not isinstance(refused.value, MissingError)
    assert not await ours.create(MODEL_KEY, b"ours")
    with pytest.raises(Permanent):
        await ours.reseal(MODEL_KEY)
    assert await theirs.get(MODEL_KEY) == b"theirs"
    assert await writes(bus) == 1


async def test_damaged_record_is_never_overwritten(bus: Bus) -> None:
    store = await Store.open(bus.js, sealer())
    await store.put(MODEL_KEY, b"secret")
    whole = await held(bus, MODEL_KEY)
    for damaged in (b"", b"\x07", whole[:-1], whole[:30], b"\x01" + whole[1:], whole + b"x"):
        await lay(bus, MODEL_KEY, damaged)
        before = await writes(bus)
        for attempt in (store.get(MODEL_KEY), store.put(MODEL_KEY, b"new"), store.check()):
            with pytest.raises(Permanent, match="Nothing was overwritten"):
                await attempt
        assert await writes(bus) == before
        assert await held(bus, MODEL_KEY) == damaged
    await lay(bus, MODEL_KEY, whole)
    assert await store.get(MODEL_KEY) == b"secret"


async def test_vaults_with_two_keys_that_write_at_once_do_not_overwrite_each_other(
    bus: Bus,
) -> None:
    for round_ in range(20):
        name = f"record-{round_}"
        stores = [await Store.open(bus.js, sealer()) for _ in range(4)]
        writing = [store.put(name, b"%d" % n) for n, store in enumerate(stores)]
        results = await asyncio.gather(*writing, return_exceptions=True)
        assert results.count(True) == 1
        assert all(r is True or isinstance(r, Retry | Permanent) for r in results)
        winner = results.index(True)
        assert await stores[winner].get(name) == b"%d" % winner
    assert await writes(bus) == 20


async def test_vaults_that_write_different_records_at_once_all_succeed(bus: Bus) -> None:
    """The compare-and-set is over the whole bucket, so they meet."""
    key = secrets.token_hex(32)
    stores = [await Store.open(bus.js, sealer(key)) for _ in range(3)]
    writing = [
        store.put(f"record-{n}-{m}", b"x") for m in range(10) for n, store in enumerate(stores)
    ]
    assert await asyncio.gather(*writing) == [True] * 30
    assert len(await stores[0].names()) == 30


async def test_create_leaves_what_is_there(bus: Bus) -> None:
    store = await Store.open(bus.js, sealer())
    assert await store.create(MODEL_KEY, b"one")
    assert not await store.create(MODEL_KEY, b"two")
    assert await store.get(MODEL_KEY) == b"one"
    creating = [store.create("other", b"%d" % n) for n in range(5)]
    assert (await asyncio.gather(*creating)).count(True) == 1


async def test_deleted_record_is_gone_and_can_be_set_again(bus: Bus) -> None:
    store, other = [await Store.open(bus.js, sealer("11" * 32)) for _ in range(2)]
    assert not await store.delete(MODEL_KEY)
    await store.put(MODEL_KEY, b"one")
    assert await other.get(MODEL_KEY) == b"one"
    assert await store.delete(MODEL_KEY)
    assert not await store.delete(MODEL_KEY)
    assert await store.names() == []
    for vault in (store, other):
        with pytest.raises(MissingError):
            await vault.get(MODEL_KEY)
    assert await store.put(MODEL_KEY, b"two")
    assert await other.get(MODEL_KEY) == b"two"
    assert await store.delete(MODEL_KEY)
    assert await store.create(MODEL_KEY, b"three")
    assert await other.get(MODEL_KEY) == b"three"


async def test_record_that_does_not_open_can_be_deleted(bus: Bus) -> None:
    store = await Store.open(bus.js, sealer())
    await lay(bus, MODEL_KEY, b"nonsense")
    assert await store.delete(MODEL_KEY)
    assert await store.put(MODEL_KEY, b"new")


async def test_description_tells_versions_and_times_and_no_value(bus: Bus) -> None:
    store = await Store.open(bus.js, sealer())
    await store.put(MODEL_KEY, b"one")
    await store.put("installation.7", b"{}")
    [seven, first] = await store.describe()
    await store.put(MODEL_KEY, b"two")
    await store.put(MODEL_KEY, b"two")
    [_, second] = await store.describe()
    assert (seven.name, first.name) == ("installation.7", MODEL_KEY)
    assert (first.version, second.version, second.key_version) == (1, 2, 1)
    assert seven.changed_at > 1_700_000_000
    assert second.changed_at >= first.changed_at
    await lay(bus, "damaged", b"\x09")
    await lay(bus, "old", sealed_long_ago("old", b"x"))
    facts = {record.name: record for record in await store.describe()}
    assert (facts["damaged"].version, facts["damaged"].key_version) == (0, 0)
    assert (facts["old"].version, facts["old"].key_version) == (0, 1)


async def test_version_goes_on_after_a_deletion(bus: Bus) -> None:
    store = await Store.open(bus.js, sealer())
    versions = []
    for secret in (b"one", b"two", b"three"):
        await store.put(MODEL_KEY, secret)
        versions += [record.version for record in await store.describe()]
        await store.delete(MODEL_KEY)
    assert versions == sorted(set(versions))


async def test_older_version_that_was_put_back_is_refused(bus: Bus) -> None:
    store = await Store.open(bus.js, sealer("11" * 32))
    await store.put(WEBHOOK_SECRET, b"leaked")
    leaked = await held(bus, WEBHOOK_SECRET)
    await store.put(WEBHOOK_SECRET, b"new")
    await lay(bus, WEBHOOK_SECRET, leaked)
    for attempt in (store.get(WEBHOOK_SECRET), store.put(WEBHOOK_SECRET, b"newer")):
        with pytest.raises(Permanent, match="put back to version 1; this vault has seen 2"):
            await attempt
    assert await held(bus, WEBHOOK_SECRET) == leaked
    restarted = await Store.open(bus.js, sealer("11" * 32))
    assert await restarted.get(WEBHOOK_SECRET) == b"leaked"


async def test_reads_while_others_write_are_never_taken_for_a_put_back_record(bus: Bus) -> None:
    store = await Store.open(bus.js, sealer())
    await store.put(MODEL_KEY, b"0")

    async def write() -> None:
        for n in range(60):
            await store.put(MODEL_KEY, b"%d" % n)

    async def read() -> None:
        for _ in range(60):
            await store.get(MODEL_KEY)

    await asyncio.gather(write(), *(read() for _ in range(6)))


async def test_record_of_the_first_format_opens_and_is_rewritten_at_the_next_put(bus: Bus) -> None:
    key = secrets.token_hex(32)
    await lay(bus, MODEL_KEY, sealed_long_ago(MODEL_KEY, b"sk", bytes.fromhex(key)))
    store = await Store.open(bus.js, sealer(key))
    await store.check()
    assert await store.get(MODEL_KEY) == b"sk"
    assert (await held(bus, MODEL_KEY))[0] == 1
    assert not await store.put(MODEL_KEY, b"sk")
    assert (await held(bus, MODEL_KEY))[0] == 2
    assert await store.get(MODEL_KEY) == b"sk"
    await lay(bus, WEBHOOK_SECRET, sealed_long_ago(WEBHOOK_SECRET, b"w", bytes.fromhex(key)))
    assert await store.put(WEBHOOK_SECRET, b"other")
    assert (await held(bus, WEBHOOK_SECRET))[0] == 2


async def test_records_that_were_swapped_are_refused(bus: Bus) -> None:
    store = await Store.open(bus.js, sealer())
    names = (MODEL_KEY, "installation.1", "installation.2")
    records = {}
    for name in names:
        await store.put(name, name.encode())
        records[name] = await held(bus, name)
    for name in names:
        for other in set(names) - {name}:
            await lay(bus, name, records[other])
            with pytest.raises(Permanent, match="changed or moved"):
                await store.get(name)
        await lay(bus, name, records[name])
        assert await store.get(name) == name.encode()


async def test_records_without_their_key_file_stop_the_vault_and_no_key_is_made(
    bus: Bus, tmp_path: Path
) -> None:
    path = tmp_path / "vault.key"
    store = await Store.open(bus.js, Sealer(FileKeys(path)))
    await store.put(MODEL_KEY, b"sk")
    away = path.rename(tmp_path / "away.key")
    with pytest.raises(Permanent) as refused:
        await Store.open(bus.js, Sealer(FileKeys(path)))
    assert f"The vault's 1 records cannot be opened: the vault's key file {path} has no key" in (
        refused.value.reason
    )
    assert "Nothing was overwritten" in refused.value.reason
    assert not path.exists()
    away.rename(path)
    again = await Store.open(bus.js, Sealer(FileKeys(path)))
    assert await again.get(MODEL_KEY) == b"sk"


async def test_junk_in_an_empty_bucket_does_not_look_like_lost_keys(
    bus: Bus, tmp_path: Path
) -> None:
    await lay(bus, "junk", b"not a record")
    store = await Store.open(bus.js, Sealer(FileKeys(tmp_path / "vault.key")))
    assert await store.put(MODEL_KEY, b"sk")
    assert (await store.names(), await store.strays()) == ([MODEL_KEY], ["junk"])


async def test_vaults_that_start_at_once_on_an_empty_bucket_share_a_key(
    bus: Bus, tmp_path: Path
) -> None:
    async def start(n: int) -> Store:
        store = await Store.open(bus.js, Sealer(FileKeys(tmp_path / "vault.key")))
        await store.put(f"record-{n}", b"%d" % n)
        return store

    stores = await asyncio.gather(*(start(n) for n in range(4)))
    for store in stores:
        for n in range(4):
            assert await store.get(f"record-{n}") == b"%d" % n


async def test_write_that_was_sealed_before_a_fence_is_refused(bus: Bus) -> None:
    bucket = await Bucket.open(bus.js)
    before = await bucket.sequence()
    await bucket.fence()
    assert not await bucket.put("name", b"record", before)
    assert not await bucket.delete("name", before)
    assert await bucket.put("name", b"record", await bucket.sequence())
    assert [name async for name, _ in bucket.everything()] == ["name"]


async def test_bus_that_is_away_is_a_reason_to_come_back(bus: Bus, nats: NatsServer) -> None:
    store = await Store.open(bus.client.jetstream(timeout=0.3), sealer())
    nats.pause()
    try:
        for attempt in (
            store.get(MODEL_KEY),
            store.put(MODEL_KEY, b"x"),
            store.create(MODEL_KEY, b"x"),
            store.delete(MODEL_KEY),
            store.reseal(MODEL_KEY),
            store.names(),
            store.describe(),
            store.fence(),
            store.check(),
        ):
            with pytest.raises(Retry):
                await attempt
    finally:
        nats.wake()
    again = await Store.open(bus.js, sealer())
    assert await again.put(MODEL_KEY, b"x")


async def test_missing_bucket_names_the_command_that_makes_it(bus: Bus) -> None:
    await bus.js.delete_key_value("PW_VAULT")
    with pytest.raises(Retry, match="just topology"):
        await Store.open(bus.js, sealer())
