"""Which agent works, what its boxes have to see, and what a repository may change about it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from patchwright_common.errors import Permanent
from patchwright_runner.agent import Agent, Budget, ClaudeAgent, Usage
from patchwright_runner.agent.claude_code import ClaudeCodeAgent
from patchwright_runner.agent.claude_code_program import IN_BOX
from patchwright_runner.agent.command import CommandAgent
from patchwright_runner.agents import Choice, OperatorsAgents
from patchwright_runner.repository_config import RepositoryConfig
from patchwright_runner.settings import Kind

CHOICE = Choice(
    kind="claude",
    model="claude-opus-5-5",
    more_models=(),
    base_url="http://127.0.0.1:1",
    budget=Budget(),
    command="true",
    command_programs={},
    program="",
    path="/nowhere",
)
NOTHING_ASKED = RepositoryConfig()


class Keys:
    """All of the vault that is needed here."""

    async def model_key(self, _job_id: str) -> SecretStr:
        return SecretStr("sk-x")


def agents(**changes: Any) -> OperatorsAgents:
    return OperatorsAgents(Keys(), replace(CHOICE, **changes))


async def made(config: RepositoryConfig, **changes: Any) -> Agent:
    return await agents(**changes).make("7-1-issue-1", config, Usage())


KINDS = [("claude", ClaudeAgent), ("claude-code", ClaudeCodeAgent), ("command", CommandAgent)]


@pytest.mark.parametrize(("kind", "agent"), KINDS)
async def test_operator_chooses_the_agent(kind: Kind, agent: type) -> None:
    assert isinstance(await made(NOTHING_ASKED, kind=kind), agent)


@pytest.mark.parametrize(("kind", "agent"), KINDS)
async def test_repository_chooses_before_the_operator(kind: Kind, agent: type) -> None:
    assert isinstance(await made(RepositoryConfig(agent=kind)), agent)


def test_repository_chooses_the_model() -> None:
    assert agents().model(NOTHING_ASKED) == "claude-opus-5-5"
    assert agents().model(RepositoryConfig(model="claude-haiku-4-5")) == "claude-haiku-4-5"


def test_claude_code_runs_from_the_operators_file(tmp_path: Path) -> None:
    program = tmp_path / "claude"
    program.touch()
    asked = RepositoryConfig(agent="claude-code")
    assert agents(program=str(program)).programs(asked) == {IN_BOX: program}


def test_our_own_agent_needs_no_program(tmp_path: Path) -> None:
    assert agents(command_programs={"/opt/x": tmp_path}).programs(NOTHING_ASKED) == {}


def test_command_sees_its_programs(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    given = {"/opt/x": tmp_path / "link"}
    assert agents(kind="command", command_programs=given).programs(NOTHING_ASKED) == {
        "/opt/x": tmp_path
    }


def test_command_that_is_missing_is_asked_for() -> None:
    with pytest.raises(Permanent) as caught:
        agents(kind="command", command=" ").programs(NOTHING_ASKED)
    assert "PATCHWRIGHT_AGENT_COMMAND" in caught.value.advice


def test_program_that_is_missing_is_named(tmp_path: Path) -> None:
    given = {"/opt/x": tmp_path / "nothing"}
    with pytest.raises(Permanent, match="nothing, which does not exist"):
        agents(kind="command", command_programs=given).programs(NOTHING_ASKED)
