"""Which scenario a conversation plays: its own, the first that matches, or the default."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from standin_model.scenario import Scenario, ScenarioError, parse_scenario

DEFAULT_SCENARIO = "demo"
OWN_SCENARIO = re.compile(r"^```scenario[ \t]*\r?\n(.*?)^```", re.DOTALL | re.MULTILINE)
"""A fenced block in the conversation's first text holds the script to play."""
NAMED_SCENARIO = re.compile(r"\bscenario: ([a-z][a-z0-9-]*)")
"""Words that anybody may write into an issue, for example `scenario: failures`."""


@dataclass(frozen=True)
class Playbook:
    """All scenarios of one server, in the order in which they are tried."""

    scenarios: tuple[Scenario, ...]

    def choose(self, text: str) -> Scenario:
        """The scenario for a conversation whose first user text is `text`.

        Raises ScenarioError when the text asks for one that does not exist or cannot be read.
        """
        if own := OWN_SCENARIO.search(text):
            return parse_scenario(_json(own.group(1)))
        if named := NAMED_SCENARIO.search(text):
            return self.named(named.group(1))
        for scenario in self.scenarios:
            if scenario.match and scenario.match.search(text):
                return scenario
        return self.named(DEFAULT_SCENARIO)

    def named(self, name: str) -> Scenario:
        for scenario in self.scenarios:
            if scenario.name == name:
                return scenario
        raise ScenarioError(f"there is no scenario called {name!r}")


def without_script(text: str) -> str:
    """What a person wrote besides the script, which holds the words that it waits for."""
    return OWN_SCENARIO.sub("", text)


def load_playbook(extra: Iterable[Path] = ()) -> Playbook:
    """The scenarios of this package, preceded by those in the folders `extra`."""
    folders = [*extra, Path(__file__).parent / "scenarios"]
    files = [file for folder in folders for file in sorted(folder.glob("*.json"))]
    return Playbook(tuple(parse_scenario(_json(f.read_text("utf-8")), name=f.stem) for f in files))


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ScenarioError(f"the scenario is not valid JSON: {error}") from error
