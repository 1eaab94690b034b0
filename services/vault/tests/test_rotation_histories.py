"""Whatever was done to keys and records, in whatever order: a model says what must open."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.nats import NatsServer
from harness.nats import bus as connect
from patchwright_common.bus import Bus
from patchwright_common.errors import Permanent
from patchwright_vault.keys.file import FileKeys
from patchwright_vault.rotation import retire, rotate
from patchwright_vault.sealing import Sealer
from patchwright_vault.store import MissingError, Store

from .test_store import held, lay

NUMBERS = [f"installation.{n}" for n in range(12)]
NAMES = ("model-key", "installation.1", "installation.2")
NAME, SECRET = st.sampled_from(NAMES), st.binary(max_size=3)
STEPS = st.one_of(
    st.tuples(st.just("put"), NAME, SECRET),
    st.tuples(st.just("other_vault_puts"), NAME, SECRET),
    st.tuples(st.just("delete"), NAME),
    st.just(("rotate",)),
    st.just(("new_key",)),  # a rotation that was killed right after
    st.tuples(st.just("reseal"), NAME),  # or a little later
    st.just(("retire",)),
    st.just(("start",)),
    st.tuples(st.just("keep_a_copy"), NAME),
    st.tuples(st.just("foreign_write"), NAME),
)


@dataclass
class Model:
    """What there must be."""

    secrets: dict[str, bytes] = field(default_factory=dict)
    under: dict[str, int] = field(default_factory=dict)
    versions: list[int] = field(default_factory=lambda: [1])

    def write(self, name: str, secret: bytes) -> None:
        if self.secrets.get(name) != secret:
            self.under[name] = self.versions[0]
        self.secrets[name] = secret

    def new_key(self) -> None:
        self.versions.insert(0, self.versions[0] + 1)

    def rotate(self) -> None:
        if all(version == self.versions[0] for version in self.under.values()):
            self.new_key()
        self.under = dict.fromkeys(self.under, self.versions[0])

    def retires(self) -> bool:
        return all(version == self.versions[0] for version in self.under.values())


class History:
    """The real thing beside its model."""

    def __init__(self, bus: Bus, path: Path) -> None:
        self.bus, self.path, self.model = bus, path, Model()
        self.copies: dict[str, tuple[bytes, int]] = {}

    async def start(self) -> None:
        self.store = await Store.open(self.bus.js, Sealer(FileKeys(self.path)))
        self.other = await Store.open(self.bus.js, Sealer(FileKeys(self.path)))

    async def put(self, name: str, secret: bytes, vault: Store | None = None) -> None:
        changed = await (vault or self.store).put(name, secret)
        assert changed == (self.model.secrets.get(name) != secret)
        self.model.write(name, secret)

    async def other_vault_puts(self, name: str, secret: bytes) -> None:
        await self.put(name, secret, self.other)

    async def delete(self, name: str) -> None:
        assert await self.store.delete(name) == (name in self.model.secrets)
        self.model.secrets.pop(name, None)
        self.model.under.pop(name, None)

    async def rotate(self) -> None:
        await rotate(self.store)
        self.model.rotate()

    async def new_key(self) -> None:
        await self.store.keys.rotate()
        self.model.new_key()

    async def reseal(self, name: str) -> None:
        await self.store.reseal(name)
        if name in self.model.under:
            self.model.under[name] = self.model.versions[0]

    async def keep_a_copy(self, name: str) -> None:
        if name in self.model.secrets:
            self.copies[name] = await held(self.bus, name), self.model.under[name]

    async def retire(self) -> None:
        if self.model.retires():
            await retire(self.store)
            del self.model.versions[1:]
            return
        with pytest.raises(Permanent, match="still in use"):
            await retire(self.store)

    async def foreign_write(self, name: str) -> None:
        """Copies under other names, or of retired keys, do not open; nothing touches them."""
        before = await held(self.bus, name) if name in self.model.secrets else None
        for kept, (copy, version) in self.copies.items():
            if kept == name and version in self.model.versions:
                continue
            await lay(self.bus, name, copy)
            for attempt in (self.store.get(name), self.other.put(name, b"over it")):
                with pytest.raises(Permanent, match="Nothing was overwritten"):
                    await attempt
            assert await held(self.bus, name) == copy
        if before is not None:
            await lay(self.bus, name, before)
        elif self.copies:
            await self.store.delete(name)

    async def check(self) -> None:
        assert await self.store.keys.versions() == tuple(self.model.versions)
        assert await self.store.names() == sorted(self.model.secrets)
        for vault in (self.store, self.other):
            for name in NAMES:
                if name in self.model.secrets:
                    assert await vault.get(name) == self.model.secrets[name]
                    continue
                with pytest.raises(MissingError):
                    await vault.get(name)
        under = {record.name: record.key_version for record in await self.store.describe()}
        assert under == self.model.under


@asynccontextmanager
async def history(bus: Bus) -> AsyncIterator[History]:
    """On an empty bucket, with keys of its own."""
    await bus.js.purge_stream("KV_PW_VAULT")
    with tempfile.TemporaryDirectory() as folder:
        made = History(bus, Path(folder) / "vault.key")
        await made.start()
        yield made


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(STEPS, max_size=14))
async def test_every_history_opens_what_it_must(bus: Bus, steps: list[tuple[Any, ...]]) -> None:
    async with history(bus) as told:
        for what, *arguments in steps:
            await getattr(told, what)(*arguments)
            await told.check()


@dataclass
class Load:
    """Requests to several vaults, until it is over."""

    stores: list[Store]
    over: asyncio.Event = field(default_factory=asyncio.Event)
    served: int = 0

    async def read(self, store: Store) -> None:
        for name in cycle(NUMBERS):
            if self.over.is_set():
                return
            assert (await store.get(name)).isdigit()
            self.served += 1

    async def write(self, store: Store, own: list[str]) -> None:
        """Each of `own` is written here alone, so what was put must be there."""
        last = dict.fromkeys(own, b"0")
        for n, name in enumerate(cycle(own)):
            if self.over.is_set():
                break
            last[name] = b"%d" % n
            await store.put(name, last[name])
            assert await store.get(name) == last[name]
            self.served += 2
        for name in own:
            assert await store.get(name) == last[name]

    async def operate(self, rotations: int) -> None:
        try:
            for _ in range(rotations):
                rotation = await rotate(self.stores[0])
                retirement = await retire(self.stores[0])
                assert retirement.retired == rotation.retirable
        finally:
            self.over.set()


async def test_no_request_fails_while_keys_are_rotated_and_retired(
    bus: Bus, nats: NatsServer, tmp_path: Path
) -> None:
    async with connect(nats.url) as one, connect(nats.url) as other:
        buses = (bus, one, other)
        path = tmp_path / "vault.key"
        stores = [await Store.open(each.js, Sealer(FileKeys(path))) for each in buses]
        for name in NUMBERS:
            await stores[0].put(name, b"0")
        load = Load(stores)
        async with asyncio.TaskGroup() as group:
            for n, store in enumerate(stores):
                group.create_task(load.write(store, NUMBERS[4 * n : 4 * n + 4]))
                for _ in range(4):
                    group.create_task(load.read(store))
            group.create_task(load.operate(6))
        assert await stores[2].keys.versions() == (7,)
        assert {record.key_version for record in await stores[1].describe()} == {7}
        assert load.served > 100
