"""What an operator can set, and the sandbox that follows from it.

Without the agents and the SDKs that they need: the terminal's commands use this too.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from patchwright_common.errors import Permanent
from patchwright_common.flow import RUNNER_JOB_READIED
from patchwright_common.service import ServiceSettings
from patchwright_runner.sandbox.bubblewrap import BubblewrapBackend
from patchwright_runner.sandbox.choose import NoSandbox, choose
from patchwright_runner.sandbox.docker import DockerBackend, DockerSettings
from patchwright_runner.sandbox.image import DEFAULT_IMAGE
from patchwright_runner.sandbox.protocol import Backend

BASE_URL = "https://api.anthropic.com"
DEFAULT_MODEL = "claude-opus-5-5"
Kind = Literal["claude", "claude-code", "command"]
"""Of agents."""


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


async def pick_backend(settings: RunnerSettings, environment: Mapping[str, str]) -> Backend:
    """The sandbox that works here; `environment` says where Docker is.

    Raises `Permanent` saying what to install.
    """
    docker = DockerSettings(
        image=settings.sandbox_image,
        runtime=settings.sandbox_runtime or None,
        environment=environment,
    )
    backends = (
        DockerBackend(settings.runner_id, docker),
        BubblewrapBackend(settings.runner_id),
    )
    try:
        return await choose(settings.sandbox, backends)
    except NoSandbox as error:
        raise Permanent(str(error)) from None
