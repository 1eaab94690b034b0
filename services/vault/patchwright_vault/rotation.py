"""Changing the key-encryption key while requests go on.

A rotation makes a version and seals every record with it, each with a new data key. Killed
in the middle, it is simply called again. A version is retired when no record uses it any
more: then copies of old records, from a backup say, do not open either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from patchwright_common.errors import Permanent

if TYPE_CHECKING:
    from patchwright_vault.store import Store


@dataclass(frozen=True)
class Rotation:
    """`made` is False when an earlier rotation, or an operator's new key, was carried through."""

    key_version: int
    made: bool
    records: int
    resealed: int
    retirable: tuple[int, ...]
    """Versions that no record needs any more."""
    strays: tuple[str, ...] = ()
    """Names in the bucket behind which there is no record; they were left alone."""


@dataclass(frozen=True)
class Retirement:
    """What is left, and what went."""

    key_version: int
    retired: tuple[int, ...]
    strays: tuple[str, ...] = ()
    """As `Rotation` has them."""


async def rotate(store: Store) -> Rotation:
    """Seal every record with the newest key, which is made unless one waits to be used.

    Raises `Permanent` when the keys' operator has to bring the key, or when a record does
    not open: the others are sealed anew nevertheless, and no key is lost.
    """
    made = not await _unfinished(store)
    if made:
        await store.keys.rotate()
    # What another vault sealed with the old key, but did not store yet, is refused from here
    # on, and sealed again with the new one.
    await store.fence()
    resealed = await _reseal_all(store)
    current, *others = await store.keys.versions()
    records, strays = len(await store.names()), tuple(await store.strays())
    return Rotation(current, made, records, resealed, tuple(others), strays)


async def retire(store: Store, version: int | None = None) -> Retirement:
    """Destroy one version, or all but the current one, once no record needs it.

    Raises `Permanent` for the current version, for one that a record uses, and while a
    record does not open, because nobody can say what it needs. Nothing is destroyed then.
    """
    current, *others = await store.keys.versions()
    if version == current:
        raise Permanent(f"Key version {version} is the current one: rotate before retiring it.")
    retiring = [v for v in others if version in (None, v)]
    if version is not None and not retiring:
        raise Permanent(f"There is no key version {version}.")
    # What was sealed with an old key, but not stored yet, is refused from here on.
    await store.fence()
    await _refuse_used(store, retiring)
    for each in retiring:
        await store.keys.retire(each)
    return Retirement(current, tuple(retiring), tuple(await store.strays()))


async def _unfinished(store: Store) -> bool:
    """Whether a record is under an older key than the current one."""
    current = (await store.keys.versions())[0]
    return any(
        record.key_version != current for record in await store.describe() if record.key_version
    )


async def _reseal_all(store: Store) -> int:
    """How many writes it took."""
    resealed, refused = 0, []
    for name in await store.names():
        try:
            resealed += await store.reseal(name)
        except Permanent as error:
            refused.append(error.reason)
    if refused:
        raise Permanent(
            "The other records are under the new key, and no key was lost, but: "
            + " ".join(refused),
            advice="Mend or delete what cannot be opened, then rotate again.",
        )
    return resealed


async def _refuse_used(store: Store, retiring: list[int]) -> None:
    """Each record is opened: what it says of itself is not proof enough to destroy a key."""
    for name in await store.names():
        used = await store.examine(name)
        if used is not None and used.key_version in retiring:
            raise Permanent(
                f"Key version {used.key_version} is still in use, by the record {name!r}. "
                "Nothing was destroyed.",
                advice="Rotate first.",
            )
