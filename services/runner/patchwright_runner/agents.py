"""Which agent works on the jobs: chosen by the operator, made anew for each job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from patchwright_common.errors import Permanent
from patchwright_runner.agent.claude import ClaudeAgent
from patchwright_runner.agent.claude_code import ClaudeCodeAgent
from patchwright_runner.agent.claude_code_program import IN_BOX, find_program
from patchwright_runner.agent.command import CommandAgent
from patchwright_runner.agent.program import Finished, ModelDoor
from patchwright_runner.agent.protocol import Agent, Budget, Usage
from patchwright_runner.gateway import Gateway, GatewaySettings

Kind = Literal["claude", "claude-code", "command"]


@dataclass(frozen=True)
class AgentPlan:
    """How to make an agent; all jobs of a runner have the same."""

    kind: Kind
    model: str
    model_url: str
    budget: Budget
    command: str = ""
    """For `command`: what the sandbox's shell runs."""
    programs: Mapping[str, Path] = field(default_factory=dict)
    """What its boxes have to see, by the path in the box."""

    def make(self, key: SecretStr, used: Usage) -> Agent:
        """For one attempt at a job, which has used so much before."""
        if self.kind == "claude":
            return ClaudeAgent(
                api_key=key,
                model=self.model,
                base_url=self.model_url,
                budget=self.budget,
                used=used,
            )

        def open_door(*, turns: int, finished: Finished | None = None) -> ModelDoor:
            settings = GatewaySettings(
                self.model_url, key, self.model, budget=self.budget, used=used, turns=turns
            )
            return Gateway(settings, finished)

        if self.kind == "claude-code":
            return ClaudeCodeAgent(open_door=open_door, model=self.model, budget=self.budget)
        return CommandAgent(
            open_door=open_door, command=self.command, model=self.model, budget=self.budget
        )


def programs_for(
    kind: Kind, *, claude_code: str, command: str, given: Mapping[str, Path], path: str
) -> Mapping[str, Path]:
    """What the boxes have to see. Raises Permanent saying what an operator has to set."""
    if kind == "claude-code":
        return {IN_BOX: find_program(claude_code, path=path)}
    if kind == "claude":
        return {}
    if not command.strip():
        raise Permanent(
            "There is no command for the agent `command`.",
            advice="Operators: PATCHWRIGHT_AGENT_COMMAND is the command.",
        )
    missing = sorted(str(program) for program in given.values() if not program.exists())
    if missing:
        raise Permanent(
            f"PATCHWRIGHT_AGENT_PROGRAMS names {missing[0]}, which does not exist.",
            advice="Operators: it is a JSON object of paths in the sandbox and paths here.",
        )
    return {place: program.resolve() for place, program in given.items()}
