"""What the local stack consists of, in which order, and how its parts are told of each other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import nats.errors
import psutil

from patchwright_common import topology
from patchwright_common.requests import OPERATOR
from patchwright_local import relay, state
from patchwright_local.connection import connected
from patchwright_local.demo_app import demo_app
from patchwright_local.identities import Identities
from patchwright_local.nats_nodes import Nodes
from patchwright_local.ports import HOST, Ports
from patchwright_local.private import is_secret, write_private
from patchwright_local.processes import Process, Show, StartError, Supervisor
from patchwright_local.settings import LocalSettings
from patchwright_runner.sandbox.protocol import Backend
from patchwright_runner.settings import RunnerSettings, pick_backend

CLUSTER_TIMEOUT = 30.0
"""Seconds for the servers of a cluster to find each other."""
JAEGER_IMAGE = "jaegertracing/jaeger:2.11.0"
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
_PASSED_PREFIXES = ("DOCKER_", "SSL_", "HTTP", "http", "NO_PROXY", "no_proxy", "ANTHROPIC_BASE")


@dataclass(frozen=True)
class Options:
    """What the command line asks of a stack, besides the settings."""

    demo: bool = False
    """The stand-in, even where an App was set up."""
    setting_up: bool = False
    """For a real GitHub, before its App exists: the services wait for it."""
    jaeger: bool = False
    relay: str = ""
    """A channel's URL from which webhooks are fetched."""


class LocalStack:
    """Builds and starts the processes; `folder` belongs to this stack."""

    def __init__(
        self,
        settings: LocalSettings,
        folder: state.Folder,
        show: Show,
        *,
        environment: dict[str, str],
        options: Options,
    ) -> None:
        self._settings = settings
        self._options = options
        self._folder = folder
        self._environment = environment
        set_up = options.setting_up or (folder.app.exists() and not options.demo)
        self._real_github = set_up or (settings.real_github and not options.demo)
        self._real_model = set_up or settings.real_model
        self._identities = Identities(folder.root / "identities")
        self.supervisor = Supervisor(show, folder.logs)
        self.ports = Ports.of(settings, jaeger=options.jaeger)
        self.nats = Nodes(self.ports.nats, int(settings.nats_nodes))
        missing = settings.missing()
        if missing and self._real_github:
            raise StartError(f"A part of a GitHub App is set, so set too: {', '.join(missing)}")

    @property
    def nats_url(self) -> str:
        """Where NATS listens; several servers by commas."""
        return self.nats.url

    @property
    def trace_url(self) -> str:
        """The tracing UI."""
        return f"http://{HOST}:{self.ports.traces}"

    @property
    def github_url(self) -> str:
        """The stand-in, or empty."""
        return "" if self._real_github else f"http://{HOST}:{self.ports.github}"

    @property
    def webhook_url(self) -> str:
        """What GitHub must reach."""
        return f"http://{HOST}:{self.ports.ingest}/webhooks/github"

    async def start(self) -> state.Stack:
        """Start everything in order and say where it is. Raises `StartError`."""
        sandbox = (await self._backend()).name
        self._identities.make()
        await self.supervisor.start_together(self._nats())
        seed, room = self._identities.seed(OPERATOR), self._settings.store_gigabytes
        await make_topology(self.nats_url, seed, replicas=self.nats.copies, gigabytes=room)
        tracing = self._jaeger() if self._options.jaeger else self._traces()
        await self.supervisor.start_together([tracing, *self._standins()])
        vault = await self._vault()
        await self.supervisor.start(vault)
        await self.supervisor.start_together(self._services(sandbox))
        if self._options.relay:
            relaying = relay.process(self._options.relay, self.webhook_url, self._plain())
            await self.supervisor.start(relaying)
        return self._described(sandbox)

    async def _backend(self) -> Backend:
        return await pick_backend(RunnerSettings(sandbox=self._settings.sandbox), os.environ)

    def _described(self, sandbox: str) -> state.Stack:
        return state.Stack(
            pid=os.getpid(),
            started=psutil.Process().create_time(),
            sandbox=sandbox,
            nats_url=self.nats_url,
            nats_keys=self._folder.root / "identities",
            webhook_url=self.webhook_url,
            github_url=self.github_url,
            model="Claude" if self._real_model else "scripted",
            scripted=not self._real_model,
            trace_url=self.trace_url,
        )

    # --- the processes -----------------------------------------------------------------

    def _nats(self) -> list[Process]:
        # A store for each GitHub: the demo's secrets would replace a real App's in the vault.
        folder = self._folder.sub("nats-real" if self._real_github else "nats")
        return self.nats.processes(folder, self._plain() | self._identities.public())

    def _traces(self) -> Process:
        command = (
            _script("patchwright-traces"),
            *("--host", HOST, "--port", str(self.ports.traces)),
            *("--database", str(self._folder.root / "traces.db")),
        )
        return Process("traces", command, self._plain(), ready="patchwright-traces ready")

    def _jaeger(self) -> Process:
        """The real Jaeger instead, on the same ports, as people know it."""
        name = f"patchwright-jaeger-{self.ports.traces}"
        command = (
            *("docker", "run", "--rm", "--name", name, "--pull", "missing"),
            *("--publish", f"{HOST}:{self.ports.traces}:16686"),
            *("--publish", f"{HOST}:{self.ports.otlp}:4318"),
            JAEGER_IMAGE,
        )
        return Process("jaeger", command, self._plain(), ready="Everything is ready")

    def _standins(self) -> list[Process]:
        found = []
        if not self._real_github:
            github = (
                _script("standin-github"),
                *("--host", HOST, "--port", str(self.ports.github)),
                *("--data", str(self._folder.sub("github"))),
            )
            found.append(Process("github", github, self._plain(), ready="listening on"))
        if not self._real_model:
            model = (
                _script("standin-model"),
                *("--host", HOST, "--port", str(self.ports.model)),
                *("--key-file", str(self._model_key_file())),
                *("--delay", str(self._settings.model_delay)),
            )
            found.append(Process("model", model, self._plain(), ready="standin-model ready"))
        return found

    async def _vault(self) -> Process:
        environment = self._service("vault") | {
            "PATCHWRIGHT_VAULT_KEY_FILE": str(self._folder.vault_key(self._states()))
        }
        own = {name: value for name, value in self._environment.items() if is_secret(name)}
        if not self._real_github:
            own |= await demo_app(self._folder.root, self.github_url, self.webhook_url)
        if not self._real_model:
            own["ANTHROPIC_API_KEY"] = self._model_key_file().read_text().strip()
            own["ANTHROPIC_BASE_URL"] = f"http://{HOST}:{self.ports.model}"
        return Process("vault", (_script("patchwright-vault"),), environment | own, ready=_READY)

    def _services(self, sandbox: str) -> list[Process]:
        runner = self._service("runner") | {
            "PATCHWRIGHT_SANDBOX": sandbox,
            "PATCHWRIGHT_DATA": str(self._folder.sub("runner")),
            "PATCHWRIGHT_RUNNER_ID": f"local-{self.ports.nats}",
        }
        if not self._real_model:
            runner["ANTHROPIC_BASE_URL"] = f"http://{HOST}:{self.ports.model}"
            runner["PATCHWRIGHT_MODEL"] = "a scripted model"
        publisher = self._service("publisher")
        if not self._real_github:
            # On a real GitHub a link to loopback helps nobody: the operator names the address.
            publisher["PATCHWRIGHT_TRACE_URL"] = self.trace_url + "/trace/{trace_id}"
        ingest = self._service("ingest") | {"PATCHWRIGHT_INGEST_PORT": str(self.ports.ingest)}
        environments = {
            "ingest": ingest,
            "triage": self._service("triage"),
            "runner": runner,
            "publisher": publisher,
        }
        # Before there is an App they run and wait; nobody waits for them.
        ready = "" if self._options.setting_up else _READY
        return [
            Process(name, (_script(f"patchwright-{name}"),), environment, ready=ready)
            for name, environment in environments.items()
        ]

    # --- what they are told ------------------------------------------------------------

    def _plain(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in self._environment.items()
            if name in _PASSED_ON or name.startswith(_PASSED_PREFIXES)
        }
        # The parts of the stack reach each other without the proxy that leads outside.
        for name in ("NO_PROXY", "no_proxy"):
            kept[name] = ",".join(filter(None, (kept.get(name), HOST, "localhost")))
        return kept | {"PYTHONUNBUFFERED": "1"}

    def _service(self, identity: str) -> dict[str, str]:
        given = {
            name: value
            for name, value in self._environment.items()
            if name.startswith(("PATCHWRIGHT_", "OTEL_"))
            and not is_secret(name)
            # Whoever knows the channel can listen to it.
            and not name.startswith("PATCHWRIGHT_RELAY")
        }
        endpoint = given.get("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{HOST}:{self.ports.otlp}")
        environment = self._plain() | given
        environment |= {
            "PATCHWRIGHT_NATS_URL": self.nats_url,
            "PATCHWRIGHT_NATS_NKEY_FILE": str(self._identities.seed(identity)),
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        }
        if not self._real_github:
            environment["PATCHWRIGHT_GITHUB_API_URL"] = f"{self.github_url}/api/v3"
        return environment

    def _states(self) -> Path:
        """The user's folder for what programs keep."""
        given = self._environment.get("XDG_STATE_HOME") or "~/.local/state"
        return Path(given).expanduser() / "patchwright"

    def _model_key_file(self) -> Path:
        path = self._folder.root / "model.key"
        if not path.exists():
            write_private(path, f"sk-standin-{secrets.token_urlsafe(24)}")
        return path


_READY = '"text": "ready'


async def make_topology(
    nats_url: str, nkey_file: Path | None, *, replicas: int = 0, gigabytes: float | None = None
) -> list[str]:
    """Make the brokers match `flow.py`; returns a line for each thing.

    A cluster that has just started takes a moment to find its leaders.
    """
    deadline = time.monotonic() + (CLUSTER_TIMEOUT if replicas > 1 else 0)
    while True:
        try:
            async with connected(nats_url, nkey_file, attempts=3) as client:
                js = client.jetstream(timeout=10)
                return await topology.ensure(js, replicas=replicas, gigabytes=gigabytes)
        except (nats.errors.Error, TimeoutError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.5)


@asynccontextmanager
async def up(
    settings: LocalSettings,
    folder: state.Folder,
    show: Show,
    *,
    environment: dict[str, str],
    options: Options,
) -> AsyncIterator[state.Stack]:
    """The running stack; stopped whole at the end, however it comes."""
    other = state.running(folder)
    if other:
        raise StartError(f"The stack runs already (pid {other.pid}): `just down` stops it.")
    folder.make()
    with contextlib.ExitStack() as holding:
        try:
            holding.enter_context(folder.held())
        except BlockingIOError:
            raise StartError(
                "Another stack starts or stops here right now: try again in a moment."
            ) from None
        stack = LocalStack(settings, folder, show, environment=environment, options=options)
        try:
            described = await stack.start()
            state.write(folder, described)
            yield described
        finally:
            await stack.supervisor.stop()
            folder.state.unlink(missing_ok=True)


def _script(name: str) -> str:
    """A program of this environment, wherever the shell's PATH points."""
    return str(Path(sys.executable).parent / name)
