"""The runner's composition root: the only file here that reads the environment."""

from __future__ import annotations

import logging
import os
import secrets
from contextlib import aclosing

from patchwright_common.app_facts import App, known_app
from patchwright_common.claims import Claims
from patchwright_common.credentials import Vault
from patchwright_common.errors import Permanent
from patchwright_common.flow import RUNNER_JOB_READIED
from patchwright_common.pull import PullLoop
from patchwright_common.service import Service, connected, run
from patchwright_git import scratch
from patchwright_github.address import origin
from patchwright_runner.agent.protocol import Budget
from patchwright_runner.agents import Choice, OperatorsAgents
from patchwright_runner.change import Author
from patchwright_runner.egress import Allowlist, EntryError, HostError, Pattern
from patchwright_runner.environment import EnvironmentCache
from patchwright_runner.images import Images
from patchwright_runner.mirror import Mirror
from patchwright_runner.repository_config import RepositoryConfig
from patchwright_runner.sandbox.pool import Pool
from patchwright_runner.sandbox.protocol import Backend, Limits
from patchwright_runner.settings import RunnerSettings, pick_backend
from patchwright_runner.sweeper import Sweeper
from patchwright_runner.upkeep import Upkeep
from patchwright_runner.ways_out import Permission
from patchwright_runner.work import Runner
from patchwright_runner.workshop import Workshop

log = logging.getLogger(__name__)


def author(settings: RunnerSettings, app: App) -> Author:
    """The App's own account on GitHub, unless the operator names somebody else."""
    bot = f"{app.slug}[bot]"
    return Author(
        settings.author_name or bot, settings.author_email or f"{bot}@users.noreply.github.com"
    )


def choice(settings: RunnerSettings) -> Choice:
    """What the operator decides about agents."""
    return Choice(
        kind=settings.agent,
        model=settings.model,
        more_models=_words(settings.more_models),
        base_url=settings.model_url,
        budget=Budget(
            turns=settings.budget_turns,
            tokens=settings.budget_tokens,
            dollars=settings.budget_dollars,
            seconds=settings.budget_seconds,
        ),
        command=settings.agent_command,
        command_programs=settings.agent_programs,
        program=settings.claude_code,
        path=os.environ.get("PATH", ""),
    )


def permission(settings: RunnerSettings) -> Permission:
    """What the operator allows to leave the box. Raises `Permanent` for what makes no sense."""
    try:
        return Permission(
            setup=Allowlist.parse(_words(settings.egress_setup)),
            agent=Allowlist.parse(_words(settings.egress_agent)),
            private=tuple(Pattern.parse(host) for host in _words(settings.egress_private)),
        )
    except (EntryError, HostError) as error:
        raise Permanent(f"PATCHWRIGHT_EGRESS_… cannot be used: {error}") from None


def _words(listed: str) -> tuple[str, ...]:
    return tuple(listed.replace(",", " ").split())


async def serve() -> None:
    """Run until told to stop."""
    settings = RunnerSettings()
    backend = await pick_backend(settings, os.environ)
    async with connected("runner", settings) as service:
        if boxes := await backend.sweep():
            log.info("removed what an earlier crash left: %d boxes", boxes)
        vault = Vault(service.bus, "runner")
        given = App(settings.app_slug, settings.github_api_url)
        async with known_app(service.bus, vault, given) as app:
            await _work(service, vault, app, backend, settings)


async def _work(
    service: Service, vault: Vault, app: App, backend: Backend, settings: RunnerSettings
) -> None:
    mirrors = settings.data.expanduser() / "mirrors"
    pool = Pool(backend, size=settings.warm_boxes)
    agents = OperatorsAgents(vault, choice(settings))
    # What is missing is said now, and not to the first user.
    agents.programs(RepositoryConfig())
    workshop = Workshop(
        name=f"{settings.runner_id}-{secrets.token_hex(3)}",
        bus=service.bus,
        claims=await Claims.open(service.bus.js),
        vault=vault,
        mirror=Mirror(
            mirrors,
            disk_bytes=int(settings.mirrors_gigabytes * 1e9),
            lean=settings.lean_repositories.replace(" ", "").split(","),
        ),
        backend=pool,
        limits=Limits(),
        environments=EnvironmentCache(
            settings.data.expanduser() / "environments",
            disk_bytes=int(settings.environments_gigabytes * 1e9),
        ),
        agents=agents,
        github=origin(app.api_url),
        author=author(settings, app),
        permission=permission(settings),
        images=Images(github=origin(app.api_url)),
    )
    log.info("jobs run in the %s sandbox with the agent %s", backend.name, settings.agent)
    handle = Runner(workshop).on_readied
    async with (
        aclosing(pool),
        Upkeep(mirrors).beside(),
        scratch.swept(),
        Sweeper(service.bus, workshop.claims).beside(),
    ):
        await service.consume(
            PullLoop(service.bus, RUNNER_JOB_READIED, handle, slots=settings.jobs)
        )


def main() -> None:
    """Entry point of `patchwright-runner`."""
    run(serve)
