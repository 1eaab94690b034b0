"""Writes a stored change back into a workspace that is checked out at its base."""

# os.path and os.open: names that are no UTF-8, flags that pathlib does not have.
# ruff: noqa: PTH101, PTH103, PTH106, PTH108, PTH112, PTH114, PTH118, PTH120, PTH123, PTH211

from __future__ import annotations

import contextlib
import os

_WRITE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW


def restore(workspace: str, path: str, mode: str | None, content: bytes, at: int) -> None:
    """One path, or the piece of a file that begins at byte `at`. Deletions come first."""
    full = os.path.join(workspace, path)
    if at == 0:
        _remove(workspace, full)
    if mode is None:
        return
    os.makedirs(os.path.dirname(full), exist_ok=True)
    if mode == "120000":
        os.symlink(content, os.fsencode(full))
        return
    descriptor = os.open(full, _WRITE, 0o755 if mode == "100755" else 0o644)
    with open(descriptor, "wb", 0) as file:
        file.seek(at)
        file.write(content)


def _remove_tree(full: str) -> None:
    """With what git ignores in it, and what is read-only: a submodule's files are."""
    for folder, folders, files in os.walk(full):
        os.chmod(folder, 0o700)
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            if name in files or os.path.islink(path):
                os.unlink(path)
    for folder, _, _ in os.walk(full, topdown=False):
        os.rmdir(folder)


def _remove(workspace: str, full: str) -> None:
    """What is there, and the folders that it leaves empty, as git would."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if os.path.isdir(full) and not os.path.islink(full):
            _remove_tree(full)
        else:
            os.unlink(full)
    above = os.path.dirname(full)
    with contextlib.suppress(OSError):
        while above != workspace:
            os.rmdir(above)
            above = os.path.dirname(above)
