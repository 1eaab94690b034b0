"""Attacks that want out: by address, name, socket, and by the cloud's own service."""

from __future__ import annotations

from patchwright_runner.sandbox.remote import RemoteBox

from .attack import ROOT, ROOT_OWN_NETWORK, WORKED, Attack, against, exports, python
from .unprotected import Unprotected

_LOOPBACK = "network namespace with a loopback of its own, and no other interface"
_FILTER = "system call filter"

_METADATA = python("""
import fcntl
here = struct.pack("16sH2x4s8x", b"lo", socket.AF_INET, socket.inet_aton("169.254.169.254"))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    fcntl.ioctl(control, 0x8916, here)  # SIOCSIFADDR
    fcntl.ioctl(control, 0x8914, struct.pack("16sH", b"lo", 1))  # SIOCSIFFLAGS: up
service = socket.create_server(("169.254.169.254", 80))
if os.fork() == 0:
    signal.pause()
""")
"""A cloud in a network of its own: its address, with somebody who listens."""

WAYS_OUT = (
    Attack(
        "connection to an address",
        _LOOPBACK,
        python("""
socket.create_connection((os.environ["ADDRESS"], int(os.environ["TCP"])), 5)
worked()
"""),
    ),
    Attack(
        "connection to a service on the host's loopback",
        _LOOPBACK,
        python("""
socket.create_connection(("127.0.0.1", int(os.environ["TCP"])), 5)
worked()
"""),
    ),
    Attack(
        "connection by IPv6",
        _LOOPBACK,
        python('socket.create_connection(("::1", int(os.environ["TCP6"])), 5)\nworked()'),
    ),
    Attack(
        "connection by IPv4 in IPv6",
        _LOOPBACK,
        python("""
with socket.socket(socket.AF_INET6) as mapped:
    mapped.settimeout(5)
    mapped.connect(("::ffff:127.0.0.1", int(os.environ["TCP"])))
    worked()
"""),
    ),
    Attack(
        "question to a name server",
        _LOOPBACK,
        python("""
question = bytes.fromhex("abcd01000001000000000000") + b"\\6secret\\7example\\0\\0\\1\\0\\1"
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.connect((os.environ["ADDRESS"], int(os.environ["UDP"])))
    server.send(question)
    server.send(question)  # fails if nobody was there to hear the first
    worked()
"""),
    ),
    Attack(
        "metadata service of a cloud",
        f"{_LOOPBACK}: there is no route",
        python("""
for address in ("169.254.169.254", "169.254.170.2", "100.100.100.200"):
    try:
        socket.create_connection((address, 80), 5)
    except OSError:
        continue
    worked()
"""),
        alone=ROOT_OWN_NETWORK,
        first=_METADATA,
    ),
    Attack(
        "ICMP",
        f"no capabilities; {_FILTER}",
        python("""
for kind in (socket.SOCK_RAW, socket.SOCK_DGRAM):
    try:
        with socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP) as ping:
            ping.sendto(bytes.fromhex("0800f7ff00000000"), (os.environ["ADDRESS"], 0))
    except OSError:
        continue
    worked()
    break
"""),
        alone=ROOT,
    ),
    Attack(
        "listening to the wire",
        f"no capabilities; {_FILTER}",
        python("socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3)\nworked()"),
        alone=ROOT,
    ),
    Attack(
        "UNIX socket by its path",
        "a root of its own",
        python("""
socket.socket(socket.AF_UNIX).connect(os.environ["HOST"] + "/engine.sock")
worked()
"""),
    ),
    Attack(
        "abstract UNIX socket",
        "network namespace, to which these belong",
        python("""
socket.socket(socket.AF_UNIX).connect("\\0" + os.environ["TOKEN"])
worked()
"""),
    ),
    Attack(
        "rare families of sockets",
        f"{_FILTER}: UNIX, IPv4, IPv6 and routing alone",
        python("""
for family in set(range(64)) - {1, 2, 10, 16}:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
        if not isinstance(call(41, 198, family, kind, 0), str):
            worked()
"""),
        alone=ROOT,
    ),
    Attack(
        "kernel module loaded by a rare protocol",
        f"{_FILTER}: TCP and UDP alone",
        python("""
for family in (socket.AF_INET, socket.AF_INET6):
    for kind, protocol in ((1, 262), (1, 132), (2, 136), (3, 255), (2, 1), (3, 115)):
        if not isinstance(call(41, 198, family, kind, protocol), str):
            worked()
"""),
        alone=ROOT,
    ),
    Attack(
        "netlink beyond routing",
        _FILTER,
        python("""
for protocol in range(1, 32):
    if not isinstance(call(41, 198, 16, 3, protocol), str):
        worked()
"""),
    ),
)


@against(*WAYS_OUT)
async def test_box_has_no_way_out_by(
    attack: Attack, box: RemoteBox, unprotected: Unprotected
) -> None:
    assert WORKED in unprotected.attacked(attack)
    command = exports(unprotected.variables) + attack.command
    assert WORKED not in (await box.run(command, timeout=30)).output
