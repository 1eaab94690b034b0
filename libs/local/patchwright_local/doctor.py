"""Says what this machine can do for Patchwright, without printing a secret."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from patchwright_common import flow
from patchwright_common.bus import AWAY
from patchwright_common.errors import Retry
from patchwright_common.storage import ALARM, fill
from patchwright_local import state
from patchwright_local.connection import connected
from patchwright_local.settings import LocalSettings
from patchwright_runner.sandbox.bubblewrap import BubblewrapBackend
from patchwright_runner.sandbox.docker import DockerBackend, DockerSettings
from patchwright_runner.sandbox.protocol import Availability


@dataclass(frozen=True)
class Finding:
    """`ok` None: neither good nor bad, only good to know."""

    name: str
    ok: bool | None
    detail: str


async def examine(settings: LocalSettings) -> list[Finding]:
    """Everything worth knowing, sandboxes first tried for real."""
    docker = await DockerBackend("doctor", DockerSettings(environment=dict(os.environ))).available()
    bubblewrap = await BubblewrapBackend("doctor").available()
    return [
        _python(),
        _program("git", "--version"),
        _sandbox("docker", docker),
        _sandbox("bubblewrap", bubblewrap),
        Finding(
            "a sandbox",
            docker.ok or bubblewrap.ok,
            "jobs can run" if docker.ok or bubblewrap.ok else "apt-get install bubblewrap",
        ),
        _cgroups(),
        _user_namespaces(),
        *_keys(settings),
        _disk(settings),
        *await _streams(settings),
        *(Finding(name, False, "is missing beside the App's id") for name in settings.missing()),
    ]


def _keys(settings: LocalSettings) -> list[Finding]:
    """Set-up leaves the keys with the vault; without it the environment may bring them."""
    if state.Folder(settings.home.absolute()).app.exists():
        return [
            Finding("GitHub App", True, "was set up: `just secrets list` shows the vault's keys")
        ]
    return [
        _set(
            "model key",
            settings.real_model,
            "ANTHROPIC_API_KEY",
            "the demo's model is scripted; `just secrets list` shows what a vault holds",
        ),
        _set(
            "GitHub App",
            settings.real_github,
            "PATCHWRIGHT_GITHUB_APP_ID",
            "the GitHub stand-in is used; `just setup` makes one",
        ),
    ]


def _disk(settings: LocalSettings) -> Finding:
    """Whether there is room for all that NATS may store here; the services look after the rest."""
    folder = settings.home.absolute()
    while not folder.exists():
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    share = usage.used / (usage.used + usage.free)
    wanted = (settings.store_gigabytes or flow.STORE_BYTES / 1e9) * 1e9
    said = f"{usage.free / 1e9:.1f} GB are free, NATS may take {wanted / 1e9:.1f} GB"
    if share >= ALARM and usage.free < wanted:
        return Finding("disk", False, f"{share:.0%} full: {said}. Make room.")
    short = usage.free < wanted
    advice = ": PATCHWRIGHT_STORE_GIGABYTES makes it less" if short else ""
    return Finding("disk", None if short else True, said + advice)


async def _streams(settings: LocalSettings) -> list[Finding]:
    """How full the running stack's streams are; nothing where none runs."""
    stack = state.running(state.Folder(settings.home.absolute()))
    if stack is None:
        return []
    names = [stream.name for stream in flow.STREAMS] + [bucket.stream for bucket in flow.BUCKETS]
    try:
        async with connected(stack.nats_url, stack.nkey()) as client:
            js = client.jetstream(timeout=5)
            fills = [await fill(js, name) for name in names]
    except (Retry, *AWAY) as error:
        return [Finding("streams", False, f"NATS does not say how full they are: {error}")]
    full = [found for found in fills if found.alarming]
    if full:
        return [Finding("streams", False, f"{found}: see README") for found in full]
    fullest = max(fills, key=lambda found: found.share)
    return [Finding("streams", True, f"there is room; the fullest: {fullest}")]


def _python() -> Finding:
    version = sys.version.split()[0]
    return Finding("Python", sys.version_info >= (3, 11), f"{version}, 3.11 or later is needed")


def _program(name: str, *arguments: str) -> Finding:
    if shutil.which(name) is None:
        return Finding(name, False, f"apt-get install {name}")
    said = subprocess.run(
        (name, *arguments), capture_output=True, text=True, timeout=10, check=False
    )
    return Finding(name, said.returncode == 0, said.stdout.strip())


def _sandbox(name: str, found: Availability) -> Finding:
    return Finding(name, found.ok or None, found.detail)


def _cgroups() -> Finding:
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        version, place = "v2", root
    elif (root / "memory").exists():
        version, place = "v1", root / "memory"
    else:
        return Finding("control groups", None, "none: bubblewrap limits each process only")
    writable = "writable" if os.access(place, os.W_OK) else "not writable: limits per process only"
    return Finding("control groups", None, f"{version}, {writable}")


def _user_namespaces() -> Finding:
    said = subprocess.run(
        ("unshare", "--user", "true"), capture_output=True, timeout=10, check=False
    )
    works = "work" if said.returncode == 0 else "do not work: bubblewrap then needs root"
    return Finding("user namespaces", None, works)


def _set(name: str, there: bool, variable: str, otherwise: str) -> Finding:
    return Finding(name, None, "set" if there else f"{variable} is not set: {otherwise}")
