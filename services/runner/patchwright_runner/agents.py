"""Which agent works on a job: the repository's choice, or the operator's, with its limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from patchwright_common.errors import Permanent
from patchwright_runner.agent.claude import ClaudeAgent
from patchwright_runner.agent.claude_code import ClaudeCodeAgent
from patchwright_runner.agent.claude_code_program import IN_BOX, find_program
from patchwright_runner.agent.command import CommandAgent
from patchwright_runner.agent.program import Finished, OpenDoor
from patchwright_runner.agent.protocol import Agent, Budget, Usage
from patchwright_runner.gateway import Gateway, GatewaySettings
from patchwright_runner.repository_config import RepositoryConfig
from patchwright_runner.settings import Kind


@dataclass(frozen=True, slots=True)
class Choice:
    """What the operator decides about agents."""

    kind: Kind
    model: str
    more_models: tuple[str, ...]
    """What a program in the box may ask besides."""
    base_url: str
    budget: Budget
    command: str
    """Of the `command` agent, for the box's shell; empty where there is none."""
    command_programs: Mapping[str, Path]
    """What it needs: paths in the box to files or folders of this machine."""
    program: str
    """Claude Code's, on this machine; empty to look for it."""
    path: str
    """Where to look."""


class Keys(Protocol):
    """All that is asked of the vault here."""

    async def model_key(self, job_id: str) -> SecretStr:
        """The model's, for one job."""
        ...


class OperatorsAgents:
    """Makes agents with keys from the vault."""

    def __init__(self, vault: Keys, choice: Choice) -> None:
        self._vault = vault
        self._choice = choice

    def kind(self, config: RepositoryConfig) -> Kind:
        """See workshop.Agents."""
        return config.agent or self._choice.kind

    def model(self, config: RepositoryConfig) -> str:
        """See workshop.Agents."""
        return config.model or self._choice.model

    def programs(self, config: RepositoryConfig) -> Mapping[str, Path]:
        """See workshop.Agents."""
        kind, choice = self.kind(config), self._choice
        if kind == "claude-code":
            return {IN_BOX: find_program(choice.program, path=choice.path)}
        return _of_command(choice) if kind == "command" else {}

    async def make(self, job_id: str, config: RepositoryConfig, used: Usage) -> Agent:
        """See workshop.Agents."""
        choice, model = self._choice, self.model(config)
        budget = config.budget.within(choice.budget)
        key = await self._vault.model_key(job_id)
        kind = self.kind(config)
        if kind == "claude":
            return ClaudeAgent(
                api_key=key, model=model, base_url=choice.base_url, budget=budget, used=used
            )
        door = self._door(key, model, budget, used)
        if kind == "claude-code":
            return ClaudeCodeAgent(open_door=door, model=model, budget=budget)
        return CommandAgent(open_door=door, command=choice.command, model=model, budget=budget)

    def _door(self, key: SecretStr, model: str, budget: Budget, used: Usage) -> OpenDoor:
        def open_door(*, turns: int, finished: Finished | None = None) -> Gateway:
            settings = GatewaySettings(
                base_url=self._choice.base_url,
                key=key,
                model=model,
                more_models=self._choice.more_models,
                budget=budget,
                used=used,
                turns=turns,
            )
            return Gateway(settings, finished)

        return open_door


def _of_command(choice: Choice) -> Mapping[str, Path]:
    if not choice.command.strip():
        raise Permanent(
            "There is no command for the agent `command` here.",
            advice="Operators: PATCHWRIGHT_AGENT_COMMAND is the command.",
        )
    missing = sorted(str(path) for path in choice.command_programs.values() if not path.exists())
    if missing:
        raise Permanent(
            f"PATCHWRIGHT_AGENT_PROGRAMS names {missing[0]}, which does not exist.",
            advice="Operators: it is a JSON object of paths in the sandbox and paths here.",
        )
    return {place: path.resolve() for place, path in choice.command_programs.items()}
