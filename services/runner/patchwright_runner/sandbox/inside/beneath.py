"""Opens a path beneath one folder, whoever changes the tree meanwhile.

Every step is opened relative to the one before and never follows a link: links are read and
walked here. So what was checked is what is opened, and there is no moment between the two.
openat2(2) would refuse absolute links that stay inside, and gVisor does not have it.
"""

from __future__ import annotations

import errno
import os

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
_LINKS = 40
"""As many as the kernel follows."""


class Outside(Exception):
    """The path leads out of the folder."""


def open_beneath(root: str, path: str, flags: int, *, make_folders: bool = False) -> int:
    """A descriptor of `path`, absolute or relative to `root`; raises Outside and OSError."""
    walk = _Walk(root, make_folders)
    try:
        return walk.to(path, flags)
    finally:
        walk.close()


class _Walk:
    """The folders from the root to where we are, each held open."""

    def __init__(self, root: str, make_folders: bool) -> None:
        self._root = root
        self._make_folders = make_folders
        self._folders = [os.open(root, _FOLDER)]
        self._pending: list[str] = []

    def close(self) -> None:
        while self._folders:
            os.close(self._folders.pop())

    def to(self, path: str, flags: int) -> int:
        links = 0
        self._follow(path)
        while self._pending:
            step = self._pending.pop()
            if step == "..":
                self._leave()
                continue
            target = self._link(step)
            if target is not None:
                links += 1
                if links > _LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                self._follow(target)
            elif self._pending:
                self._enter(step)
            else:
                return self._open(step, flags)
        return self._open(".", flags)

    def _follow(self, path: str) -> None:
        """Put the steps of a path, or of a link's target, before what is still to go."""
        steps = [step for step in path.split("/") if step not in ("", ".")]
        if path.startswith("/"):
            above = [step for step in self._root.split("/") if step]
            if steps[: len(above)] != above:
                raise Outside
            steps = steps[len(above) :]
            while len(self._folders) > 1:
                self._leave()
        self._pending += reversed(steps)

    def _leave(self) -> None:
        if len(self._folders) == 1:
            raise Outside
        os.close(self._folders.pop())

    def _link(self, step: str) -> str | None:
        """Where it leads, or None for what is no link, or is not there."""
        try:
            return os.readlink(step, dir_fd=self._folders[-1])
        except OSError:
            return None

    def _enter(self, step: str) -> None:
        try:
            folder = os.open(step, _FOLDER, dir_fd=self._folders[-1])
        except FileNotFoundError:
            if not self._make_folders:
                raise
            os.mkdir(step, dir_fd=self._folders[-1])
            folder = os.open(step, _FOLDER, dir_fd=self._folders[-1])
        self._folders.append(folder)

    def _open(self, step: str, flags: int) -> int:
        return os.open(step, flags | os.O_NOFOLLOW, 0o644, dir_fd=self._folders[-1])
