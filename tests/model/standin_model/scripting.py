"""Write an issue's text that carries its own scenario; for tests anywhere."""

from __future__ import annotations

import json
from typing import Any


def issue_with_script(*steps: dict[str, Any], words: str = "Please play this.", **more: Any) -> str:
    """`more` are the scenario's other keys, for example `loop=True`."""
    scenario = {"steps": list(steps), **more}
    return f"{words}\n\n```scenario\n{json.dumps(scenario, indent=1)}\n```\n"


def bash(command: str) -> dict[str, Any]:
    """A call of the bash tool, for a step's `tools`."""
    return {"name": "bash", "input": {"command": command}}


def edit(command: str, **fields: Any) -> dict[str, Any]:
    """A call of the text editor tool, for a step's `tools`."""
    return {"name": "str_replace_based_edit_tool", "input": {"command": command, **fields}}
