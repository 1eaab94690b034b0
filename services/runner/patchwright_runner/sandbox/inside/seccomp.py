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
_NUMBER, _ARCHITECTURE = 0, 4
_FIRST_ARGUMENT, _SECOND_ARGUMENT, _THIRD_ARGUMENT = 16, 24, 32

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
_CLONE, _IOCTL, _PERSONALITY = (56, 220), (16, 29), (135, 92)
_SOCKET, _SOCKETPAIR = (41, 198), (53, 199)

_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET (NEWTIME: unshare only)."""

_TERMINAL_INJECTION = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX type into a terminal that one does not own."""

_UNIX, _IPV4, _IPV6, _NETLINK = 1, 2, 10, 16
"""The socket families there are. VSOCK reaches the hypervisor from any network namespace."""

_IP_PROTOCOLS = (0, 6, 17)
"""The usual one, TCP, UDP. Asking for a rarer one makes the kernel load its module."""

_NETLINK_PROTOCOLS = (0,)
"""Routing, for those who list interfaces. The others lead into netfilter, audit, IPsec."""

_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""Plain Linux, 32 bit, old version numbers, a question; none switches off a protection."""


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
    return (
        _for_call(_CLONE[column], _FIRST_ARGUMENT, clone),
        _for_call(_IOCTL[column], _SECOND_ARGUMENT, ioctl),
        _for_call(_PERSONALITY[column], _FIRST_ARGUMENT, _only(_PERSONALITIES, errno.EPERM)),
        _for_call(_SOCKETPAIR[column], _FIRST_ARGUMENT, _only((_UNIX,), errno.EAFNOSUPPORT)),
        _for_call(_SOCKET[column], _FIRST_ARGUMENT, _sockets()),
    )


def _sockets() -> list[bytes]:
    """By family, and by protocol where the family has some that load a module."""
    code: list[bytes] = [*_if_equal(_UNIX, [_return(_ALLOW)])]
    for family, protocols in (
        (_IPV4, _IP_PROTOCOLS),
        (_IPV6, _IP_PROTOCOLS),
        (_NETLINK, _NETLINK_PROTOCOLS),
    ):
        by_protocol = [
            _step(_LOAD, _THIRD_ARGUMENT),
            *_only(protocols, errno.EPROTONOSUPPORT),
            _return(_ALLOW),
        ]
        code += _if_equal(family, by_protocol)
    return [*code, _return(_ERRNO | errno.EAFNOSUPPORT)]


def _only(allowed: tuple[int, ...], number: int) -> list[bytes]:
    """Go on behind this with an allowed value, refuse any other."""
    known = [
        _step(_JUMP_EQUAL, value, len(allowed) - place, 0) for place, value in enumerate(allowed)
    ]
    return [*known, _return(_ERRNO | number)]


def _for_call(number: int, argument: int, checks: list[bytes]) -> list[bytes]:
    """`checks` on the low half of an argument, the number loaded again for what follows."""
    body = [_step(_LOAD, argument), *checks, _step(_LOAD, _NUMBER)]
    return _if_equal(number, body)


def _if_equal(value: int, body: list[bytes]) -> list[bytes]:
    return [_step(_JUMP_EQUAL, value, 0, len(body)), *body]


def _refuse_if(jump: int, value: int, number: int) -> list[bytes]:
    return [_step(jump, value, 0, 1), _return(_ERRNO | number)]


def _return(value: int) -> bytes:
    return _step(_RETURN, value)


def _step(code: int, value: int, when_true: int = 0, when_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, when_true, when_false, value)
