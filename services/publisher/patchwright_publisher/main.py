"""The publisher's composition root: the only file here that reads the environment."""

from __future__ import annotations

import logging

from pydantic import Field

from patchwright_common import flow
from patchwright_common.claims import Claims
from patchwright_common.credentials import Vault
from patchwright_common.events import JobRequested
from patchwright_common.pull import PullLoop
from patchwright_common.service import ServiceSettings, connected, run
from patchwright_github.address import origin
from patchwright_github.session import Session, client
from patchwright_publisher.handlers import Handlers
from patchwright_publisher.pull_request import Texts, Voice
from patchwright_publisher.results import Results, token_request

log = logging.getLogger(__name__)


class PublisherSettings(ServiceSettings):
    """How the App shows itself on GitHub."""

    github_api_url: str = Field(default="https://api.github.com", description="GitHub's REST API.")
    app_slug: str = Field(default="patchwright", description="The App's name in URLs and mentions.")
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
    async with (
        connected("publisher", settings) as service,
        client(settings.github_api_url) as github,
    ):
        vault = Vault(service.bus, "publisher")

        async def open_session(job: JobRequested) -> Session:
            return Session(github, await vault.token(token_request(job)))

        claims = await Claims.open(service.bus.js)
        texts = Texts(Voice(settings.app_slug, settings.label, settings.trace_url))
        results = Results(
            service.bus,
            claims,
            vault,
            texts,
            open_session=open_session,
            bot=f"{settings.app_slug}[bot]",
            github=origin(settings.github_api_url),
        )
        handlers = Handlers(
            service.bus, claims, results, texts, progress_interval=settings.progress_interval
        )
        await service.consume(
            PullLoop(service.bus, flow.PUBLISHER_JOB_REQUESTED, handlers.on_requested),
            PullLoop(service.bus, flow.PUBLISHER_JOB_STARTED, handlers.on_started),
            PullLoop(service.bus, flow.PUBLISHER_JOB_PROGRESSED, handlers.on_progressed),
            PullLoop(service.bus, flow.PUBLISHER_CHANGE_PRODUCED, handlers.on_change),
            PullLoop(service.bus, flow.PUBLISHER_ANSWER_PRODUCED, handlers.on_answer),
            PullLoop(service.bus, flow.PUBLISHER_JOB_FAILED, handlers.on_failed),
        )


def main() -> None:
    """Entry point of `patchwright-publisher`."""
    run(serve)
