"""Where the Claude Code program is found, and how it is started."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from patchwright_common.errors import Permanent
from patchwright_runner.agent.claude_code_program import command, find_program
from patchwright_runner.agent.prompt import SYSTEM
from patchwright_runner.agent.rules import RULES, rules_for_file


def test_operators_choice_comes_first(tmp_path: Path) -> None:
    program = tmp_path / "claude"
    program.touch()

    assert find_program(str(program)) == program


def test_choice_that_is_not_there_is_no_reason_to_take_another(tmp_path: Path) -> None:
    with pytest.raises(Permanent) as caught:
        find_program(str(tmp_path / "nothing"))

    assert "which is no file" in caught.value.reason


def test_program_in_the_wheel_is_found_without_importing_it(tmp_path: Path) -> None:
    package = tmp_path / "claude_agent_sdk"
    (package / "_bundled").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError")
    (package / "_bundled" / "claude").touch()

    assert find_program(packages=[str(tmp_path)]) == package / "_bundled" / "claude"


def test_program_on_the_path_is_the_last_resort(tmp_path: Path) -> None:
    program = tmp_path / "claude"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)

    assert find_program(path=str(tmp_path), packages=[]) == program


def test_absent_program_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(Permanent) as caught:
        find_program(path=str(tmp_path), packages=[])

    assert "just claude-code" in caught.value.advice


def test_model_and_rules_are_single_words_to_the_shell() -> None:
    line = command("x; touch /tmp/y", rules="It's $HOME\n`id`", session="")
    words = shlex.split(line)

    assert words[words.index("--model") + 1] == "x; touch /tmp/y"
    assert words[words.index("--append-system-prompt") + 1] == "It's $HOME\n`id`"
    assert words[words.index("--setting-sources") + 1] == ""


def test_rules_about_obedience_and_ending_are_those_of_our_own_agent() -> None:
    _, _, shared = SYSTEM.partition("Whom you obey\n")

    assert shared
    assert RULES.endswith(shared)
    assert rules_for_file("/tmp/x.md") != RULES
    assert "write the file /tmp/x.md: it is published as it is" in rules_for_file("/tmp/x.md")
