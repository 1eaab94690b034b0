"""The workspace's tree: made from the mirror's objects, compared with the base at the end.

Git runs here, inside the box, with nothing of the agent's configuration; what the agent left
in its own `.git` decides only which ignored files it had added on purpose.
"""

# os.path and os.open: names that are no UTF-8, flags that pathlib does not have.
# ruff: noqa: PTH101, PTH103, PTH108, PTH112, PTH115, PTH116, PTH118, PTH120, PTH123

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

OBJECTS = "/mirror/objects"
SCRATCH = "/run/patchwright"
"""A small file system of our own: an agent that filled /tmp does not lose its work."""
SCRATCH_BYTES = 64 << 20
"""Room for git's record of half a million files."""
Git = Callable[..., bytes]
"""`git(*arguments, directory=…, stdin=…, environment=…, accept=(0,), seconds=…)` → its output;
raises GitFailed on any other exit code and at its time limit."""

_IDENTITY = {"user.name": "Patchwright agent", "user.email": "agent@patchwright.invalid"}
_AS_STORED = "* -text !eol -ident -filter -working-tree-encoding\n"
"""Attributes for a work tree of the blobs' own bytes, so that a hash tells what changed."""
_BRANCH = "patchwright"
_CHUNK = 1 << 20
_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n"
"""https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md, as `git lfs` writes it."""
_HINT_SECONDS = 20.0
_PATH_BYTES = 1024
"""Of a folder that is looked into; `entries.py` takes no longer paths either."""


class GitFailed(Exception):
    """Git did not do what was asked; the text holds its complaint."""


class Changed(NamedTuple):
    """One path that differs. `size` may exceed what `content` carries: then it is too big."""

    path: str
    mode: str | None
    size: int = 0
    content: bytes = b""


class Written(NamedTuple):
    """A check-out as git recorded it: `record` has each file's number, size and times."""

    base: str
    record: bytes
    at: int
    """When, in nanoseconds: a file that is as old may have been changed since."""


class Blob(NamedTuple):
    """A base tree's entry: git's mode (canonical) and object id."""

    mode: str
    identity: str


def checkout(git: Git, workspace: str, base: str) -> None:
    """A repository in `workspace` at `base` that borrows the mirror's objects."""
    git("init", "--quiet", "--template=", f"--initial-branch={_BRANCH}", workspace)
    own = os.path.join(workspace, ".git")
    _write(os.path.join(own, "info", "attributes"), _AS_STORED)
    _write(os.path.join(own, "objects", "info", "alternates"), f"{OBJECTS}\n")
    for key, value in {**_IDENTITY, "gc.auto": "0"}.items():
        git("config", key, value, directory=workspace)
    try:
        git("reset", "--quiet", "--hard", base, directory=workspace)
    except GitFailed as error:
        room = os.statvfs(workspace)
        if room.f_bavail:
            raise
        size = room.f_blocks * room.f_frsize // 1024**2
        text = f"The repository's files do not fit into the sandbox's workspace of {size} MB."
        raise GitFailed(text) from error


def move(git: Git, workspace: str, before: str, after: str) -> None:
    """From one commit to another in a workspace that nobody touched: writes what differs.

    Git's own record of the files is believed, which spares looking at each of them.
    """
    git("read-tree", "-m", "-u", before, after, directory=workspace)
    git("update-ref", "HEAD", after, directory=workspace)


def written(workspace: str, base: str) -> Written:
    """To be asked before anything of the agent's runs."""
    index = os.path.join(workspace, ".git", "index")
    with open(index, "rb") as file:
        return Written(base, file.read(), os.stat(index).st_mtime_ns)


def collect(
    git: Git, workspace: str, base: str, most: int, believed: Written | None = None
) -> Iterator[Changed]:
    """What differs from `base`: deletions first, files over `most` bytes without content.

    Files of an earlier check-out whose number, size and times are still the same are not
    read again when it is `believed`. That a write changes them is the kernel's promise, but
    for a file that is mapped into memory it comes late.
    """
    with tempfile.TemporaryDirectory(dir=SCRATCH) as scratch:
        environment = _private_repository(git, scratch, workspace)
        tree = _base_tree(git, base, environment)
        kept = set(tree) | _added_by_agent(git, workspace, environment)
        links = {path for path, blob in tree.items() if blob.mode == "160000"}
        walk = _Walk(git, workspace, kept, links, environment)
        present = walk.files()
        same: set[str] = set()
        if believed is not None and believed.base == base:
            same = set(tree) - _touched(git, scratch, believed, environment)
        for path in sorted(set(tree) - set(present)):
            if path not in links or not os.path.isdir(os.path.join(workspace, path)):
                yield Changed(path, None)
        for path in sorted(set(present) - same):
            changed = _compare(workspace, path, present[path], tree.get(path), most)
            if changed is not None:
                yield changed


def _private_repository(git: Git, scratch: str, workspace: str) -> dict[str, str]:
    """A repository that the agent never saw, so that it cannot have prepared it."""
    git("init", "--quiet", "--bare", "--template=", scratch)
    _write(os.path.join(scratch, "objects", "info", "alternates"), f"{OBJECTS}\n")
    _write(os.path.join(scratch, "info", "attributes"), _AS_STORED)
    return {
        "GIT_DIR": scratch,
        "GIT_WORK_TREE": workspace,
        "GIT_NO_REPLACE_OBJECTS": "1",
    }


def _touched(git: Git, scratch: str, written: Written, environment: dict[str, str]) -> set[str]:
    index = os.path.join(scratch, "written")
    with open(index, "wb") as file:
        file.write(written.record)
    os.utime(index, ns=(written.at, written.at))
    listed = git(
        *("diff-files", "-z", "--name-only", "--ignore-submodules=all"),
        environment={**environment, "GIT_INDEX_FILE": index},
    )
    return {os.fsdecode(name) for name in listed.split(b"\0") if name}


def _write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


def _base_tree(git: Git, base: str, environment: dict[str, str]) -> dict[str, Blob]:
    listed = git("ls-tree", "-r", "-z", "--full-tree", base, environment=environment)
    tree = {}
    for row in filter(None, listed.split(b"\0")):
        about, _, name = row.partition(b"\t")
        mode, _, identity = about.decode().split(" ")
        tree[os.fsdecode(name)] = Blob(_canonical(mode), identity)
    return tree


def _canonical(mode: str) -> str:
    """Old trees hold modes such as 100664, which git reads as 100644."""
    if mode.startswith("100"):
        return "100755" if int(mode, 8) & 0o100 else "100644"
    return mode


def _added_by_agent(git: Git, workspace: str, environment: dict[str, str]) -> set[str]:
    """Paths in the agent's index: `git add --force` says that an ignored file matters.

    The index is data; the configuration beside it could make git run programs, so git reads
    it as the index of our own repository. Is it gone or broken, only that hint is lost.
    """
    index = os.path.join(workspace, ".git", "index")
    if not _is_plain(index):
        return set()
    environment = {**environment, "GIT_INDEX_FILE": index}
    try:
        listed = git("ls-files", "-z", "--cached", environment=environment, seconds=_HINT_SECONDS)
    except GitFailed:
        return set()
    return {os.fsdecode(name) for name in listed.split(b"\0") if name}


class _Walk:
    """Lists files level by level, so that git is asked once a level what is ignored."""

    def __init__(
        self,
        git: Git,
        workspace: str,
        kept: set[str],
        links: set[str],
        environment: dict[str, str],
    ) -> None:
        self._git = git
        self._workspace = workspace
        self._kept = kept
        self._links = links
        self._folders = {parent for path in kept for parent in _parents(path)}
        self._environment = environment

    def files(self) -> dict[str, os.stat_result]:
        """Regular files and symbolic links that are kept, by path."""
        found: dict[str, os.stat_result] = {}
        level = [""]
        while level:
            entries = {path: entry for folder in level for path, entry in self._scan(folder)}
            known = self._kept | self._folders
            ignored = self._ignored([path for path in entries if path not in known])
            level = []
            for path, entry in entries.items():
                if path in ignored:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if path not in self._links:  # what lies in there is another repository's
                        level.append(_not_too_deep(path) + "/")
                elif entry.is_file(follow_symlinks=False) or entry.is_symlink():
                    found[path] = entry.stat(follow_symlinks=False)
        return found

    def _scan(self, folder: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        full = os.path.join(self._workspace, folder)
        _make_readable(full, 0o500)
        with os.scandir(full) as entries:
            for entry in entries:
                if entry.name == ".gitignore" and _is_special(entry):
                    os.unlink(entry.path)  # git would wait for ever to read a FIFO
                elif entry.name.lower() != ".git":
                    yield folder + entry.name, entry

    def _ignored(self, paths: list[str]) -> set[str]:
        if not paths:
            return set()
        # "./", because a name that begins with a colon would be read as pathspec magic.
        asked = b"".join(b"./" + os.fsencode(path) + b"\0" for path in paths)
        exclude = os.path.join(self._workspace, ".git", "info", "exclude")
        answer = self._git(
            *("-c", f"core.excludesFile={exclude}") if _is_plain(exclude) else (),
            *("check-ignore", "-z", "--stdin", "--no-index"),
            stdin=asked,
            directory=self._workspace,
            environment=self._environment,
            accept=(0, 1),
        )
        return {os.fsdecode(name[2:]) for name in answer.split(b"\0") if name}


def _not_too_deep(path: str) -> str:
    """No file below it could be in a change, and each level costs a call of git."""
    if len(os.fsencode(path)) > _PATH_BYTES:
        raise GitFailed(f"The folders in {path[:40]}… lie deeper than {_PATH_BYTES} bytes of path.")
    return path


def _is_special(entry: os.DirEntry[str]) -> bool:
    """Neither a file, a folder nor a link: never part of a change."""
    ordinary = entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)
    return not (ordinary or entry.is_symlink())


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _is_plain(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _compare(
    workspace: str, path: str, status: os.stat_result, blob: Blob | None, most: int
) -> Changed | None:
    full = os.path.join(workspace, path)
    if stat.S_ISLNK(status.st_mode):
        content = os.fsencode(os.readlink(full))
        mode = "120000"
    else:
        mode = "100755" if status.st_mode & 0o100 else "100644"
        _make_readable(full, 0o400)
        content = _content(full, most) if status.st_size <= most else b""
    size = len(content) if content else status.st_size
    if blob is not None and blob.mode == mode and _is_stored_as(blob, full, size, content):
        return None
    return Changed(path, mode, size, content)


def _make_readable(full: str, bits: int) -> None:
    """Its owner may have taken our right to read it (we are the same user)."""
    mode = os.lstat(full).st_mode
    if mode & bits != bits:
        os.chmod(full, stat.S_IMODE(mode) | bits)


def _content(full: str, most: int) -> bytes:
    with open(full, "rb") as file:
        return file.read(most + 1)


def _is_stored_as(blob: Blob, full: str, size: int, content: bytes) -> bool:
    """Whether the base has this very file, as it is or by a pointer of Git LFS.

    A file too big to carry is read in pieces.
    """

    def pieces() -> Iterator[bytes]:
        return iter([content]) if content or not size else _pieces(full)

    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    for piece in pieces():
        digest.update(piece)
    if digest.hexdigest() == blob.identity:
        return True
    large = hashlib.sha256()
    for piece in pieces():
        large.update(piece)
    pointer = _POINTER % (large.hexdigest().encode(), size)
    stored = hashlib.sha1(b"blob %d\0%s" % (len(pointer), pointer), usedforsecurity=False)
    return stored.hexdigest() == blob.identity


def _pieces(full: str) -> Iterator[bytes]:
    with open(full, "rb") as file:
        while piece := file.read(_CHUNK):
            yield piece


def git_environment() -> dict[str, str]:
    """No configuration but the repository's own and what the command line says."""
    return {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": "false",
        "GIT_CONFIG_KEY_1": "core.hooksPath",
        "GIT_CONFIG_VALUE_1": "/dev/null",
    }
