"""The runner's composition root: the only file here that reads the environment."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from contextlib import aclosing
from pathlib import Path
from typing import Literal

from pydantic import Field

from patchwright_common.app_facts import App, known_app
from patchwright_common.claims import Claims
from patchwright_common.credentials import Vault
from patchwright_common.errors import Permanent
from patchwright_common.flow import RUNNER_JOB_READIED
from patchwright_common.pull import PullLoop
from patchwright_common.service import Service, ServiceSettings, connected, run
from patchwright_github.address import origin
from patchwright_runner.agent.claude import BASE_URL, DEFAULT_MODEL
from patchwright_runner.agent.protocol import Budget
from patchwright_runner.agents import Choice, Kind, OperatorsAgents
from patchwright_runner.change import Author
from patchwright_runner.egress import Allowlist, EntryError, HostError, Pattern
from patchwright_runner.environment import EnvironmentCache
from patchwright_runner.images import Images
from patchwright_runner.mirror import Mirror
from patchwright_runner.repository_config import RepositoryConfig
from patchwright_runner.sandbox.bubblewrap import BubblewrapBackend
from patchwright_runner.sandbox.choose import NoSandbox, choose
from patchwright_runner.sandbox.docker import DockerBackend, DockerSettings
from patchwright_runner.sandbox.image import DEFAULT_IMAGE
from patchwright_runner.sandbox.pool import Pool
from patchwright_runner.sandbox.protocol import Backend, Limits
from patchwright_runner.sweeper import Sweeper
from patchwright_runner.upkeep import Upkeep
from patchwright_runner.ways_out import Permission
from patchwright_runner.work import Runner
from patchwright_runner.workshop import Workshop

log = logging.getLogger(__name__)


class RunnerSettings(ServiceSettings):
    """Where jobs run, with which model, and where they must stop."""

    runner_id: str = Field(
        default_factory=socket.gethostname,
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="Stays the same across restarts, so that leftovers are found again.",
    )
    data: Path = Field(default=Path("~/.local/share/patchwright"), description="Mirrors live here.")
    sandbox: Literal["auto", "docker", "bubblewrap"] = Field(
        default="auto", description="auto: docker where an engine and the image are there."
    )
    sandbox_image: str = Field(default=DEFAULT_IMAGE, description="The image, for docker.")
    sandbox_runtime: str = Field(default="", description="The engine's runtime, such as runsc.")
    warm_boxes: int = Field(
        default=2, ge=0, description="Boxes that wait, checked out, for the next jobs."
    )
    mirrors_gigabytes: float = Field(
        default=50.0, gt=0, description="What all mirrors may take; the least used go first."
    )
    environments_gigabytes: float = Field(
        default=10.0, gt=0, description="What all kept set-ups may take; the least used go first."
    )
    lean_repositories: str = Field(
        default="",
        description="Huge ones, as owner/name with commas between: no old files are fetched.",
    )
    jobs: int = Field(default=RUNNER_JOB_READIED.concurrency, ge=1, description="At once.")
    agent: Kind = Field(
        default="claude", description="Who works, where the repository does not choose."
    )
    agent_command: str = Field(
        default="", description="For the agent `command`: what the box's shell runs."
    )
    agent_programs: dict[str, Path] = Field(
        default={}, description="What that command needs: paths below /opt to paths here, as JSON."
    )
    claude_code: str = Field(
        default="", description="The Claude Code program; empty: the wheel's, or on PATH."
    )
    model: str = Field(default=DEFAULT_MODEL, description="The model's name.")
    more_models: str = Field(
        default="", description="Models that a program in the box may ask besides, by comma."
    )
    egress_setup: str = Field(
        default="registries", description="Hosts that a repository's set-up may ask for, by comma."
    )
    egress_agent: str = Field(default="", description="The same for the agent's own run.")
    egress_private: str = Field(
        default="", description="Those of them that lie in a private network, by comma."
    )
    github_api_url: str = Field(
        default="",
        description="GitHub's REST API: code comes from there; empty: the App's, from the vault.",
    )
    model_url: str = Field(
        default=BASE_URL, validation_alias="ANTHROPIC_BASE_URL", description="The Messages API."
    )
    budget_turns: int = Field(default=50, ge=1, description="Replies of the model for one job.")
    budget_tokens: int = Field(default=2_000_000, ge=1, description="Tokens for one job.")
    budget_dollars: float = Field(default=5.0, gt=0, description="By list prices, for one job.")
    budget_seconds: float = Field(default=1800.0, gt=0, description="Wall time of the agent.")
    app_slug: str = Field(
        default="", description="The App's name, it writes the commits; empty: from the vault."
    )
    author_name: str = Field(default="", description="Of the commits, instead of `<slug>[bot]`.")
    author_email: str = Field(default="", description="And its address.")


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


async def pick_backend(settings: RunnerSettings) -> Backend:
    """The sandbox that works here. Raises `Permanent` saying what to install."""
    docker = DockerSettings(
        image=settings.sandbox_image,
        runtime=settings.sandbox_runtime or None,
        environment=dict(os.environ),
    )
    backends = (
        DockerBackend(settings.runner_id, docker),
        BubblewrapBackend(settings.runner_id),
    )
    try:
        return await choose(settings.sandbox, backends)
    except NoSandbox as error:
        raise Permanent(str(error)) from None


async def serve() -> None:
    """Run until told to stop."""
    settings = RunnerSettings()
    backend = await pick_backend(settings)
    async with connected("runner", settings) as service:
        removed = await backend.sweep()
        if removed:
            log.info("removed %d boxes that an earlier crash left", removed)
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
        Sweeper(service.bus, workshop.claims).beside(),
    ):
        await service.consume(
            PullLoop(service.bus, RUNNER_JOB_READIED, handle, slots=settings.jobs)
        )


def main() -> None:
    """Entry point of `patchwright-runner`."""
    run(serve)
