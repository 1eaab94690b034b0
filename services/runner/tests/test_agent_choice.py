"""Which agent works, and what its boxes have to see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from patchwright_common.errors import Permanent
from patchwright_runner.agent import Budget, ClaudeAgent, Usage
from patchwright_runner.agent.claude_code import ClaudeCodeAgent
from patchwright_runner.agent.claude_code_program import IN_BOX
from patchwright_runner.agent.command import CommandAgent
from patchwright_runner.agents import AgentPlan, Kind, programs_for


def seen(kind: Kind, **given: Any) -> Any:
    defaults = {"claude_code": "", "command": "true", "given": {}, "path": "/nowhere"}
    return programs_for(kind, **{**defaults, **given})


@pytest.mark.parametrize(
    ("kind", "made"),
    [("claude", ClaudeAgent), ("claude-code", ClaudeCodeAgent), ("command", CommandAgent)],
)
def test_operator_chooses_the_agent(kind: Kind, made: type) -> None:
    plan = AgentPlan(kind, "claude-opus-5-5", "http://127.0.0.1:1", Budget(), command="true")

    assert isinstance(plan.make(SecretStr("sk-x"), Usage()), made)


def test_claude_code_runs_from_the_operators_file(tmp_path: Path) -> None:
    program = tmp_path / "claude"
    program.touch()

    assert seen("claude-code", claude_code=str(program)) == {IN_BOX: program}


def test_our_own_agent_needs_no_program(tmp_path: Path) -> None:
    assert seen("claude", given={"/opt/x": tmp_path}) == {}


def test_command_sees_its_programs(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)

    assert seen("command", given={"/opt/x": tmp_path / "link"}) == {"/opt/x": tmp_path}


def test_command_that_is_missing_is_asked_for() -> None:
    with pytest.raises(Permanent) as caught:
        seen("command", command=" ")

    assert "PATCHWRIGHT_AGENT_COMMAND" in caught.value.advice


def test_program_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="nothing, which does not exist"):
        seen("command", given={"/opt/x": tmp_path / "nothing"})
