"""What every holder of keys has to do, tried on all three."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from pydantic import SecretStr

from patchwright_common.errors import Permanent
from patchwright_vault.keys.environment import EnvironmentKeys
from patchwright_vault.keys.file import FileKeys
from patchwright_vault.keys.protocol import (
    KEY_BYTES,
    ChangedError,
    Keys,
    OtherKeyError,
    UnknownVersionError,
    UnwrapError,
)

from .soft_hsm import SoftHsm

DATA_KEY = bytes(range(KEY_BYTES))
Holders = Callable[[], Callable[[], Keys]]


@pytest.fixture(params=["file", "environment", "token"])
def holders(request: pytest.FixtureRequest, tmp_path: Path) -> Holders:
    """Makes a place for keys, which makes a holder for each vault that shares the place."""

    def place() -> Callable[[], Keys]:
        if request.param == "file":
            path = tmp_path / secrets.token_hex(4)
            return lambda: FileKeys(path)
        if request.param == "environment":
            text = SecretStr(f"2:{secrets.token_hex(32)},1:{secrets.token_hex(32)}")
            return lambda: EnvironmentKeys(text)
        hsm: SoftHsm = request.getfixturevalue("soft_hsm")
        token = hsm.token()
        return lambda: hsm.keys(token)

    return place


@pytest.fixture
async def keys(holders: Holders) -> Keys:
    holder = holders()()
    await holder.begin()
    return holder


@pytest.fixture(params=["file", "token"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Keys]:
    """A place that vaults themselves can change."""
    if request.param == "file":
        return lambda: FileKeys(tmp_path / "vault.key")
    hsm: SoftHsm = request.getfixturevalue("soft_hsm")
    token = hsm.token()
    return lambda: hsm.keys(token)


async def test_data_key_comes_back_to_its_context_alone(keys: Keys) -> None:
    version, wrapped = await keys.wrap(DATA_KEY, b"context")
    assert version == (await keys.versions())[0]
    assert await keys.unwrap(version, wrapped, b"context") == DATA_KEY
    assert DATA_KEY not in wrapped
    for other in (b"", b"contexu", b"context "):
        with pytest.raises(ChangedError):
            await keys.unwrap(version, wrapped, other)


async def test_wrapping_is_new_each_time(keys: Keys) -> None:
    wrapped = [(await keys.wrap(DATA_KEY, b""))[1] for _ in range(10)]
    for one, other in combinations(wrapped, 2):
        assert one[8:20] != other[8:20]  # a nonce that comes twice breaks GCM


async def test_wrapped_key_with_any_bit_changed_is_refused(keys: Keys) -> None:
    version, wrapped = await keys.wrap(DATA_KEY, b"context")
    for bit in range(8 * len(wrapped)):
        changed = bytearray(wrapped)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(UnwrapError):
            await keys.unwrap(version, bytes(changed), b"context")
    assert await keys.unwrap(version, wrapped, b"context") == DATA_KEY


async def test_wrapped_key_of_another_length_is_refused(keys: Keys) -> None:
    version, wrapped = await keys.wrap(DATA_KEY, b"context")
    for changed in (*(wrapped[:end] for end in range(len(wrapped))), wrapped + b"x"):
        with pytest.raises(UnwrapError):
            await keys.unwrap(version, changed, b"context")


async def test_other_vaults_key_of_the_same_version_is_told_from_a_change(
    holders: Holders,
) -> None:
    ours, theirs = holders()(), holders()()
    await ours.begin()
    await theirs.begin()
    version, wrapped = await theirs.wrap(DATA_KEY, b"context")
    with pytest.raises(OtherKeyError):
        await ours.unwrap(version, wrapped, b"context")


async def test_version_that_was_never_there_is_named(keys: Keys) -> None:
    _, wrapped = await keys.wrap(DATA_KEY, b"context")
    with pytest.raises(UnknownVersionError) as refused:
        await keys.unwrap(77, wrapped, b"context")
    assert "key version 77" in refused.value.why


async def test_holder_that_begins_again_keeps_its_keys(holders: Holders) -> None:
    place = holders()
    first = place()
    await first.begin()
    version, wrapped = await first.wrap(DATA_KEY, b"context")
    before = await first.versions()
    again = place()
    await again.begin()
    await first.begin()
    assert await again.versions() == before
    assert await again.unwrap(version, wrapped, b"context") == DATA_KEY


async def test_current_version_cannot_be_retired(keys: Keys) -> None:
    version, wrapped = await keys.wrap(DATA_KEY, b"context")
    with pytest.raises(Permanent, match="rotate before"):
        await keys.retire(version)
    assert await keys.unwrap(version, wrapped, b"context") == DATA_KEY


async def test_nothing_is_there_before_the_beginning(shared: Callable[[], Keys]) -> None:
    keys = shared()
    assert await keys.versions() == ()
    with pytest.raises(Permanent):
        await keys.wrap(DATA_KEY, b"")
    with pytest.raises(Permanent):
        await keys.rotate()
    assert await keys.versions() == ()


async def test_new_version_wraps_and_the_old_one_opens_until_it_is_retired(
    shared: Callable[[], Keys],
) -> None:
    keys = shared()
    await keys.begin()
    old = await keys.wrap(DATA_KEY, b"context")
    assert await keys.rotate() == 2
    new = await keys.wrap(DATA_KEY, b"context")
    assert (old[0], new[0]) == (1, 2)
    assert await keys.versions() == (2, 1)
    assert await keys.unwrap(*old, b"context") == DATA_KEY
    await keys.retire(1)
    await keys.retire(1)
    assert await keys.versions() == (2,)
    assert await keys.unwrap(*new, b"context") == DATA_KEY
    with pytest.raises(UnknownVersionError):
        await keys.unwrap(*old, b"context")
    assert await keys.rotate() == 3


async def test_other_vaults_notice_a_rotation_and_a_retirement(
    shared: Callable[[], Keys],
) -> None:
    ours, theirs = shared(), shared()
    await ours.begin()
    old = await theirs.wrap(DATA_KEY, b"context")
    assert await ours.rotate() == 2
    assert (await theirs.wrap(DATA_KEY, b"context"))[0] == 2
    assert await theirs.unwrap(*await ours.wrap(DATA_KEY, b""), b"") == DATA_KEY
    await ours.retire(1)
    with pytest.raises(UnknownVersionError):
        await theirs.unwrap(*old, b"context")


def test_no_holder_shows_a_key(tmp_path: Path) -> None:
    key = secrets.token_hex(32)
    keys = EnvironmentKeys(SecretStr(key))
    assert key not in repr(keys) + repr(vars(keys))
    assert str(bytes.fromhex(key)) not in repr(vars(keys))
