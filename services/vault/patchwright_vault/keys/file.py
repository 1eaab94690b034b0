"""Keys in a file with mode 0600, which several vaults may share.

It is looked at before every use, so a version that another vault made is known at once.
It is only ever replaced as a whole, by a file that is on disk already.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from patchwright_common.errors import Permanent, Retry
from patchwright_vault.keys.ring import Ring, parse

HOLDER = "the vault's key file"
LOCK_TIMEOUT = 5.0
"""Seconds to wait for another vault that is changing the file."""
_LOCK_PAUSE = 0.02


class FileKeys:
    """The versions in `path`, the current one first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: tuple[tuple[int, ...], Ring] | None = None

    @property
    def where(self) -> str:
        """With the path."""
        return f"{HOLDER} {self._path}"

    async def begin(self) -> None:
        """Make the file, with mode 0600, unless it is there."""
        with self._told():
            if not self._path.exists():
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._write(Ring({}, HOLDER).rotated(), new=True)
        self._ring()

    async def versions(self) -> tuple[int, ...]:
        """As the file has them now; empty when there is none."""
        with self._told():
            if not self._path.exists():
                return ()
        return self._ring().versions

    async def wrap(self, data_key: bytes, context: bytes) -> tuple[int, bytes]:
        """With the file's first key."""
        return self._ring().wrap(data_key, context)

    async def unwrap(self, version: int, wrapped: bytes, context: bytes) -> bytes:
        """With any of them."""
        return self._ring().unwrap(version, wrapped, context)

    async def rotate(self) -> int:
        """A new version, on disk before it is used."""
        return (await asyncio.to_thread(self._change, Ring.rotated)).versions[0]

    async def retire(self, version: int) -> None:
        """Remove it. The file system may keep the old file's blocks until they are reused."""
        await asyncio.to_thread(self._change, lambda ring: ring.without(version))

    async def legacy(self) -> bytes | None:
        """Version 1, if it is still here."""
        return self._ring().keys.get(1)

    def _ring(self) -> Ring:
        """The file's content, read again when it is another file."""
        with self._told(), os.fdopen(os.open(self._path, os.O_RDONLY)) as file:
            found = os.fstat(file.fileno())
            if found.st_mode & 0o077:
                raise Permanent(f"The vault's key file is open to others: chmod 600 {self._path}")
            seen = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
            if self._read is None or self._read[0] != seen:
                self._read = seen, self._parsed(file.read())
            return self._read[1]

    def _parsed(self, text: str) -> Ring:
        try:
            return Ring(parse(text, self.where).keys, HOLDER)
        except Permanent as error:
            raise Permanent(error.reason[0].upper() + error.reason[1:]) from None

    def _change(self, change: Callable[[Ring], Ring]) -> Ring:
        """Blocks. One vault after the other."""
        with self._told(), _locked(self._path.resolve().parent):
            before = self._ring()
            after = change(before)
            if after.versions != before.versions:
                self._write(after)
        return self._ring()

    def _write(self, ring: Ring, *, new: bool = False) -> None:
        """Appears whole or not at all; `new` never takes the place of another's.

        The temporary name is random: in containers every vault has the same process id.
        """
        path = self._path.resolve()  # a link to the file stays one
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(ring.text())
                file.flush()
                os.fsync(file.fileno())
            if new:
                with contextlib.suppress(FileExistsError):
                    os.link(temporary, path)
            else:
                temporary.replace(path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say what is wrong with the file in one line."""
        try:
            yield
        except FileNotFoundError:
            raise Permanent(f"The vault's key file {self._path} is missing.") from None
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise Permanent(f"The vault's key file {self._path} cannot be used: {why}.") from None
        except UnicodeDecodeError:
            raise Permanent(
                f"The vault's key file {self._path} does not hold a key in hex."
            ) from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Raises `Retry` when another vault has it for too long. The kernel lets go of a dead one's."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    deadline = time.monotonic() + LOCK_TIMEOUT
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Retry("another vault is changing the key file") from None
                time.sleep(_LOCK_PAUSE)
        yield
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    """What is sealed next must not outlive its key's name in the folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
