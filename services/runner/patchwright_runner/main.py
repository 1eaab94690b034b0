"""The runner's composition root: the only file here that reads the environment."""

from __future__ import annotations

import logging
import os
import secrets
import socket
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
from patchwright_runner.agent.protocol import Agent, Budget, Usage
from patchwright_runner.agents import AgentPlan, Kind, programs_for
from patchwright_runner.change import Author
from patchwright_runner.mirror import Mirror
from patchwright_runner.sandbox.bubblewrap import BubblewrapBackend
from patchwright_runner.sandbox.choose import NoSandbox, choose
from patchwright_runner.sandbox.docker import DockerBackend, DockerSettings
from patchwright_runner.sandbox.image import DEFAULT_IMAGE
from patchwright_runner.sandbox.protocol import Backend, Limits
from patchwright_runner.sweeper import Sweeper
from patchwright_runner.work import Runner, Workshop

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
    jobs: int = Field(default=RUNNER_JOB_READIED.concurrency, ge=1, description="At once.")
    agent: Kind = Field(default="claude", description="Which agent works on the jobs.")
    claude_code: str = Field(
        default="", description="The Claude Code program's path; empty: the installed one."
    )
    agent_command: str = Field(
        default="", description="For the agent `command`: what the sandbox's shell runs."
    )
    agent_programs: dict[str, Path] = Field(
        default={}, description="What that command needs: paths below /opt to paths here, as JSON."
    )
    model: str = Field(default=DEFAULT_MODEL, description="The model's name.")
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


def plan(settings: RunnerSettings) -> AgentPlan:
    """The agent as the operator wants it. Raises `Permanent` saying what is missing."""
    return AgentPlan(
        kind=settings.agent,
        model=settings.model,
        model_url=settings.model_url,
        budget=Budget(
            turns=settings.budget_turns,
            tokens=settings.budget_tokens,
            dollars=settings.budget_dollars,
            seconds=settings.budget_seconds,
        ),
        command=settings.agent_command,
        programs=programs_for(
            settings.agent,
            claude_code=settings.claude_code,
            command=settings.agent_command,
            given=settings.agent_programs,
            path=os.environ.get("PATH", os.defpath),
        ),
    )


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
    agents = plan(settings)
    backend = await pick_backend(settings)
    async with connected("runner", settings) as service:
        removed = await backend.sweep()
        if removed:
            log.info("removed %d boxes that an earlier crash left", removed)
        vault = Vault(service.bus, "runner")
        given = App(settings.app_slug, settings.github_api_url)
        async with known_app(service.bus, vault, given) as app:
            await _work(service, vault, app, backend, agents=agents, settings=settings)


async def _work(
    service: Service,
    vault: Vault,
    app: App,
    backend: Backend,
    *,
    agents: AgentPlan,
    settings: RunnerSettings,
) -> None:
    async def make_agent(job_id: str, used: Usage) -> Agent:
        return agents.make(await vault.model_key(job_id), used)

    workshop = Workshop(
        name=f"{settings.runner_id}-{secrets.token_hex(3)}",
        bus=service.bus,
        claims=await Claims.open(service.bus.js),
        vault=vault,
        mirror=Mirror(settings.data.expanduser() / "mirrors"),
        backend=backend,
        limits=Limits(),
        programs=agents.programs,
        make_agent=make_agent,
        github=origin(app.api_url),
        model=settings.model,
        author=author(settings, app),
    )
    log.info("jobs run in the %s sandbox with the agent %s", backend.name, agents.kind)
    handle = Runner(workshop).on_readied
    async with Sweeper(service.bus, workshop.claims).beside():
        await service.consume(
            PullLoop(service.bus, RUNNER_JOB_READIED, handle, slots=settings.jobs)
        )


def main() -> None:
    """Entry point of `patchwright-runner`."""
    run(serve)
