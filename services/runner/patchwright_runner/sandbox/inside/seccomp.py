"""The system call filter: what no build or test needs, but an attack on the kernel does.

A deny list, because an allow list breaks compilers and runtimes in surprising ways. Docker's
default profile stays on beneath it. Assembled here because libseccomp is not everywhere.
"""

from __future__ import annotations

import errno
import platform
import struct
from typing import NamedTuple

# linux/bpf_common.h, linux/seccomp.h
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24

# Numbers for x86_64 and aarch64 (linux/arch/x86/entry/syscalls/syscall_64.tbl and
# include/uapi/asm-generic/unistd.h); -1 where the call does not exist.
_DENIED = {
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "userfaultfd": (323, 282),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "fanotify_init": (300, 262),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "lookup_dcookie": (212, 18),
    "iopl": (172, -1),
    "ioperm": (173, -1),
    "modify_ldt": (154, -1),
    "vhangup": (153, 58),
}
_ABSENT = {
    # "Not implemented" makes callers use the older call, whose flags can be checked.
    "clone3": (435, 435),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}
_CLONE, _IOCTL, _SOCKET = (56, 220), (16, 29), (41, 198)

_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET (NEWTIME: unshare only)."""

_TERMINAL_INJECTION = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX type into a terminal that one does not own."""

_SOCKET_FAMILIES = (1, 2, 10, 16)
"""UNIX, IPv4, IPv6, netlink. VSOCK reaches the hypervisor from any network namespace."""


class Machine(NamedTuple):
    """What differs between processors: audit architecture and the column of the tables."""

    audit: int
    column: int


_MACHINES = {"x86_64": Machine(0xC000003E, 0), "aarch64": Machine(0xC00000B7, 1)}
_X32_BIT = 0x40000000


def program(machine: str = "") -> bytes:
    """The filter as an array of struct sock_filter; raises KeyError on an unknown machine."""
    name = machine or platform.machine()
    audit, column = _MACHINES[name]
    code = [_step(_LOAD, _ARCHITECTURE), _step(_JUMP_EQUAL, audit, 1, 0), _return(_KILL_PROCESS)]
    code.append(_step(_LOAD, _NUMBER))
    if name == "x86_64":
        code += _refuse_if(_JUMP_AT_LEAST, _X32_BIT, errno.ENOSYS)
    for numbers, answer in ((_DENIED, errno.EPERM), (_ABSENT, errno.ENOSYS)):
        for number in (pair[column] for pair in numbers.values() if pair[column] >= 0):
            code += _refuse_if(_JUMP_EQUAL, number, answer)
    for block in _argument_checks(column):
        code += block
    code.append(_return(_ALLOW))
    return b"".join(code)


def _argument_checks(column: int) -> tuple[list[bytes], ...]:
    clone = _refuse_if(_JUMP_BITS, _NEW_NAMESPACES, errno.EPERM)
    ioctl = [
        step for code in _TERMINAL_INJECTION for step in _refuse_if(_JUMP_EQUAL, code, errno.EPERM)
    ]
    known = [
        _step(_JUMP_EQUAL, family, len(_SOCKET_FAMILIES) - place, 0)
        for place, family in enumerate(_SOCKET_FAMILIES)
    ]
    socket = [*known, _return(_ERRNO | errno.EAFNOSUPPORT), _return(_ALLOW)]
    return (
        _for_call(_CLONE[column], _FIRST_ARGUMENT, clone),
        _for_call(_IOCTL[column], _SECOND_ARGUMENT, ioctl),
        _for_call(_SOCKET[column], _FIRST_ARGUMENT, socket),
    )


def _for_call(number: int, argument: int, checks: list[bytes]) -> list[bytes]:
    """`checks` on the low half of an argument, the number loaded again for what follows."""
    body = [_step(_LOAD, argument), *checks, _step(_LOAD, _NUMBER)]
    return [_step(_JUMP_EQUAL, number, 0, len(body)), *body]


def _refuse_if(jump: int, value: int, number: int) -> list[bytes]:
    return [_step(jump, value, 0, 1), _return(_ERRNO | number)]


def _return(value: int) -> bytes:
    return _step(_RETURN, value)


def _step(code: int, value: int, when_true: int = 0, when_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, when_true, when_false, value)
