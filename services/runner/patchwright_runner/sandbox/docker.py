"""Boxes as containers, through the docker command line.

The engine must see this machine's mirror under the same path: a runner that is itself in a
container mounts it from the same place on the host.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from patchwright_runner.sandbox import boot
from patchwright_runner.sandbox.image import DEFAULT_IMAGE
from patchwright_runner.sandbox.inside.tree import OBJECTS, SCRATCH, SCRATCH_BYTES
from patchwright_runner.sandbox.launch import Launch
from patchwright_runner.sandbox.protocol import (
    AGENT_ID,
    HOME,
    WORKSPACE,
    Availability,
    BoxLost,
    BoxSpec,
)
from patchwright_runner.sandbox.remote import RemoteBox

_PROBE_SECONDS = 5.0
_START_SECONDS = 60.0
_REMOVE_SECONDS = 20.0
_PASSED_ON = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CONTEXT")
_JOB_LABEL = "patchwright.job"
_RUNNER_LABEL = "patchwright.runner"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DockerSettings:
    """How to reach an engine and what to start there."""

    image: str = DEFAULT_IMAGE
    runtime: str | None = None
    """An engine's runtime such as `runsc`; None: its default."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Where the docker program finds its engine: PATH, HOME, DOCKER_HOST and the like."""


class DockerBackend:
    """Containers labelled with the runner that owns them."""

    name = "docker"

    def __init__(self, runner_id: str, settings: DockerSettings | None = None) -> None:
        self._runner_id = runner_id
        self._settings = settings or DockerSettings()
        given = self._settings.environment
        self._environment = {key: given[key] for key in _PASSED_ON if key in given}
        self._environment.setdefault("PATH", boot.PATH)

    async def available(self) -> Availability:
        """Whether an engine answers and has the image."""
        if shutil.which("docker", path=self._environment["PATH"]) is None:
            return Availability(False, "docker is not installed")
        try:
            code, version = await self._docker("version", "--format", "{{.Server.Version}}")
            if code != 0:
                return Availability(False, f"no Docker engine answers: {_last_line(version)}")
            code, _ = await self._docker("image", "inspect", self._settings.image)
        except TimeoutError:
            return Availability(False, f"Docker did not answer within {_PROBE_SECONDS:.0f} s")
        if code != 0:
            reason = f"the image {self._settings.image} is missing: build it with `just image`"
            return Availability(False, reason)
        return Availability(True, f"Docker {version.strip()}, image {self._settings.image}")

    async def identity(self) -> str:
        """The image's own id: a tag may be moved. Raises BoxLost without an engine."""
        image = self._settings.image
        try:
            code, said = await self._docker("image", "inspect", "--format", "{{.Id}}", image)
        except TimeoutError as error:
            raise BoxLost(f"Docker did not answer within {_PROBE_SECONDS:.0f} s") from error
        if code != 0:
            raise BoxLost(f"Docker does not know the image {image}: {_last_line(said)}")
        return f"docker {said.strip()} {self._settings.runtime or ''}".strip()

    async def start(self, spec: BoxSpec) -> RemoteBox:
        """A container in about 0.3 s."""
        name = f"patchwright-{secrets.token_hex(8)}"
        launch = await Launch.start(self._command(name, spec), environment=self._environment)

        async def destroy() -> None:
            if not await launch.end():
                await self._remove(name)

        box = RemoteBox(launch.connection, spec, destroy)
        try:
            await launch.greet(boot.configuration(spec), _START_SECONDS)
        except BaseException:
            await box.close()
            raise
        return box

    async def sweep(self) -> int:
        """Remove containers that carry this runner's label, running or not."""
        label = f"label={_RUNNER_LABEL}={self._runner_id}"
        code, listed = await self._docker("ps", "--all", "--quiet", "--filter", label)
        if code != 0:
            raise BoxLost(f"Docker cannot list containers: {_last_line(listed)}")
        left = listed.split()
        if left:
            await self._remove(*left)
        return len(left)

    async def _remove(self, *names: str) -> None:
        """A failure is logged, not raised: the box's own deadline and the next sweep remain."""
        try:
            code, said = await self._docker("rm", "--force", *names, seconds=_REMOVE_SECONDS)
        except TimeoutError:
            code, said = 1, f"no answer within {_REMOVE_SECONDS:.0f} s"
        if code != 0 and "No such container" not in said:
            log.error("cannot remove containers %s: %s", names, _last_line(said))

    def _command(self, name: str, spec: BoxSpec) -> list[str]:
        settings, limits = self._settings, spec.limits
        runtime = () if settings.runtime is None else ("--runtime", settings.runtime)
        return [
            *("docker", "run", "--interactive", "--rm", "--pull", "never", "--name", name),
            *("--label", f"{_JOB_LABEL}={spec.job_id}"),
            *("--label", f"{_RUNNER_LABEL}={self._runner_id}"),
            *("--log-driver", "none", "--hostname", "patchwright", *runtime),
            *("--network", "none", "--ipc", "private", "--cap-drop", "ALL"),
            *("--security-opt", "no-new-privileges", "--user", f"{AGENT_ID}:{AGENT_ID}"),
            *("--memory", str(limits.memory_bytes), "--memory-swap", str(limits.memory_bytes)),
            *("--pids-limit", str(limits.processes), "--cpus", str(limits.cpus)),
            *("--ulimit", "core=0", "--ulimit", f"nofile={limits.open_files}"),
            *("--shm-size", "64m", "--workdir", WORKSPACE),
            *_file_systems(spec),
            *("--entrypoint", "python3", settings.image, *boot.ARGUMENTS),
        ]

    async def _docker(self, *arguments: str, seconds: float = _PROBE_SECONDS) -> tuple[int, str]:
        """Exit code and output of a docker command; raises TimeoutError."""
        process = await asyncio.create_subprocess_exec(
            "docker",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._environment,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), seconds)
        except BaseException:
            process.kill()
            await process.wait()
            raise
        return process.returncode or 0, output.decode(errors="replace")


def _file_systems(spec: BoxSpec) -> list[str]:
    """A read-only root with bounded memory file systems where something may be written."""
    limits = spec.limits
    owned = f"uid={AGENT_ID},gid={AGENT_ID},nosuid,nodev"
    scratch = f"{owned},exec,size={limits.scratch_bytes}"
    flags = [
        *("--read-only", "--tmpfs", f"/tmp:{scratch},mode=1777"),  # noqa: S108 - the box's own
        *("--tmpfs", f"{HOME}:{scratch},mode=0755"),
        *("--tmpfs", f"{SCRATCH}:{owned},noexec,mode=0700,size={SCRATCH_BYTES}"),
        *("--tmpfs", f"{WORKSPACE}:{owned},exec,mode=0755,size={limits.workspace_bytes}"),
    ]
    if spec.mirror is not None:
        flags += _bind(spec.mirror / "objects", OBJECTS)
    for target, program in spec.programs.items():
        flags += _bind(program, target)
    return flags


def _bind(source: Path, target: str) -> list[str]:
    """A line of CSV, in which a comma in a path must not begin another option."""
    quoted = str(source).replace('"', '""')
    return ["--mount", f'type=bind,"source={quoted}",target={target},readonly']


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]
