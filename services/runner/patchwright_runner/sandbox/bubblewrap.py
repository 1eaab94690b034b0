"""Boxes as bubblewrap namespaces over this machine's own programs, in milliseconds.

As root the box starts with the four capabilities that it needs to become the agent's user;
otherwise a user namespace gives it that identity. Nothing of the host but programs,
libraries and certificates is there.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from patchwright_runner.sandbox import boot, cgroup
from patchwright_runner.sandbox.inside.tree import OBJECTS, SCRATCH, SCRATCH_BYTES
from patchwright_runner.sandbox.launch import Launch
from patchwright_runner.sandbox.protocol import (
    AGENT_ID,
    HOME,
    WORKSPACE,
    Availability,
    BoxLost,
    BoxSpec,
    Limits,
)
from patchwright_runner.sandbox.remote import RemoteBox

_GIT = "/usr/bin/git"
_START_SECONDS = 20.0
_PROBE_SECONDS = 5.0
_SMALL = 1024**2
_SHARED_MEMORY_BYTES = 64 * _SMALL
_ENTER = """
groups=
while [ "$1" != -- ]; do groups="$groups $1"; shift; done
shift
[ "$groups" ] || exec "$@"
(
    for group in $groups; do echo 0 > "$group" || exit 125; done
    exec "$@"
)
code=$?
for group in $groups; do rmdir "${group%/*}"; done 2> /dev/null
exit $code
"""
"""Enters control groups, then becomes bubblewrap: $@ is `group-file… -- program…`.

The shell stays outside to remove the groups, because nobody else would when the runner is killed.
"""

_SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_CONFIGURATION = (
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
)
"""What programs need of /etc; never the host's accounts, keys or addresses."""

_PROGRAMS = (
    "/usr/bin",
    "/usr/lib",
    "/usr/local/bin",
    "/usr/local/lib",
    "/usr/lib/os-release",
    "/var/lib/dpkg/status",
    "/var/lib/rpm",
)
"""Changed by whoever installs something: the package managers' records, for an upgrade in place."""

_FILES = {
    "/etc/passwd": (
        f"root:x:0:0:root:/:/usr/sbin/nologin\nagent:x:{AGENT_ID}:{AGENT_ID}::{HOME}:/bin/bash\n"
    ),
    "/etc/group": f"root:x:0:\nagent:x:{AGENT_ID}:\n",
    "/etc/hosts": "127.0.0.1 localhost patchwright\n::1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


@dataclass(frozen=True, slots=True)
class BubblewrapSettings:
    """Which program makes the namespaces and which Python runs inside them."""

    program: str = "bwrap"
    python: str = "/usr/bin/python3"
    """Must lie below /usr, which is all that the box sees."""


class BubblewrapBackend:
    """Namespaces, a capability drop, a system call filter, control groups where writable."""

    name = "bubblewrap"

    def __init__(self, runner_id: str, settings: BubblewrapSettings | None = None) -> None:
        self._settings = settings or BubblewrapSettings()
        self._groups = cgroup.find(runner_id)
        self._root = os.geteuid() == 0

    async def available(self) -> Availability:
        """Start a box, because only that tells whether this kernel lets us."""
        if shutil.which(self._settings.program, path=boot.PATH) is None:
            return Availability(False, "bubblewrap is not installed: apt-get install bubblewrap")
        missing = [name for name in (self._settings.python, _GIT) if shutil.which(name) is None]
        if missing:
            return Availability(False, f"the box needs {' and '.join(missing)}: install it")
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                async with await self.start(BoxSpec("probe", limits=_PROBE)) as box:
                    await box.run("true", timeout=1)
        except (BoxLost, OSError, TimeoutError) as error:
            return Availability(False, f"bubblewrap does not work here: {error}")
        return Availability(True, f"bubblewrap, {self._how_limited()}")

    async def identity(self) -> str:
        """When this machine's programs last changed: a box sees them all."""
        known = [path for name in _PROGRAMS if (path := Path(name)).exists()]
        changed = [(str(path), path.stat().st_mtime_ns) for path in known]
        return f"bubblewrap {hashlib.sha256(repr(changed).encode()).hexdigest()}"

    def _how_limited(self) -> str:
        if self._groups is not None:
            return "limits by control group"
        return "limits per process only (no writable control groups)"

    async def start(self, spec: BoxSpec) -> RemoteBox:
        """A box in some 50 ms, most of it Python's own start."""
        group = None
        if self._groups is not None:
            group = self._groups.create(secrets.token_hex(8), spec.limits)
        try:
            with _files() as files:
                command = self._command(spec, files, group)
                launch = await Launch.start(
                    command, environment={}, descriptors=list(files.values())
                )
        except BaseException:
            await _release(group)
            raise

        async def destroy() -> None:
            await launch.end()
            await _release(group)

        box = RemoteBox(launch.connection, spec, destroy)
        try:
            await launch.greet(self._configuration(spec), _START_SECONDS)
        except BaseException:
            await box.close()
            raise
        return box

    async def sweep(self) -> int:
        """Boxes die with their runner; what remains of them is control groups."""
        return 0 if self._groups is None else await self._groups.sweep()

    def _configuration(self, spec: BoxSpec) -> dict[str, object]:
        configuration = boot.configuration(spec)
        if self._groups is None:
            configuration["data_bytes"] = spec.limits.memory_bytes
            configuration["processes"] = spec.limits.processes
        if self._root:
            configuration["become"] = AGENT_ID
            configuration["owned"] = [WORKSPACE, HOME, SCRATCH]
        return configuration

    def _command(
        self, spec: BoxSpec, files: dict[str, int], group: cgroup.Group | None
    ) -> list[str]:
        bwrap = shutil.which(self._settings.program, path=boot.PATH) or self._settings.program
        entrances = [] if group is None else group.entrances
        return [
            *("/bin/sh", "-c", _ENTER, "sh", *entrances, "--", bwrap),
            *self._isolation(),
            *_system(),
            *_made_up(files),
            *_writable(spec.limits),
            *_mirror(spec),
            *_programs(spec),
            *("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/"),
            *("--", self._settings.python, *boot.ARGUMENTS),
        ]

    def _isolation(self) -> list[str]:
        """--as-pid-1: our program reaps, and signals everyone in the namespace at once."""
        kinds = ["ipc", "pid", "net", "uts", "cgroup-try"]
        identity = ["--cap-drop", "ALL"]
        if self._root:
            for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_CHOWN"):
                identity += ["--cap-add", capability]
        else:
            kinds.append("user")
            identity += ["--uid", str(AGENT_ID), "--gid", str(AGENT_ID)]
        return [
            *(f"--unshare-{kind}" for kind in kinds),
            *("--die-with-parent", "--new-session", "--as-pid-1", "--clearenv"),
            *("--hostname", "patchwright", *identity),
        ]


_PROBE = Limits(memory_bytes=256 * _SMALL, workspace_bytes=_SMALL, scratch_bytes=_SMALL)


def _system() -> list[str]:
    """Programs and libraries; links such as /bin → usr/bin stay links."""
    flags = ["--proc", "/proc", "--dev", "/dev", "--ro-bind", "/usr", "/usr"]
    for folder in ("/etc", "/run", "/mirror"):
        flags += ["--perms", "0755", "--dir", folder]
    for path in map(Path, _SYSTEM):
        if path.is_symlink():
            flags += ["--symlink", str(path.readlink()), str(path)]
        elif path.exists():
            flags += ["--ro-bind", str(path), str(path)]
    for name in _CONFIGURATION:
        flags += ["--ro-bind-try", name, name]
    return flags


def _made_up(files: dict[str, int]) -> list[str]:
    return [
        part
        for path, descriptor in files.items()
        for part in ("--perms", "0644", "--ro-bind-data", str(descriptor), path)
    ]


def _writable(limits: Limits) -> list[str]:
    """Bounded memory file systems, the only places where a box can write."""
    sizes = {
        "/tmp": ("1777", limits.scratch_bytes),  # noqa: S108 - inside the box
        "/dev/shm": ("1777", _SHARED_MEMORY_BYTES),  # noqa: S108
        HOME: ("0755", limits.scratch_bytes),
        SCRATCH: ("0700", SCRATCH_BYTES),
        WORKSPACE: ("0755", limits.workspace_bytes),
    }
    return [
        part
        for path, (mode, size) in sizes.items()
        for part in ("--perms", mode, "--size", str(size), "--tmpfs", path)
    ]


def _mirror(spec: BoxSpec) -> list[str]:
    """Objects alone: the mirror's configuration and hooks stay outside."""
    if spec.mirror is None:
        return []
    return ["--ro-bind", str(spec.mirror / "objects"), OBJECTS]


def _programs(spec: BoxSpec) -> list[str]:
    """Folders above are made by hand, because bubblewrap would keep them to root."""
    above = {parent for path in spec.programs for parent in PurePosixPath(path).parents}
    flags = []
    for folder in sorted(above - {PurePosixPath("/")}):
        flags += ["--perms", "0755", "--dir", str(folder)]
    for target, program in spec.programs.items():
        flags += ["--ro-bind", str(program), target]
    return flags


@contextmanager
def _files() -> Iterator[dict[str, int]]:
    """The made-up files of /etc as descriptors that bubblewrap reads."""
    opened: dict[str, int] = {}
    try:
        for path, text in _FILES.items():
            opened[path] = os.memfd_create(Path(path).name)
            os.write(opened[path], text.encode())
            os.lseek(opened[path], 0, os.SEEK_SET)
        yield opened
    finally:
        for descriptor in opened.values():
            os.close(descriptor)


async def _release(group: cgroup.Group | None) -> None:
    if group is not None:
        await group.remove()
