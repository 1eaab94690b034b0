"""What a runner's jobs need besides themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from patchwright_common.bus import Bus
from patchwright_common.claims import Claims
from patchwright_common.credentials import Vault
from patchwright_runner.agent.protocol import Agent, Usage
from patchwright_runner.change import Author
from patchwright_runner.environment import EnvironmentCache
from patchwright_runner.images import Images
from patchwright_runner.mirror import Mirror
from patchwright_runner.repository_config import RepositoryConfig
from patchwright_runner.sandbox.pool import Pool
from patchwright_runner.sandbox.protocol import Limits
from patchwright_runner.ways_out import Permission


class Agents(Protocol):
    """Whoever can work on a job, chosen by the repository or else the operator."""

    def kind(self, config: RepositoryConfig) -> str:
        """Which of them; one can go on where another attempt with the same kind stopped."""
        ...

    def model(self, config: RepositoryConfig) -> str:
        """The model's name, for people."""
        ...

    def programs(self, config: RepositoryConfig) -> Mapping[str, Path]:
        """What the box has to show for it. Raises Permanent when this machine lacks it."""
        ...

    async def make(self, job_id: str, config: RepositoryConfig, used: Usage) -> Agent:
        """For one attempt at a job that has used so much before.

        Its key lives no longer than the agent.
        """
        ...


@dataclass(frozen=True)
class Workshop:
    """A runner's tools and rules."""

    name: str
    bus: Bus
    claims: Claims
    vault: Vault
    mirror: Mirror
    environments: EnvironmentCache
    backend: Pool
    limits: Limits
    agents: Agents
    github: str
    """GitHub's pages and repositories, as `https://github.com`: no token goes anywhere else."""
    author: Author
    permission: Permission = field(default_factory=Permission)
    images: Images = field(default_factory=Images)
