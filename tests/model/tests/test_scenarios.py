"""How a scenario is chosen and checked, and that the shipped ones are what they promise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from anthropic import AsyncAnthropic, BadRequestError

from standin_model.playbook import load_playbook
from standin_model.scenario import ScenarioError, parse_scenario
from standin_model.scripting import issue_with_script

from .asking import ask, results, text, user


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("Greeting crashes on an empty name", "demo"),
        ("<system-reminder>Today</system-reminder>\nGreeting crashes", "demo-claude-code"),
        ("A title\nWhat does salutation do at noon?", "answer"),
        ("Try scenario: ten-turns please", "ten-turns"),
        ("What does this do? scenario: endless", "endless"),
        (issue_with_script({"text": "Hi"}), "inline"),
    ],
)
def test_first_text_chooses_the_scenario(words: str, name: str) -> None:
    assert load_playbook().choose(words).name == name


def test_every_shipped_scenario_is_listed_in_the_readme() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")

    names = [scenario.name for scenario in load_playbook().scenarios]
    assert "demo" in names
    assert [name for name in names if f"| `{name}` |" not in readme] == []


def test_scenarios_of_an_own_folder_come_first(tmp_path: Path) -> None:
    mine = {"steps": [{"text": "Mine."}], "match": "What does"}
    (tmp_path / "mine.json").write_text(json.dumps(mine), "utf-8")

    assert load_playbook([tmp_path]).choose("What does it do?").name == "mine"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ([], "at least one step"),
        ("text", "expected an object"),
        ([{"txt": "Hi"}], "unknown key 'txt'"),
        ([{"tools": [{"input": {}}]}], "needs a `name`"),
        ([{"failures": [{"times": 2}]}], "either `status` or `stream`"),
        ([{"failures": [{"stream": "explode"}]}], "`stream` is one of"),
        ([{"text": "ok"}, {"tools": {}}], "step 2: expected a list"),
    ],
)
def test_scenario_with_a_mistake_says_where(data: object, complaint: str) -> None:
    with pytest.raises(ScenarioError, match=complaint):
        parse_scenario(data)


async def test_unreadable_scenario_in_an_issue_is_a_bad_request(client: AsyncAnthropic) -> None:
    with pytest.raises(BadRequestError, match="not valid JSON"):
        await ask(client, user("```scenario\n[{]\n```"))
    with pytest.raises(BadRequestError, match="no scenario called 'nothing'"):
        await ask(client, user("scenario: nothing"))


async def test_endless_scenario_never_ends(client: AsyncAnthropic) -> None:
    messages = [user("scenario: endless")]
    for _ in range(7):
        reply = await ask(client, *messages)
        messages += [reply.to_param(), results(reply)]
        assert reply.stop_reason == "tool_use"


async def test_script_that_is_over_says_so(client: AsyncAnthropic) -> None:
    question = user(issue_with_script({"text": "Only this."}))
    first = await ask(client, question)
    second = await ask(client, question, first.to_param(), user("And?"))

    assert "The script ends here" in text(second)


async def test_history_alone_decides_the_step(client: AsyncAnthropic) -> None:
    question = user("scenario: ten-turns")
    first = await ask(client, question)

    again = await ask(client, question, first.to_param(), results(first))
    resumed = await ask(client, question, first.to_param(), results(first))

    assert text(again) == text(resumed) == "Note 2 of 9."


async def test_branch_takes_over_when_the_user_writes_its_word(client: AsyncAnthropic) -> None:
    branch = {"match": "stop now", "steps": [{"text": "Never."}, {"text": "Stopped."}]}
    question = issue_with_script({"text": "One."}, {"text": "Two."}, branches=[branch])
    first = await ask(client, user(question))
    on = await ask(client, user(question), first.to_param(), user("Go on."))
    over = await ask(client, user(question), first.to_param(), user("Please stop now."))

    assert [text(first), text(on), text(over)] == ["One.", "Two.", "Stopped."]


async def test_prompt_beyond_the_window_is_refused(client: AsyncAnthropic) -> None:
    question = issue_with_script({"text": "One."}, window=500, words="word " * 500)

    with pytest.raises(BadRequestError, match=r"prompt is too long: \d+ tokens > 500"):
        await ask(client, user(question))
