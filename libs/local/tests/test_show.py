"""What other people wrote reaches the terminal as text, never as commands to it."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from patchwright_local.show import Log

TITLE = "\x1b]0;owned\x07"


def _shown(name: str, line: str) -> str:
    terminal = io.StringIO()
    Log(Console(file=terminal, width=200))(name, line)
    return terminal.getvalue()


def _line(text: str, **more: str) -> str:
    fields = {"time": "2026-01-02T03:04:05.678Z", "level": "error", "text": text}
    return json.dumps(fields | more)


@pytest.mark.parametrize("hostile", [TITLE, "\x1b[2J", "\x9b2J", "\r", "\x7f", "\u202e"])
def test_logged_text_cannot_steer_the_terminal(hostile: str) -> None:
    shown = _shown("runner", _line(f"gives up: {hostile}", error=hostile, job=hostile))

    assert hostile not in shown
    assert ascii(hostile)[1:-1] in shown


def test_output_that_is_no_log_line_cannot_steer_the_terminal() -> None:
    shown = _shown("runner", f"Traceback {TITLE} \x1b[31mred\x1b[0m")

    assert "\x1b" not in shown
    assert "red" in shown


def test_text_cannot_hide_its_own_line() -> None:
    assert "gives up" in _shown("runner", _line("gives up [INF]"))
