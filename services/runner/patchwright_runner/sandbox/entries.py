"""Checks what the box says has changed, as if an attacker had written every byte of it.

Raises Permanent with a sentence for the repository's maintainer. The rules on names follow
git's own `verify_path` and fsck, which guard Windows and macOS work trees too.
"""

from __future__ import annotations

import re
import unicodedata

from patchwright_common.errors import Permanent
from patchwright_runner.sandbox.protocol import Entry, Limits

_MODES = ("100644", "100755", "120000")
_PATH_BYTES = 1024
_NAME_BYTES = 255
_LINK_BYTES = 4095
_NONSENSE = "The sandbox reported a change that makes no sense."
_SHORT_NAMES = re.compile(r"git~\d+", re.IGNORECASE)
"""What `.git` may be called in 8.3 names on NTFS."""


class Admission:
    """Adds up one change and refuses what no repository should get."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._bytes = 0
        self._paths: set[str] = set()
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def announce(self, path: object, mode: object, size: object) -> tuple[str, str | None, int]:
        """Check an entry before its content arrives."""
        if not isinstance(path, str) or not isinstance(size, int) or size < 0:
            raise Permanent(_NONSENSE)
        check_path(path)
        if not (mode is None or (isinstance(mode, str) and mode in _MODES)):
            raise Permanent(f"{_shown(path)} has the file mode {mode!r}, which is not allowed.")
        self._count(path, size)
        if mode is not None:
            self._place(path)
        if mode == "120000":
            _check_link(path, size)
        return path, mode, size

    def _count(self, path: str, size: int) -> None:
        if path in self._paths:
            raise Permanent(f"{_shown(path)} was reported twice.")
        self._paths.add(path)
        self._bytes += size
        if len(self._paths) > self._limits.changed_files:
            raise Permanent(
                f"The change touches more than {self._limits.changed_files} files.",
                advice="Ask for less at once, or have generated files ignored by .gitignore.",
            )
        if self._bytes > self._limits.changed_bytes:
            raise Permanent(
                f"The change is larger than {self._limits.changed_bytes / 1024**2:.0f} MB "
                f"(at {_shown(path)}).",
                advice="Have build results and downloads ignored by .gitignore.",
            )

    def _place(self, path: str) -> None:
        """A path cannot be both a file and a directory of another one.

        Not on a file system without case either: there a link `a` and a file `A/hooks/x` would
        have git write through the link.
        """
        folded = unicodedata.normalize("NFC", path.casefold())
        above = {folded[:at] for at, character in enumerate(folded) if character == "/"}
        if folded in self._folders or above & self._files:
            raise Permanent(f"{_shown(path)} is both a file and a directory.")
        self._folders |= above
        self._files.add(folded)


class Assembly:
    """Puts entries together from the pieces that the box sends."""

    def __init__(self, limits: Limits) -> None:
        self._admission = Admission(limits)
        self._announced: tuple[str, str | None, int] | None = None
        self._content = bytearray()

    def add(self, item: object, piece: bytes) -> Entry | None:
        """The entry that this piece completes, if it does."""
        if not isinstance(item, dict):
            raise Permanent(_NONSENSE)
        if self._announced is None:
            path, mode, size = item.get("path"), item.get("mode"), item.get("size")
            self._announced = self._admission.announce(path, mode, size)
        path, mode, size = self._announced
        self._content += piece
        if len(self._content) > size or (len(self._content) < size and not item.get("more")):
            raise Permanent(f"The size of {_shown(path)} is not what the sandbox had announced.")
        if item.get("more"):
            return None
        content = bytes(self._content)
        if mode == "120000" and b"\0" in content:
            raise Permanent(f"The symbolic link {_shown(path)} has no usable target.")
        self._announced = None
        self._content.clear()
        return Entry(path, mode, content)


def check_path(path: str) -> None:
    """Raise Permanent unless every system can store this name and git takes it as a file."""
    try:
        encoded = path.encode()
    except UnicodeEncodeError as error:
        raise Permanent(f"{_shown(path)} is not valid UTF-8.") from error
    if not path or len(encoded) > _PATH_BYTES:
        raise Permanent(f"The name {_shown(path)} is empty or longer than {_PATH_BYTES} bytes.")
    if any(unicodedata.category(character) == "Cc" for character in path):
        raise Permanent(f"The name {_shown(path)} holds control characters.")
    for name in path.split("/"):
        _check_name(name, path)


def _check_name(name: str, path: str) -> None:
    if name in ("", ".", ".."):
        raise Permanent(f"{_shown(path)} is not a path inside the repository.")
    if len(name.encode()) > _NAME_BYTES:
        raise Permanent(f"A part of {_shown(path)} is longer than {_NAME_BYTES} bytes.")
    if _is_git_directory(name):
        raise Permanent(f"{_shown(path)} would write into git's own directory.")


def _is_git_directory(name: str) -> bool:
    """`.git` on any file system: HFS+ drops invisible characters, NTFS dots, spaces, streams."""
    visible = "".join(c for c in name if unicodedata.category(c) != "Cf")
    folded = unicodedata.normalize("NFKC", visible).casefold()
    return any(
        part.rstrip(". ") == ".git" or _SHORT_NAMES.fullmatch(part.rstrip(". "))
        for part in (piece.partition(":")[0] for piece in folded.split("\\"))
    )


def _check_link(path: str, size: int) -> None:
    if not 0 < size <= _LINK_BYTES:
        raise Permanent(f"The symbolic link {_shown(path)} has no usable target.")
    name = path.rpartition("/")[2].casefold()
    if name in (".gitmodules", ".gitattributes", ".gitignore", ".mailmap"):
        raise Permanent(f"{_shown(path)} must not be a symbolic link.")


def _shown(path: str) -> str:
    """Escaped and short, because it ends up in a comment."""
    text = path if len(path) <= 120 else f"{path[:117]}…"
    return ascii(text) if not text.isprintable() or "`" in text else repr(text)
