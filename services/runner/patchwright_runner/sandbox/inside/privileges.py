"""Gives up everything that the box's program, and so the agent's commands, do not need."""

# os.path and os.open: names that are no UTF-8, flags that pathlib does not have.
# ruff: noqa: PTH123

from __future__ import annotations

import ctypes
import os
import struct

# include/uapi/linux/prctl.h
_SET_DUMPABLE = 4
_SET_SECCOMP = 22
_CAPBSET_DROP = 24
_SET_NO_NEW_PRIVS = 38
_GET_NO_NEW_PRIVS = 39
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    """struct sock_fprog of linux/filter.h."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def become_agent(identity: int, owned: list[str]) -> None:
    """From root with four capabilities to a user with none; `owned` becomes theirs."""
    for path in owned:
        os.chown(path, identity, identity)
    with open("/proc/sys/kernel/cap_last_cap") as file:
        for capability in range(int(file.read()) + 1):
            _prctl(_CAPBSET_DROP, capability)
    os.setgroups([])
    os.setresgid(identity, identity, identity)
    os.setresuid(identity, identity, identity)
    _clear_capabilities()


def _clear_capabilities() -> None:
    """Changing the user leaves the inheritable set; capset(2) clears that too."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    if _libc.capset(header, bytes(24)) != 0:
        raise OSError(ctypes.get_errno(), "capset failed")


def confine(seccomp: bytes) -> None:
    """No new privileges, no inspection by the commands (same user), the filter on top."""
    set_dumpable(False)
    _prctl(_SET_NO_NEW_PRIVS, 1)
    program = _Program(len(seccomp) // 8, seccomp)
    _prctl(_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program))


def verify() -> None:
    """Fail closed: raises when any capability or a user id of 0 is left."""
    with open("/proc/self/status") as status:
        fields = dict(line.split(":\t", 1) for line in status if ":\t" in line)
    # gVisor tells of no ambient capabilities; they are never more than the permitted ones.
    fields.setdefault("CapAmb", "0")
    left = [
        name for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if int(fields[name], 16)
    ]
    if left or 0 in os.getresuid() or _libc.prctl(_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1:
        raise PermissionError(f"the box still has privileges: {left or os.getresuid()}")


def set_dumpable(dumpable: bool) -> None:
    """Whether others with our user id may read our memory, environment and descriptors."""
    _prctl(_SET_DUMPABLE, int(dumpable))


def _prctl(option: int, value: int, extra: int = 0) -> None:
    arguments = [ctypes.c_ulong(part) for part in (value, extra, 0, 0)]
    if _libc.prctl(option, *arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")
