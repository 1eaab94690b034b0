"""Attacks on the kernel: rights, namespaces, devices, and calls that widen its surface."""

from __future__ import annotations

import platform

from patchwright_runner.sandbox.remote import RemoteBox

from .attack import ROOT, WORKED, Attack, against, python
from .unprotected import Unprotected

_FILTER = "system call filter"
_RIGHTS = f"no capabilities; {_FILTER}"


def _reaching(name: str, stopped_by: str, *numbers_and_arguments: object) -> Attack:
    """The kernel looks at the call's arguments; as root, since the box's user may do less."""
    arguments = ", ".join(map(str, numbers_and_arguments))
    return Attack(name, stopped_by, python(f"reaches({arguments}) and worked()"), alone=ROOT)


RIGHTS = (
    Attack(
        "setuid program",
        "no new privileges; file systems mounted nosuid",
        python("""
if os.getuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
with subprocess.Popen(["su"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as su:
    while su.poll() is None:
        status = dict(line.split(":\\t", 1) for line in open(f"/proc/{su.pid}/status"))
        if status["Uid"].split()[1] == "0":
            worked()
            break
        if status["Name"].strip() == "su" and status["State"].startswith("S"):
            break
    os._exit(0)  # su takes its time to refuse
"""),
        alone=ROOT,
    ),
    Attack(
        "becoming root",
        "no capabilities",
        python("os.setuid(0)\nos.setgid(0)\nworked()"),
        alone=ROOT,
    ),
    Attack(
        "device node",
        "no capabilities; file systems mounted nodev",
        python("os.mknod('node', 0o020600, os.makedev(1, 3))\nworked()"),
        alone=ROOT,
    ),
    Attack(
        "settings of the kernel",
        "no capabilities; user without rights",
        python("open('/proc/sys/kernel/hostname', 'w').write('attacked')\nworked()"),
        alone=ROOT,
    ),
    Attack(
        "root of another's choice",
        _RIGHTS,
        python("os.chroot('.')\nworked()"),
        alone=ROOT,
    ),
    Attack(
        "higher priority",
        "no capabilities",
        python("os.nice(-5)\nworked()"),
        alone=ROOT,
    ),
)

NAMESPACES = (
    Attack(
        "new user namespace",
        _FILTER,
        "unshare --user true && echo the attack 'worked'",
        alone=ROOT,
    ),
    Attack(
        "new network and mount namespaces",
        _FILTER,
        "unshare --net --mount true && echo the attack 'worked'",
        alone=ROOT,
    ),
    Attack(
        "new namespace by clone",
        f"{_FILTER}, which looks at the flags",
        python("""
pid = call(56, 220, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)
if pid == 0:
    os._exit(0)
if isinstance(pid, int):
    worked()
"""),
        alone=ROOT,
    ),
    Attack(
        "new namespace by clone3",
        f"{_FILTER}: the call seems absent, as its flags cannot be looked at",
        python("""
arguments = ctypes.create_string_buffer(struct.pack("8Q", 0x10000000, 0, 0, 0, 17, 0, 0, 0))
pid = call(435, 435, arguments, 64)
if pid == 0:
    os._exit(0)
if isinstance(pid, int):
    worked()
"""),
        alone=ROOT,
    ),
    Attack(
        "joining another's namespace",
        _FILTER,
        python("""
own = os.open("/proc/self/ns/uts", os.O_RDONLY)
if call(308, 268, own, 0) == 0:
    worked()
"""),
        alone=ROOT,
    ),
    Attack(
        "mounting",
        _RIGHTS,
        "mount -t tmpfs none /tmp && echo the attack 'worked'",
        alone=ROOT,
    ),
    _reaching("mounting by the new calls", _RIGHTS, 430, 430, "b'tmpfs'", 0),
    Attack(
        "unmounting what hides something",
        _RIGHTS,
        "umount --lazy /proc && echo the attack 'worked'",
        alone=ROOT,
    ),
)

CALLS = (
    Attack(
        "ptrace",
        _FILTER,
        python("""
pid = os.fork()
if pid == 0:
    signal.pause()
if call(101, 117, 16, pid, 0, 0) == 0:
    worked()
os.kill(pid, signal.SIGKILL)
"""),
    ),
    Attack(
        "another process's memory",
        _FILTER,
        python("""
secret = ctypes.create_string_buffer(b"secret")
pid = os.fork()
if pid == 0:
    signal.pause()
copy = ctypes.create_string_buffer(6)
here = ctypes.create_string_buffer(struct.pack("2Q", ctypes.addressof(copy), 6))
there = ctypes.create_string_buffer(struct.pack("2Q", ctypes.addressof(secret), 6))
if call(310, 270, pid, here, 1, there, 1, 0) == 6 and copy.raw == b"secret":
    worked()
os.kill(pid, signal.SIGKILL)
"""),
    ),
    Attack(
        "another process's descriptors",
        _FILTER,
        python("""
pid = os.fork()
if pid == 0:
    signal.pause()
if isinstance(call(438, 438, os.pidfd_open(pid), 0, 0), int):
    worked()
os.kill(pid, signal.SIGKILL)
"""),
    ),
    Attack(
        "keyring",
        _FILTER,
        python("""
if isinstance(call(248, 217, b"user", b"planted", b"x", 1, -2), int):
    worked()
"""),
    ),
    Attack(
        "kernel module",
        _RIGHTS,
        python("""
# A kernel without modules says so, which is no refusal.
if call(175, 105, 0, 0, 0) != "EPERM":
    worked()
"""),
        alone=ROOT,
    ),
    _reaching("bpf", _RIGHTS, 321, 280, 0, 0, 0),
    _reaching("performance events", _FILTER, 298, 241, 0, 0, -1, -1, 0),
    _reaching("user-space page faults", _FILTER, 323, 282, 0),
    _reaching("io_uring", f"{_FILTER}: the call seems absent", 425, 425, 1, 0),
    _reaching("file by handle", _RIGHTS, 304, 265, -100, 0, 0),
    _reaching("log of the kernel", _RIGHTS, 103, 116, 10, 0, 0),
    _reaching("swap", _RIGHTS, 167, 224, "b'/nonexistent'", 0),
    _reaching("quotas", _RIGHTS, 179, 60, 0, "b'/nonexistent'", 0, 0),
    _reaching("comparing processes", _FILTER, 312, 272, "os.getpid()", "os.getpid()", 1, 0, 0),
    Attack(
        "protection switched off by personality",
        f"{_FILTER}, which looks at the argument",
        python("""
if libc.personality(0x0040000) != -1:  # ADDR_NO_RANDOMIZE
    worked()
"""),
    ),
    Attack(
        "typing into a terminal",
        f"{_FILTER}, which looks at the argument",
        python("""
import fcntl, pty
master, slave = pty.openpty()
if os.getsid(0) != os.getpid():
    os.setsid()
fcntl.ioctl(slave, 0x540E, 0)
fcntl.ioctl(slave, 0x5412, b"x")
worked()
"""),
        alone=ROOT,
    ),
)

OLD_CALLS = (
    Attack(
        "system calls of 32 bits",
        f"{_FILTER}: it ends a process that uses another processor's numbers",
        python("""
import mmap
code = mmap.mmap(-1, 4096, prot=7)
code.write(bytes.fromhex("b814000000cd80c3"))  # mov eax, 20 (getpid); int 0x80; ret
function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
if function() == os.getpid():
    worked()
"""),
    ),
)
"""Of a processor that has them."""


@against(*RIGHTS, *NAMESPACES, *CALLS, *(OLD_CALLS if platform.machine() == "x86_64" else ()))
async def test_kernel_refuses(attack: Attack, box: RemoteBox, unprotected: Unprotected) -> None:
    assert WORKED in unprotected.attacked(attack)
    assert WORKED not in (await box.run(attack.command, timeout=30)).output
