"""What a set-up left in a box, as a tar stream, and such a stream back into another box.

Packed is what git does not track in the workspace, and the home directory: folders, files,
symbolic links. What is unpacked never replaces anything and is never written through a link.
"""

# os.path and os.open: names that are no UTF-8, flags that pathlib does not have.
# tarfile is brought in when it is needed: every box would begin later for it.
# ruff: noqa: PLC0415, PTH101, PTH115, PTH118, PTH123

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import tarfile

ENTRIES = 500_000
"""Files, links and folders in one stream."""
_PIECE = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Unpackable(Exception):
    """The stream, or the box's own files, cannot be taken; the text says why."""


class Sink:
    """A file for `tarfile` to write into: hands on pieces of at most 1 MiB, up to a limit."""

    def __init__(self, send: Callable[[bytes], None], most: int) -> None:
        self._send = send
        self._left = most

    def write(self, data: bytes) -> int:
        """Raises Unpackable when it becomes too much."""
        self._left -= len(data)
        if self._left < 0:
            raise Unpackable("The set-up's result is larger than what is kept.")
        for at in range(0, len(data), _PIECE):
            self._send(data[at : at + _PIECE])
        return len(data)


class Source:
    """A file for `tarfile` to read from, one piece after the other until an empty one."""

    def __init__(self, receive: Callable[[], bytes]) -> None:
        self._receive = receive
        self._piece = b""

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        if not self._piece:
            self._piece = self._receive()
        data, self._piece = self._piece[:size], self._piece[size:]
        return data


def pack(roots: dict[str, str], tracked: set[str], sink: Sink) -> None:
    """Write everything beneath `roots` (by name in the stream) but `tracked` and `.git`.

    `tracked` are paths in the workspace. Devices, sockets and FIFOs are left out.
    """
    import tarfile

    with tarfile.open(fileobj=_file(sink), mode="w|", bufsize=_PIECE) as tar:
        for name, root in roots.items():
            skipped = tracked if name == "workspace" else set()
            for count, path in enumerate(_walk(root, "", skipped)):
                if count >= ENTRIES:
                    raise Unpackable(f"The set-up left more than {ENTRIES} files.")
                _add(tar, os.path.join(root, path), f"{name}/{path}")


def _walk(root: str, folder: str, skipped: set[str]) -> Iterator[str]:
    with os.scandir(os.path.join(root, folder)) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = folder + entry.name
            if path in skipped or entry.name == ".git":
                continue
            yield path
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(root, path + "/", skipped)


def _add(tar: tarfile.TarFile, full: str, name: str) -> None:
    import tarfile

    status = os.lstat(full)
    member = tarfile.TarInfo(name)
    member.mode = stat.S_IMODE(status.st_mode)
    member.mtime = int(status.st_mtime)
    if stat.S_ISREG(status.st_mode):
        member.size = status.st_size
        with open(full, "rb") as file:
            tar.addfile(member, file)
    elif stat.S_ISDIR(status.st_mode):
        member.type = tarfile.DIRTYPE
        tar.addfile(member)
    elif stat.S_ISLNK(status.st_mode):
        member.type, member.linkname = tarfile.SYMTYPE, os.readlink(full)
        tar.addfile(member)


def unpack(roots: dict[str, str], source: Source) -> None:
    """Put every entry beneath its root; raises Unpackable at the first that is not allowed."""
    import tarfile

    closed: list[tuple[str, int]] = []
    try:
        with tarfile.open(fileobj=_file(source), mode="r|", bufsize=_PIECE) as tar:
            for count, member in enumerate(tar):
                if count >= ENTRIES:
                    raise Unpackable(f"The kept set-up has more than {ENTRIES} files.")
                root, parts = _checked(member, roots)
                with _parent(root, parts) as parent:
                    _place(tar, member, parent, parts[-1])
                if member.isdir() and member.mode & 0o700 != 0o700:
                    closed.append((os.path.join(root, *parts), member.mode))
                cast("Any", tar).members = []  # or it remembers them all
        # Folders that nobody may write into, now that everything is in them; deepest first.
        for path, mode in reversed(closed):
            os.chmod(path, mode & 0o777)  # made by us, just now, as a folder
    except (tarfile.TarError, OSError, ValueError) as error:
        raise Unpackable(f"The kept set-up cannot be unpacked: {error}") from error


def _checked(member: tarfile.TarInfo, roots: dict[str, str]) -> tuple[str, list[str]]:
    """The root and the path below it; no way out of it, and not into git's own folder."""
    name, _, path = member.name.partition("/")
    parts = path.split("/")
    if name not in roots or any(part in ("", ".", "..") for part in parts):
        raise Unpackable(f"The kept set-up holds the path {member.name!r}.")
    if any(part.lower() == ".git" for part in parts):
        raise Unpackable(f"The kept set-up writes into git's own folder: {member.name!r}.")
    if not (member.isreg() or member.isdir() or member.issym()):
        raise Unpackable(f"The kept set-up holds a file of another kind: {member.name!r}.")
    return roots[name], parts


@contextlib.contextmanager
def _parent(root: str, parts: list[str]) -> Iterator[int]:
    """The folder above an entry, made if need be; a link on the way is an error."""
    folder = os.open(root, _FOLDER)
    try:
        for part in parts[:-1]:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=folder)
            below = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
        yield folder
    finally:
        os.close(folder)


def _place(tar: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
    """What is there already stays: it may be newer than what was kept."""
    with contextlib.suppress(FileExistsError):
        if member.isdir():
            os.mkdir(name, member.mode & 0o777 | 0o700, dir_fd=parent)
        elif member.issym():
            os.symlink(member.linkname, name, dir_fd=parent)
        else:
            _write(tar, member, os.open(name, _NEW_FILE, member.mode & 0o777, dir_fd=parent))


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, descriptor: int) -> None:
    content = tar.extractfile(member)
    with open(descriptor, "wb") as file:
        while content is not None and (piece := content.read(_PIECE)):
            file.write(piece)
        file.flush()
        os.fchmod(descriptor, member.mode & 0o777)
        os.utime(descriptor, (member.mtime, member.mtime))


def _file(stream: object) -> IO[bytes]:
    """`tarfile` asks for no more than `read` or `write`."""
    return cast("IO[bytes]", stream)
