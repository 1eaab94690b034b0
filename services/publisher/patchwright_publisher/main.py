"""The publisher's composition root: the only file here that reads the environment."""

from __future__ import annotations

import logging

from pydantic import Field, SecretStr

from patchwright_common import flow
from patchwright_common.app_facts import App, known_app
from patchwright_common.claims import Claims
from patchwright_common.credentials import Vault
from patchwright_common.events import JobRequested
from patchwright_common.pull import PullLoop
from patchwright_common.service import Service, ServiceSettings, connected, run
from patchwright_git import scratch
from patchwright_github.address import origin
from patchwright_github.session import Session, client
from patchwright_publisher.github import OpenSession
from patchwright_publisher.handlers import Handlers
from patchwright_publisher.pull_request import Texts, Voice
from patchwright_publisher.results import Results, token_request

log = logging.getLogger(__name__)


class PublisherSettings(ServiceSettings):
    """How the App shows itself on GitHub."""

    github_api_url: str = Field(
        default="", description="GitHub's REST API; empty: the App's, from the vault."
    )
    app_slug: str = Field(
        default="", description="The App's name in URLs and mentions; empty: from the vault."
    )
    label: str = Field(default="patchwright", description="The label that makes a request.")
    trace_url: str = Field(
        default="", description="Link to a trace, with {trace_id} in it; empty: the id alone."
    )
    progress_interval: float = Field(
        default=5.0, ge=0, description="Seconds between two edits of a progress comment."
    )


async def serve() -> None:
    """Run until told to stop."""
    settings = PublisherSettings()
    given = App(settings.app_slug, settings.github_api_url)
    async with connected("publisher", settings) as service:
        vault = Vault(service.bus, "publisher")
        async with known_app(service.bus, vault, given) as app, client(app.api_url) as github:

            async def open_session(job: JobRequested) -> Session:
                async def renew(refused: SecretStr) -> SecretStr:
                    return await vault.token(token_request(job), refused=refused)

                return Session(github, await vault.token(token_request(job)), renew)

            await _publish(service, vault, app, settings, open_session)


async def _publish(
    service: Service,
    vault: Vault,
    app: App,
    settings: PublisherSettings,
    open_session: OpenSession,
) -> None:
    claims = await Claims.open(service.bus.js)
    texts = Texts(Voice(app.slug, settings.label, settings.trace_url))
    results = Results(
        service.bus,
        claims,
        vault,
        texts,
        open_session=open_session,
        bot=f"{app.slug}[bot]",
        github=origin(app.api_url),
    )
    handlers = Handlers(
        service.bus, claims, results, texts, progress_interval=settings.progress_interval
    )
    async with scratch.swept():
        await service.consume(
            PullLoop(service.bus, flow.PUBLISHER_JOB_REQUESTED, handlers.on_requested),
            PullLoop(service.bus, flow.PUBLISHER_JOB_STARTED, handlers.on_started),
            PullLoop(service.bus, flow.PUBLISHER_JOB_PROGRESSED, handlers.on_progressed),
            PullLoop(service.bus, flow.PUBLISHER_CHANGE_PRODUCED, handlers.on_change),
            PullLoop(service.bus, flow.PUBLISHER_ANSWER_PRODUCED, handlers.on_answer),
            PullLoop(service.bus, flow.PUBLISHER_JOB_FAILED, handlers.on_failed),
            PullLoop(service.bus, flow.PUBLISHER_JOB_CANCELLED, handlers.on_cancelled),
        )


def main() -> None:
    """Entry point of `patchwright-publisher`."""
    run(serve)
