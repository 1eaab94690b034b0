"""Composition roots of ingest and triage: the only file here that reads the environment."""

from __future__ import annotations

import asyncio
import logging
import socket

import uvicorn
from pydantic import Field

from patchwright_common import flow
from patchwright_common.app_facts import App, known_app
from patchwright_common.beside import cancel_until_done
from patchwright_common.claims import Claims
from patchwright_common.credentials import Vault
from patchwright_common.listening import Server, bound
from patchwright_common.pull import PullLoop
from patchwright_common.service import Service, ServiceSettings, connected, run, until_stopped
from patchwright_common.storage import RoomForJobs
from patchwright_github.session import client
from patchwright_ingest.admission import Limits
from patchwright_ingest.app import Ingest
from patchwright_ingest.fairness import Fairness
from patchwright_ingest.mention import Mention
from patchwright_ingest.rates import Rate
from patchwright_ingest.recovery import INTERVAL, Recovery
from patchwright_ingest.repositories import GitHubRepositories
from patchwright_ingest.stopping import Stopping, Stops
from patchwright_ingest.triage import Triage
from patchwright_ingest.trigger import LABEL
from patchwright_ingest.turns import Shares
from patchwright_ingest.webhook_secrets import WebhookSecrets

log = logging.getLogger(__name__)

WHERE = "PATCHWRIGHT_INGEST_HOST and PATCHWRIGHT_INGEST_PORT say where."


class IngestSettings(ServiceSettings):
    """Where the webhook listens, and how much it lets in at once."""

    ingest_host: str = Field(default="127.0.0.1", description="Address to listen on.")
    ingest_port: int = Field(default=8080, description="Port to listen on.")
    recovery_interval: float = Field(
        default=INTERVAL,
        ge=0,
        allow_inf_nan=False,
        description="Seconds between two looks for deliveries that never arrived; 0: never.",
    )
    trusted_proxies: str = Field(
        default="127.0.0.1,::1",
        description="Whose X-Forwarded-For is believed: addresses and networks, by commas.",
    )
    unsigned_per_second: float = Field(
        default=10, ge=0, description="Requests of one address without a valid signature; 0: any."
    )
    unsigned_burst: float = Field(default=100, ge=1, description="As many of them at once.")
    installation_per_second: float = Field(
        default=50, ge=0, description="Signed deliveries of one installation; 0: any number."
    )
    installation_burst: float = Field(default=2000, ge=1, description="As many of them at once.")
    body_megabytes: float = Field(
        default=134, ge=27, description="Large bodies in memory at once (MB); the largest has 26."
    )
    deliveries_at_once: int = Field(default=500, ge=1, description="Requests in work at once.")

    @property
    def limits(self) -> Limits:
        """What the endpoint is told."""
        return Limits(
            unsigned=Rate(self.unsigned_per_second, self.unsigned_burst),
            installation=Rate(self.installation_per_second, self.installation_burst),
            body_bytes=int(self.body_megabytes * 1e6),
            requests=self.deliveries_at_once,
        )


class TriageSettings(ServiceSettings):
    """How the App is addressed."""

    github_api_url: str = Field(
        default="", description="GitHub's REST API; empty: the App's, from the vault."
    )
    app_slug: str = Field(
        default="", description="The App's name, as people mention it; empty: from the vault."
    )
    label: str = Field(
        default=LABEL, min_length=1, description="The label that makes an issue a request."
    )
    jobs_per_repository: int = Field(
        default=2, ge=1, description="Jobs of one repository that are ready or run at once."
    )
    jobs_per_installation: int = Field(
        default=8, ge=1, description="Jobs of one installation that are ready or run at once."
    )
    requests_per_sender: int = Field(
        default=20, ge=0, description="Requests of one person within an hour; 0: any number."
    )

    @property
    def shares(self) -> Shares:
        """What everybody may take up."""
        return Shares(
            self.jobs_per_repository, self.jobs_per_installation, self.requests_per_sender
        )


async def serve_ingest() -> None:
    """Run the webhook's endpoint until told to stop."""
    settings = IngestSettings()
    with bound(settings.ingest_host, settings.ingest_port, advice=WHERE) as listener:
        async with connected("ingest", settings) as service:
            await _serve(service, listener, settings)


async def _serve(service: Service, listener: socket.socket, settings: IngestSettings) -> None:
    vault = Vault(service.bus, "ingest")
    secrets = WebhookSecrets(vault)
    recovery = Recovery(service.bus.js, vault, interval=settings.recovery_interval)
    endpoint = Ingest(
        service.bus, secrets, limits=settings.limits, alarms=lambda: service.gauge.alarms
    )
    config = uvicorn.Config(
        endpoint.app(),
        proxy_headers=True,
        forwarded_allow_ips=settings.trusted_proxies,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=10,
    )
    server = Server(config)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve([listener]))
        keeping = tasks.create_task(secrets.keep(service.bus))
        announcing = tasks.create_task(_announce(server, listener, secrets))
        recovering = tasks.create_task(_recover(recovery, server, secrets, settings))
        await until_stopped()
        server.should_exit = True
        await cancel_until_done(recovering, keeping, announcing)


async def _announce(server: Server, listener: socket.socket, secrets: WebhookSecrets) -> None:
    await server.listening.wait()
    log.info("listening on %s port %s", *listener.getsockname()[:2])
    await secrets.learnt()
    log.info("ready")


async def _recover(
    recovery: Recovery, server: Server, secrets: WebhookSecrets, settings: IngestSettings
) -> None:
    """From when on a redelivery could be taken in."""
    if settings.recovery_interval:
        await server.listening.wait()
        await secrets.learnt()
        await recovery.run(lambda: server.should_exit)


async def serve_triage() -> None:
    """Run triage's consumers until told to stop."""
    settings = TriageSettings()
    given = App(settings.app_slug, settings.github_api_url)
    async with connected("triage", settings) as service:
        vault = Vault(service.bus, "triage")
        async with known_app(service.bus, vault, given) as app, client(app.api_url) as github:
            repositories = GitHubRepositories(github, vault, app.api_url)
            await _decide(service, repositories, app, settings)


async def _decide(
    service: Service, repositories: GitHubRepositories, app: App, settings: TriageSettings
) -> None:
    claims = await Claims.open(service.bus.js)
    fairness = Fairness(service.bus, claims, settings.shares)
    mention = Mention(app.slug)
    handlers = Triage(
        service.bus,
        claims,
        repositories,
        mention,
        settings.label,
        room=RoomForJobs(service.bus.js, flow.JOB_STORES),
        fairness=fairness,
    )
    stopping = Stopping(service.bus, Stops(service.bus, claims), repositories, mention)
    async with fairness.swept():
        await service.consume(
            PullLoop(service.bus, flow.TRIAGE_DELIVERY_RECEIVED, handlers.on_delivery),
            PullLoop(service.bus, flow.TRIAGE_STOP_RECEIVED, stopping.on_delivery),
            PullLoop(service.bus, flow.TRIAGE_JOB_REQUESTED, handlers.on_requested),
            PullLoop(service.bus, flow.TRIAGE_JOB_FINISHED, handlers.on_finished),
        )


def ingest() -> None:
    """Entry point of `patchwright-ingest`."""
    run(serve_ingest)


def triage() -> None:
    """Entry point of `patchwright-triage`."""
    run(serve_triage)
