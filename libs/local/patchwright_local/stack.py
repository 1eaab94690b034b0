"""What the local stack consists of, in which order, and how its parts are told of each other."""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from patchwright_common import topology
from patchwright_local import state
from patchwright_local.connection import connected
from patchwright_local.processes import Process, Show, StartError, Supervisor
from patchwright_local.settings import LocalSettings
from patchwright_runner.main import RunnerSettings, pick_backend
from patchwright_runner.sandbox.protocol import Backend
from standin_github.client import StandinGitHub

HOST = "127.0.0.1"
UNASSIGNED = range(20_000, 32_000)
"""Free ports are taken from below those that the kernel gives to outgoing connections."""
APP_NAME = "Patchwright"
OWNER = "doorbell-labs"
REPOSITORY = f"{OWNER}/doorbell"
PERSON = "ada"
LABEL = "patchwright"
JAEGER_IMAGE = "jaegertracing/jaeger:2.11.0"
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
_PASSED_PREFIXES = ("DOCKER_", "SSL_", "HTTP", "http", "NO_PROXY", "no_proxy", "ANTHROPIC_BASE")


@dataclass(frozen=True)
class Ports:
    """Where everything listens on loopback."""

    nats: int
    ingest: int
    github: int
    model: int
    traces: int
    otlp: int
    """Where spans go: the tracing UI's own port, unless that is Jaeger."""

    @classmethod
    def of(cls, settings: LocalSettings, *, jaeger: bool) -> Ports:
        """The wanted ports, checked to be free. Raises `StartError` naming what to set."""
        wanted = {
            "nats": settings.nats_port,
            "ingest": settings.ingest_port,
            "github": settings.github_port,
            "model": settings.model_port,
            "traces": settings.traces_port,
        }
        if jaeger:
            wanted["otlp"] = settings.otlp_port
        with contextlib.ExitStack() as held:
            # Held together, or two of them could be given the same free port.
            free = {
                name: _bound(held.enter_context(socket.socket()), name, port)
                for name, port in wanted.items()
            }
        return cls(**{"otlp": free["traces"], **free})


def _bound(probe: socket.socket, name: str, port: int) -> int:
    """Bind to `port`, or to any free one for 0, and return which it was."""
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for candidate in [port] if port else random.sample(UNASSIGNED, k=50):
        try:
            probe.bind((HOST, candidate))
            probe.listen()
        except OSError:
            continue
        return candidate
    variable = f"PATCHWRIGHT_{name.upper()}_PORT"
    raise StartError(
        f"Port {port} ({name}) is taken: stop what listens there, or choose another with "
        f"{variable}=…, where 0 takes a free one."
    )


class LocalStack:
    """Builds and starts the processes; `files` is the folder that belongs to this stack."""

    def __init__(
        self,
        settings: LocalSettings,
        folder: state.Folder,
        show: Show,
        *,
        environment: dict[str, str],
        jaeger: bool = False,
    ) -> None:
        self._settings = settings
        self._with_jaeger = jaeger
        self._folder = folder
        self._environment = environment
        self.supervisor = Supervisor(show, folder.logs)
        self.ports = Ports.of(settings, jaeger=jaeger)
        missing = settings.missing()
        if missing:
            raise StartError(f"A part of a GitHub App is set, so set too: {', '.join(missing)}")

    @property
    def nats_url(self) -> str:
        """Where NATS listens."""
        return f"nats://{HOST}:{self.ports.nats}"

    @property
    def trace_url(self) -> str:
        """The tracing UI."""
        return f"http://{HOST}:{self.ports.traces}"

    @property
    def github_url(self) -> str:
        """The stand-in, or empty."""
        return "" if self._settings.real_github else f"http://{HOST}:{self.ports.github}"

    @property
    def webhook_url(self) -> str:
        """What GitHub must reach."""
        return f"http://{HOST}:{self.ports.ingest}/webhooks/github"

    async def start(self) -> state.Stack:
        """Start everything in order and say where it is. Raises `StartError`."""
        sandbox = (await self._backend()).name
        await self.supervisor.start(self._nats())
        await make_topology(self.nats_url)
        tracing = self._jaeger() if self._with_jaeger else self._traces()
        await self.supervisor.start_together([tracing, *self._standins()])
        vault = await self._vault()
        await self.supervisor.start(vault)
        await self.supervisor.start_together(self._services(sandbox))
        return self._described(sandbox)

    async def _backend(self) -> Backend:
        return await pick_backend(RunnerSettings(sandbox=self._settings.sandbox))

    def _described(self, sandbox: str) -> state.Stack:
        return state.Stack(
            pid=os.getpid(),
            started=psutil.Process().create_time(),
            sandbox=sandbox,
            nats_url=self.nats_url,
            webhook_url=self.webhook_url,
            github_url=self.github_url,
            model="Claude" if self._settings.real_model else "scripted",
            scripted=not self._settings.real_model,
            trace_url=self.trace_url,
        )

    # --- the processes -----------------------------------------------------------------

    def _nats(self) -> Process:
        # A store for each GitHub: the demo's secrets would replace a real App's in the vault.
        folder = self._folder.sub("nats-real" if self._settings.real_github else "nats")
        command = (
            _script("nats-server"),
            *("--addr", HOST, "--port", str(self.ports.nats)),
            *("--jetstream", "--store_dir", str(folder)),
        )
        return Process("nats", command, self._plain(), ready="Server is ready")

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
        if not self._settings.real_github:
            github = (
                _script("standin-github"),
                *("--host", HOST, "--port", str(self.ports.github)),
                *("--data", str(self._folder.sub("github"))),
            )
            found.append(Process("github", github, self._plain(), ready="listening on"))
        if not self._settings.real_model:
            model = (
                _script("standin-model"),
                *("--host", HOST, "--port", str(self.ports.model)),
                *("--key-file", str(self._model_key_file())),
                *("--delay", str(self._settings.model_delay)),
            )
            found.append(Process("model", model, self._plain(), ready="standin-model ready"))
        return found

    async def _vault(self) -> Process:
        environment = self._service() | {
            "PATCHWRIGHT_VAULT_KEY_FILE": str(self._folder.root / "vault.key")
        }
        own = {name: value for name, value in self._environment.items() if _is_secret(name)}
        if not self._settings.real_github:
            own |= await self._demo_app()
        if not self._settings.real_model:
            own["ANTHROPIC_API_KEY"] = self._model_key_file().read_text().strip()
        return Process("vault", (_script("patchwright-vault"),), environment | own, ready=_READY)

    def _services(self, sandbox: str) -> list[Process]:
        common = self._service()
        runner = common | {
            "PATCHWRIGHT_SANDBOX": sandbox,
            "PATCHWRIGHT_DATA": str(self._folder.sub("runner")),
            "PATCHWRIGHT_RUNNER_ID": f"local-{self.ports.nats}",
        }
        if not self._settings.real_model:
            runner["ANTHROPIC_BASE_URL"] = f"http://{HOST}:{self.ports.model}"
            runner["PATCHWRIGHT_MODEL"] = "a scripted model"
        publisher = dict(common)
        if not self._settings.real_github:
            # On a real GitHub a link to loopback helps nobody: the operator names the address.
            publisher["PATCHWRIGHT_TRACE_URL"] = self.trace_url + "/trace/{trace_id}"
        ingest = common | {"PATCHWRIGHT_INGEST_PORT": str(self.ports.ingest)}
        environments = {
            "ingest": ingest,
            "triage": common,
            "runner": runner,
            "publisher": publisher,
        }
        return [
            Process(name, (_script(f"patchwright-{name}"),), environment, ready=_READY)
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

    def _service(self) -> dict[str, str]:
        given = {
            name: value
            for name, value in self._environment.items()
            if name.startswith(("PATCHWRIGHT_", "OTEL_")) and not _is_secret(name)
        }
        endpoint = given.get("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{HOST}:{self.ports.otlp}")
        environment = self._plain() | given
        environment |= {
            "PATCHWRIGHT_NATS_URL": self.nats_url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        }
        if not self._settings.real_github:
            environment["PATCHWRIGHT_GITHUB_API_URL"] = f"{self.github_url}/api/v3"
        return environment

    def _model_key_file(self) -> Path:
        path = self._folder.root / "model.key"
        if not path.exists():
            _write_private(path, f"sk-standin-{secrets.token_urlsafe(24)}")
        return path

    async def _demo_app(self) -> dict[str, str]:
        """The demo's App, its repository and its person on the stand-in, made once."""
        path = self._folder.root / "demo.json"
        if not path.exists():
            try:
                made = await make_demo(self.github_url, self.webhook_url)
            except httpx.HTTPStatusError as refused:
                raise StartError(
                    "The demo's world is half made, because an earlier start was cut off: delete "
                    f"{self._folder.root / 'github'} and start again. ({refused})"
                ) from None
            _write_private(path, json.dumps(made))
        made = json.loads(path.read_text())
        async with StandinGitHub(self.github_url) as github:
            # The port may be another one than when the App was made.
            await github.change_app(int(made["app_id"]), webhook_url=self.webhook_url)
        return {
            "PATCHWRIGHT_GITHUB_APP_ID": made["app_id"],
            "PATCHWRIGHT_GITHUB_PRIVATE_KEY": made["private_key"],
            "PATCHWRIGHT_WEBHOOK_SECRET": made["webhook_secret"],
        }


_READY = '"text": "ready'


async def make_topology(nats_url: str, *, replicas: int = 1) -> list[str]:
    """Make the brokers match `flow.py`; returns a line for each thing."""
    async with connected(nats_url, attempts=3) as client:
        return await topology.ensure(client.jetstream(timeout=10), replicas=replicas)


async def make_demo(github_url: str, webhook_url: str) -> dict[str, str]:
    """An App, a repository that it is installed on, and a person who may ask."""
    files = {
        path.name: path.read_text()
        for path in sorted((Path(__file__).parent / "demo_repository").iterdir())
        if path.is_file()
    }
    async with StandinGitHub(github_url) as github:
        app = await github.create_app(APP_NAME, webhook_url=webhook_url)
        person = await github.create_user(PERSON)
        await github.create_repository(REPOSITORY, files, collaborators={PERSON: "write"})
        await github.install(app.id, [REPOSITORY])
    return {
        "app_id": str(app.id),
        "private_key": app.private_key,
        "webhook_secret": app.webhook_secret,
        "person_token": person.token,
    }


@asynccontextmanager
async def up(
    settings: LocalSettings,
    folder: state.Folder,
    show: Show,
    *,
    environment: dict[str, str],
    jaeger: bool = False,
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
        stack = LocalStack(settings, folder, show, environment=environment, jaeger=jaeger)
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


def _is_secret(name: str) -> bool:
    return name in (
        "ANTHROPIC_API_KEY",
        "PATCHWRIGHT_GITHUB_APP_ID",
        "PATCHWRIGHT_GITHUB_PRIVATE_KEY",
        "PATCHWRIGHT_GITHUB_PRIVATE_KEY_FILE",
        "PATCHWRIGHT_WEBHOOK_SECRET",
        "PATCHWRIGHT_VAULT_KEY_FILE",
    )


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
