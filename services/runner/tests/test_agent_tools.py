"""Tool calls on their own: what is executed, what comes back, what people see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from patchwright_runner.agent.tools import TOOLS, Outcome, Toolbox, ToolUse, clip, summarize
from patchwright_runner.sandbox.protocol import BoxLost, Result

from .local_directory_sandbox import LocalDirectorySandbox


async def call(folder: Path, name: str, /, **fields: Any) -> Outcome:
    box = Toolbox(LocalDirectorySandbox(folder), command_seconds=5)
    return await box.call(ToolUse("toolu_1", name, fields))


async def edit(folder: Path, command: str, **fields: Any) -> Outcome:
    return await call(folder, "str_replace_based_edit_tool", command=command, **fields)


def content(outcome: Outcome) -> str:
    return str(outcome.result["content"])


async def test_command_gives_its_output_and_exit_code(tmp_path: Path) -> None:
    outcome = await call(tmp_path, "bash", command="echo out; echo err >&2; exit 3")

    assert content(outcome) == "out\nerr\n[exit code 3]"
    assert "is_error" not in outcome.result
    assert (outcome.call.summary, outcome.call.failed) == ("echo out; echo err >&2; exit 3", True)


async def test_silent_command_says_that_it_was_silent(tmp_path: Path) -> None:
    outcome = await call(tmp_path, "bash", command="true")

    assert content(outcome) == "(no output)"
    assert not outcome.call.failed


async def test_restart_has_nothing_to_do(tmp_path: Path) -> None:
    assert "fresh shell" in content(await call(tmp_path, "bash", restart=True))


async def test_every_editor_command_works(tmp_path: Path) -> None:
    await edit(tmp_path, "create", path="/workspace/a/b.txt", file_text="one\nthree\n")
    await edit(tmp_path, "insert", path="a/b.txt", insert_line=1, insert_text="two\n")
    await edit(tmp_path, "str_replace", path="a/b.txt", old_str="three", new_str="3")

    assert (tmp_path / "a/b.txt").read_text() == "one\ntwo\n3\n"
    assert (
        content(await edit(tmp_path, "view", path="a/b.txt", view_range=[2, -1])) == "2\ttwo\n3\t3"
    )
    assert content(await edit(tmp_path, "view", path="a")) == "b.txt"


async def test_replacing_with_nothing_deletes(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("ab")
    await edit(tmp_path, "str_replace", path="f", old_str="b")

    assert (tmp_path / "f").read_text() == "a"


async def test_what_the_sandbox_refuses_is_an_error_for_the_model(tmp_path: Path) -> None:
    outcome = await edit(tmp_path, "view", path="missing.py")

    assert outcome.result.get("is_error") is True
    assert "missing.py cannot be read" in content(outcome)
    assert outcome.call.summary == "view missing.py"


@pytest.mark.parametrize(
    "fields",
    [
        {"command": "view"},
        {"command": "view", "path": "f", "view_range": [1]},
        {"command": "view", "path": "f", "view_range": "1-2"},
        {"command": "create", "path": "f"},
        {"command": "insert", "path": "f", "insert_line": True, "insert_text": "x"},
        {"command": "undo_edit", "path": "f"},
        {"command": ["view"], "path": "f"},
    ],
)
async def test_wrong_input_is_an_error_for_the_model(tmp_path: Path, fields: Any) -> None:
    outcome = await call(tmp_path, "str_replace_based_edit_tool", **fields)

    assert outcome.result.get("is_error") is True
    assert outcome.call.failed


async def test_output_is_bounded(tmp_path: Path) -> None:
    outcome = await call(tmp_path, "bash", command="seq 1 100000")

    assert len(content(outcome)) < 31_000
    assert content(outcome).startswith("1\n2\n")
    assert content(outcome).endswith("\n100000")
    assert "characters left out" in content(outcome)


def test_short_text_is_not_clipped() -> None:
    assert clip("abc", 3) == "abc"
    assert clip("abcdef", 2) == "a\n[… 4 characters left out …]\nf"


def test_summary_is_one_bounded_line() -> None:
    summary = summarize(ToolUse("id", "bash", {"command": "cat <<E\n" + "x" * 500 + "\nE"}))

    assert "\n" not in summary
    assert len(summary) == 200


async def test_half_a_surrogate_pair_can_be_sent(tmp_path: Path) -> None:
    class Odd(LocalDirectorySandbox):
        async def run(self, command: str, *, timeout: float) -> Result:
            return Result("name\udcff", 0)

    outcome = await Toolbox(Odd(tmp_path)).call(ToolUse("id", "bash", {"command": "ls"}))

    assert content(outcome) == "name?"


async def test_lost_box_is_not_the_models_problem(tmp_path: Path) -> None:
    class Lost(LocalDirectorySandbox):
        async def run(self, command: str, *, timeout: float) -> Result:
            raise BoxLost("the engine stopped")

    with pytest.raises(BoxLost):
        await Toolbox(Lost(tmp_path)).call(ToolUse("id", "bash", {"command": "ls"}))


def test_tools_are_the_published_types() -> None:
    assert [(tool["type"], tool["name"]) for tool in TOOLS] == [  # type: ignore[typeddict-item]
        ("bash_20250124", "bash"),
        ("text_editor_20250728", "str_replace_based_edit_tool"),
    ]
