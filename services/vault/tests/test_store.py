"""The records in `PW_VAULT`: ciphertext, written once, never over what does not open."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from harness.nats import NatsServer
from patchwright_common.bus import Bus
from patchwright_common.errors import Permanent, Retry
from patchwright_vault.sealing import KEY_BYTES, Sealer
from patchwright_vault.store import MODEL_KEY, WEBHOOK_SECRET, MissingError, Store

from .looking import everything_stored, writes


def sealer() -> Sealer:
    return Sealer(secrets.token_bytes(KEY_BYTES))


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
    assert await theirs.get(MODEL_KEY) == b"theirs"


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


async def test_record_that_an_operator_deleted_can_be_set_again(bus: Bus) -> None:
    store = await Store.open(bus.js, sealer())
    await store.put(MODEL_KEY, b"one")
    await (await bus.js.key_value("PW_VAULT")).delete(MODEL_KEY)
    with pytest.raises(MissingError):
        await store.get(MODEL_KEY)
    assert await store.put(MODEL_KEY, b"two")
    assert await store.get(MODEL_KEY) == b"two"


async def test_records_that_were_swapped_are_refused(bus: Bus) -> None:
    store = await Store.open(bus.js, sealer())
    await store.put(MODEL_KEY, b"model")
    await store.put(WEBHOOK_SECRET, b"webhook")
    bucket = await bus.js.key_value("PW_VAULT")
    model, webhook = await bucket.get(MODEL_KEY), await bucket.get(WEBHOOK_SECRET)
    await bucket.put(MODEL_KEY, webhook.value or b"")
    await bucket.put(WEBHOOK_SECRET, model.value or b"")
    for name in (MODEL_KEY, WEBHOOK_SECRET):
        with pytest.raises(Permanent):
            await store.get(name)


async def test_bus_that_is_away_is_a_reason_to_come_back(bus: Bus, nats: NatsServer) -> None:
    store = await Store.open(bus.client.jetstream(timeout=0.3), sealer())
    nats.pause()
    try:
        for attempt in (store.get(MODEL_KEY), store.put(MODEL_KEY, b"x"), store.check()):
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
