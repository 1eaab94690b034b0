"""The file tools, as Anthropic's text editor tool defines them, with the box's own rights.

Bytes that are not UTF-8 survive an edit (surrogateescape), and so do CRLF line ends.
"""

# os.path and os.open: names that are no UTF-8, flags that pathlib does not have.
# ruff: noqa: PTH123

from __future__ import annotations

import os
import stat
from typing import IO

from patchwright_runner.sandbox.inside.beneath import Outside, open_beneath

FILE_LIMIT = 10 * 1024 * 1024
VIEW_CHARACTERS = 100_000
_LISTED = 1000
_CONTEXT_LINES = 4


class Refusal(Exception):
    """What the model asked for cannot be done; the text is for it."""


class Editor:
    """Views and edits files beneath one directory."""

    def __init__(self, root: str) -> None:
        self._root = os.path.realpath(root)

    def view(self, path: str, view_range: list[int] | None = None) -> str:
        """A file's numbered lines, or a directory's two upper levels."""
        descriptor = self._descriptor(path, os.O_RDONLY)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            try:
                if view_range is not None:
                    raise Refusal("view_range does not apply to a directory.")
                return _listing(descriptor, path)
            finally:
                os.close(descriptor)
        with open(descriptor, "rb", 0) as file:
            lines = _lines(_read(file, path))
        first, last = _range(view_range, len(lines))
        return f"Here's the result of running `cat -n` on {path}:\n{_numbered(lines, first, last)}"

    def create(self, path: str, text: str) -> str:
        """Make a file and the directories above it, or overwrite it."""
        try:
            file, done = self._open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL), "created"
        except FileExistsError:
            file, done = self._open(path, os.O_RDWR), "overwritten"
        with file:
            _write(file, path, text)
        return f"File {done} successfully at: {path}"

    def str_replace(self, path: str, old: str, new: str) -> str:
        """Replace the only occurrence of a text."""
        with self._open(path, os.O_RDWR) as file:
            text = _read(file, path)
            old, new = _fit_line_ends(text, old, new)
            before, after = _around(text, old, path)
            _write(file, path, before + new + after)
        return _edited(path, before + new + after, before.count("\n"), new.count("\n"))

    def insert(self, path: str, line: int, text: str) -> str:
        """Put whole lines after the given one."""
        with self._open(path, os.O_RDWR) as file:
            changed, added = _inserted(_read(file, path), line, text)
            _write(file, path, changed)
        return _edited(path, changed, line, added)

    def _open(self, path: str, flags: int) -> IO[bytes]:
        return open(self._descriptor(path, flags), "r+b", 0)

    def _descriptor(self, path: str, flags: int) -> int:
        """Beneath the root. O_NONBLOCK because opening a FIFO waits for ever."""
        if "\0" in path or not path:
            raise Refusal("The path is empty or holds a NUL character.")
        try:
            make = bool(flags & os.O_CREAT)
            return open_beneath(self._root, path, flags | os.O_NONBLOCK, make_folders=make)
        except Outside as error:
            text = f"{path} is outside {self._root}: only files beneath it can be used."
            raise Refusal(text) from error
        except FileNotFoundError as error:
            raise Refusal(f"{path} does not exist.") from error
        except IsADirectoryError as error:
            raise Refusal(f"{path} is a directory.") from error


def _around(text: str, old: str, path: str) -> tuple[str, str]:
    """What stands before and after the only occurrence of `old`."""
    if not old:
        raise Refusal("old_str is empty: say which text to replace.")
    count = text.count(old)
    if count == 0:
        raise Refusal(f"No match found for replacement in {path}. Check the text and try again.")
    if count > 1:
        raise Refusal(
            f"Found {count} matches for replacement text in {path}. "
            "Provide more context to make a unique match."
        )
    before, _, after = text.partition(old)
    return before, after


def _inserted(content: str, line: int, text: str) -> tuple[str, int]:
    """The whole text, and how many lines are new."""
    lines = content.splitlines(keepends=True) if content else []
    if not 0 <= line <= len(lines):
        raise Refusal(f"insert_line {line} is outside the file: it has {len(lines)} lines.")
    end = "\r\n" if "\r\n" in content else "\n"
    if line and not lines[line - 1].endswith("\n"):
        lines[line - 1] += end
    added = text.replace("\r\n", "\n").replace("\n", end)
    if not added.endswith("\n") and (line < len(lines) or content.endswith("\n") or not lines):
        added += end
    return "".join([*lines[:line], added, *lines[line:]]), added.count("\n")


def _listing(folder: int, path: str) -> str:
    """Two levels, without hidden files, as the tool's reference implementation shows."""
    found: list[str] = []
    _list(folder, path.rstrip("/") or "/", 2, found)
    rest = "\n[more files left out]" if len(found) >= _LISTED else ""
    shown = "\n".join(found)
    return (
        f"Here're the files and directories up to 2 levels deep in {path}, "
        f"excluding hidden items:\n{path}\n{shown}{rest}"
    )


def _list(folder: int, shown: str, depth: int, found: list[str]) -> None:
    with os.scandir(folder) as entries:
        visible = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    for entry in visible:
        if len(found) >= _LISTED:
            return
        is_folder = entry.is_dir(follow_symlinks=False)
        found.append(f"{shown}/{entry.name}{'/' if is_folder else ''}")
        if is_folder and depth > 1:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            inner = os.open(entry.name, flags, dir_fd=folder)
            try:
                _list(inner, f"{shown}/{entry.name}", depth - 1, found)
            finally:
                os.close(inner)


def _read(file: IO[bytes], path: str) -> str:
    status = os.fstat(file.fileno())
    _require_regular(status, path)
    if status.st_size > FILE_LIMIT:
        raise Refusal(
            f"{path} holds {status.st_size} bytes, more than this tool's limit of "
            f"{FILE_LIMIT}: use a command such as sed or grep on it."
        )
    return file.read(FILE_LIMIT).decode("utf-8", "surrogateescape")


def _write(file: IO[bytes], path: str, text: str) -> None:
    _require_regular(os.fstat(file.fileno()), path)
    file.seek(0)
    file.truncate()
    left = memoryview(text.encode("utf-8", "surrogateescape"))
    while left:
        left = left[file.write(left) :]


def _require_regular(status: os.stat_result, path: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise Refusal(f"{path} is a directory.")
    if not stat.S_ISREG(status.st_mode):
        raise Refusal(f"{path} is not a regular file.")


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _range(view_range: list[int] | None, count: int) -> tuple[int, int]:
    if view_range is None:
        return 1, count
    first, last = view_range
    last = count if last == -1 else min(last, count)
    if first < 1 or (count and first > count) or last < first:
        raise Refusal(f"view_range {view_range} does not fit: the file has {count} lines.")
    return first, last


def _numbered(lines: list[str], first: int, last: int) -> str:
    shown: list[str] = []
    room = VIEW_CHARACTERS
    for number in range(first, last + 1):
        line = f"{number:6}\t{lines[number - 1]}".rstrip("\r")
        room -= len(line) + 1
        if room < 0:
            shown.append(f"[cut at line {number} of {len(lines)}: use view_range to see more]")
            break
        shown.append(line)
    return "\n".join(shown)


def _fit_line_ends(text: str, old: str, new: str) -> tuple[str, str]:
    """The model sees and writes LF; a CRLF file is edited in its own style."""
    if "\r\n" in text and old not in text and "\r" not in old:
        return old.replace("\n", "\r\n"), new.replace("\r\n", "\n").replace("\n", "\r\n")
    return old, new


def _edited(path: str, text: str, before: int, added: int) -> str:
    lines = _lines(text)
    first = max(1, before + 1 - _CONTEXT_LINES)
    last = min(len(lines), before + 1 + added + _CONTEXT_LINES)
    return (
        f"The file {path} has been edited. Here's the result of running `cat -n` on a snippet:\n"
        f"{_numbered(lines, first, last)}"
    )
