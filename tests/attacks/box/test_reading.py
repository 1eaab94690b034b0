"""Attacks that look around: the machine's files, the runner, other jobs, the engine."""

from __future__ import annotations

import asyncio
from pathlib import Path

from harness.boxes import LIMITS
from harness.repositories import Repository
from patchwright_runner.sandbox.protocol import Backend, BoxSpec
from patchwright_runner.sandbox.remote import RemoteBox

from .attack import ROOT, WORKED, Attack, against, exports, named, python
from .unprotected import Unprotected

_OWN_ROOT = "a root of its own: of the machine there are programs and libraries, read-only"

LOOKING = (
    Attack(
        "file of the host",
        _OWN_ROOT,
        python("""
if "canary" + "-" + os.environ["TOKEN"] in open(os.environ["HOST"] + "/secret").read():
    worked()
"""),
    ),
    Attack(
        "file of the host by the root of another process",
        "PID namespace; process 1 is not dumpable",
        python("""
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        text = open(f"/proc/{pid}/root{os.environ['HOST']}/secret").read()
    except OSError:
        continue
    if "canary" + "-" + os.environ["TOKEN"] in text:
        worked()
        break
"""),
    ),
    Attack(
        "password hashes",
        f"user without rights; {_OWN_ROOT}",
        python("open('/etc/shadow').read()\nworked()"),
        alone=ROOT,
    ),
    Attack(
        "environment of the runner",
        "PID namespace: the runner's /proc is not there",
        python("""
wanted = ("SECRET=canary" + "-" + os.environ["TOKEN"]).encode()
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        if wanted in open(f"/proc/{pid}/environ", "rb").read():
            worked()
    except OSError:
        pass
"""),
    ),
    Attack(
        "command lines of the host",
        "PID namespace",
        "cat /proc/$RUNNER/cmdline | grep -qa $SLEEPS && echo the attack 'worked'",
    ),
    Attack(
        "memory and descriptors of the first process",
        "process 1 is not dumpable",
        python("""
for name in ("environ", "maps", "mem", "root/etc/passwd", "fd/0", "cwd/."):
    try:
        os.open(f"/proc/1/{name}", os.O_RDONLY)
    except OSError:
        continue
    worked()
"""),
        alone=ROOT,
    ),
    Attack(
        "descriptors left open",
        "every descriptor of the first process is closed on exec",
        python("""
own = os.open("/proc/self/fd", os.O_RDONLY)
if set(map(int, os.listdir(own))) - {0, 1, 2, own, own + 1}:
    worked()
"""),
        first="exec 9< /etc/passwd\n",
    ),
    Attack(
        "docker socket",
        _OWN_ROOT,
        python("""
for path in (os.environ["HOST"] + "/engine.sock", "/var/run/docker.sock", "/run/docker.sock",
             "/run/containerd/containerd.sock", "/run/podman/podman.sock"):
    try:
        socket.socket(socket.AF_UNIX).connect(path)
    except OSError:
        continue
    worked()
"""),
    ),
    Attack(
        "disk, memory and log of the kernel as devices",
        "a /dev with harmless devices alone; no capabilities",
        python("""
disks = ["/dev/" + line.split()[3] for line in open("/proc/partitions").readlines()[2:]]
for path in ("/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg", "/proc/kcore", *disks):
    try:
        os.open(path, os.O_RDONLY)
    except OSError:
        continue
    worked()
"""),
        alone=ROOT,
    ),
    Attack(
        "control groups of the host",
        "no control group file system, or a read-only one",
        python("""
for line in open("/proc/mounts"):
    point, kind = line.split()[1:3]
    if kind.startswith("cgroup"):
        try:
            os.open(f"{point}/cgroup.procs", os.O_WRONLY)
        except OSError:
            continue
        worked()
        break
"""),
        alone=ROOT,
    ),
)


@against(*LOOKING)
async def test_box_does_not_show(attack: Attack, box: RemoteBox, unprotected: Unprotected) -> None:
    assert WORKED in unprotected.attacked(attack)
    command = exports(unprotected.variables) + attack.command
    assert WORKED not in (await box.run(command, timeout=30)).output


LEAVE = python("""
listener = socket.socket(socket.AF_UNIX)
listener.bind("\\0job-" + os.environ["TOKEN"])
listener.listen()
for place in (".", os.environ["HOME"], os.environ.get("TMPDIR", "."), "/dev/shm"):
    with open(f"{place}/job-" + os.environ["TOKEN"], "w") as file:
        file.write("a secret of this job")
ready = libc.shmget(int(os.environ["TOKEN"][:7], 16), 4096, 0o1666)
print("ready", flush=True)
subprocess.run(["sleep", "job-" + os.environ["TOKEN"], "600"])
signal.pause()
""")
FIND = python("""
found = []
for place in (".", os.environ["HOME"], os.environ.get("TMPDIR", "."), "/dev/shm"):
    if os.path.exists(f"{place}/job-" + os.environ["TOKEN"]):
        found.append(place)
try:
    socket.socket(socket.AF_UNIX).connect("\\0job-" + os.environ["TOKEN"])
    found.append("abstract socket")
except OSError:
    pass
if libc.shmget(int(os.environ["TOKEN"][:7], 16), 4096, 0) >= 0:
    found.append("shared memory")
print(found)
if found:
    worked()
""")


@named("files, sockets and memory of another job", "each box has namespaces and files of its own")
async def test_job_does_not_see_another(backend: Backend, unprotected: Unprotected) -> None:
    variables = exports(unprotected.variables)
    leave = LEAVE.replace("signal.pause()", "")
    assert WORKED in unprotected.run(f"({leave}) & sleep 0.5; {FIND}")
    async with (
        await backend.start(BoxSpec("job-1", limits=LIMITS)) as first,
        await backend.start(BoxSpec("job-2", limits=LIMITS)) as second,
    ):
        left = asyncio.create_task(first.run(variables + LEAVE, timeout=60))
        assert (await second.run(variables + FIND, timeout=30)).output == "[]\n"
        left.cancel()


@named("objects of another repository", "a box sees the objects of its own mirror alone")
async def test_alternates_at_a_foreign_repository_lead_nowhere(
    worktree: RemoteBox, tmp_path: Path, unprotected: Unprotected
) -> None:
    foreign = Repository.create(tmp_path / "foreign")
    base = foreign.commit("private.txt", "a secret of the other repository")
    attack = f"""
        [ -d .git ] || git init --quiet
        echo {foreign.bare}/objects >> .git/objects/info/alternates
        git cat-file -e {base} && echo the attack 'worked'"""
    assert WORKED in unprotected.run(attack)
    assert WORKED not in (await worktree.run(attack, timeout=30)).output


MIRROR = (
    Attack(
        "new file in the mirror",
        "mounted read-only",
        "echo x > $OBJECTS/planted && echo the attack 'worked'",
    ),
    Attack(
        "deleted objects of the mirror",
        "mounted read-only",
        "rm -rf $OBJECTS/?? $OBJECTS/pack && echo the attack 'worked'",
    ),
    Attack(
        "object of the mirror changed by a hard link",
        "another mount: no link crosses to it",
        "object=$(find $OBJECTS -type f | head -n 1); ln $object here && chmod u+w here && "
        "echo x >> here && echo the attack 'worked'",
    ),
    Attack(
        "configuration and hooks of the mirror",
        "of the mirror a box sees the objects alone",
        "cat $OBJECTS/../config $OBJECTS/../HEAD && echo the attack 'worked'",
    ),
)


@against(*MIRROR)
async def test_mirror_is_safe_from(
    attack: Attack, worktree: RemoteBox, unprotected: Unprotected
) -> None:
    copy = Repository.create(unprotected.folder / "copy")
    alone = exports({"OBJECTS": str(copy.bare / "objects")}) + attack.command
    assert WORKED in unprotected.run(alone)
    inside = exports({"OBJECTS": "/mirror/objects"}) + attack.command
    assert WORKED not in (await worktree.run(inside, timeout=30)).output
