"""What the vault asks of a holder of key-encryption keys.

Each key has a version, counted from 1 and never used again. One version is current:
it wraps, and every version that was not retired unwraps.

Errors, beside those named below: `Retry` when the holder does not answer for now,
`Permanent` when it cannot be used as it is configured.
"""

from __future__ import annotations

from typing import Protocol

KEY_BYTES = 32
"""AES-256, for data keys and for key-encryption keys."""


class UnwrapError(Exception):
    """The data key does not open; `why` continues "cannot be opened: " and holds no secret."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class UnknownVersionError(UnwrapError):
    """The version was retired, or these are another installation's keys."""

    def __init__(self, version: int, holder: str, held: tuple[int, ...]) -> None:
        there = ", ".join(map(str, sorted(held))) or "none"
        super().__init__(
            f"it was sealed with key version {version}, but {holder} has {there} "
            "(a retired version, or another vault's keys)"
        )


class OtherKeyError(UnwrapError):
    """There is a key with this version, but it is not the one that wrapped."""

    def __init__(self, version: int, holder: str) -> None:
        super().__init__(f"version {version} in {holder} is not the key that sealed it")


class ChangedError(UnwrapError):
    """What was wrapped, or what it was bound to, is not what it was."""

    def __init__(self) -> None:
        super().__init__("it was changed or moved after it was sealed")


class Keys(Protocol):
    """A holder. Calls may come from several vaults that share it, at the same time."""

    @property
    def where(self) -> str:
        """What an operator knows it by; it may name a path."""

    async def begin(self) -> None:
        """Make version 1 unless there is a version. Vaults that begin at once agree."""

    async def versions(self) -> tuple[int, ...]:
        """As they are now: the current one first; empty before `begin`."""

    async def wrap(self, data_key: bytes, context: bytes) -> tuple[int, bytes]:
        """The version that is current at this moment, and the data key bound to `context`."""

    async def unwrap(self, version: int, wrapped: bytes, context: bytes) -> bytes:
        """The data key. Raises one of the `UnwrapError`s."""

    async def rotate(self) -> int:
        """Make a new version the current one. Raises `Permanent` where an operator must do it."""

    async def retire(self, version: int) -> None:
        """Destroy a version that is not current; done already, it is no error.

        Whoever calls this has made sure that nothing is sealed with it (`rotation.py`).
        """

    async def legacy(self) -> bytes | None:
        """Version 1 itself, which sealed records of format 1; None where it cannot be had."""
