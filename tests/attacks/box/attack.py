"""What an attack is: a command that says so when it worked, and what should have stopped it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from harness.boxes import LIMITS
from patchwright_runner.sandbox.protocol import Limits

WORKED = "the attack worked"
"""Printed by an attack. No attack's own text holds it, in case an error message quotes that."""

PLAIN: tuple[str, ...] = ()
"""Unprotected means: a process like any other, in a folder of its own."""

ROOT = (
    *(() if os.geteuid() == 0 else ("sudo", "-n")),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--ipc", "--uts"),
)
"""Unprotected means: as root, with mounts, processes and host name of its own so that nothing
happens to the machine; network, users, devices, system calls and capabilities are the machine's."""

ROOT_OWN_NETWORK = (*ROOT, "--net")

_PRELUDE = """
import ctypes, errno, os, platform, resource, signal, socket, struct, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)

def worked():
    print("the attack", "worked", flush=True)

def call(x86_64, aarch64, *arguments):
    '''A system call's answer, or the name of its error.'''
    number = {"x86_64": x86_64, "aarch64": aarch64}[platform.machine()]
    longs = [a if isinstance(a, (bytes, ctypes.Array)) else ctypes.c_long(a) for a in arguments]
    done = libc.syscall(ctypes.c_long(number), *longs)
    return done if done >= 0 else errno.errorcode[ctypes.get_errno()]

def reaches(*arguments):
    '''Whether the kernel gets as far as the arguments, which is where its bugs are.'''
    return call(*arguments) not in ("EPERM", "ENOSYS", "EACCES")
"""


def python(script: str) -> str:
    """The command that runs a script with python3."""
    return f"python3 -S - <<'END'\n{_PRELUDE}{script}\nEND\n"


@dataclass(frozen=True)
class Attack:
    """One attack on the box, as every backend meets it."""

    name: str
    stopped_by: str
    """For the page that lists the attacks."""
    command: str = ""
    alone: tuple[str, ...] = PLAIN
    """How it is shown that the attack works where nothing stops it."""
    first: str = ""
    """What only the unprotected place needs before the command."""
    then: str = ""
    """A second command, in the same place, that looks whether the first one worked."""
    limits: Limits = field(default=LIMITS)

    def __str__(self) -> str:
        return self.name.replace(" ", "_").replace("'", "")


def against(*attacks: Attack) -> Callable[[Callable[..., object]], pytest.MarkDecorator]:
    """One test for each of these attacks, named after it."""

    def made(test: Callable[..., object]) -> pytest.MarkDecorator:
        test.attacks = attacks  # type: ignore[attr-defined]
        return pytest.mark.parametrize("attack", attacks, ids=str)(test)

    return made


def named(name: str, stopped_by: str) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """A test whose attack does not fit into a table."""

    def made(test: Callable[..., object]) -> Callable[..., object]:
        test.attacks = (Attack(name, stopped_by),)  # type: ignore[attr-defined]
        return test

    return made


def exports(variables: Mapping[str, str]) -> str:
    """Shell lines that let a command know where it finds what it attacks."""
    return "".join(f"export {name}='{value}'\n" for name, value in variables.items())
