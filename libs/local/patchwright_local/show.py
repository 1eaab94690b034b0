"""How the stack's lines look in a terminal: time, labelled colour, text."""

from __future__ import annotations

import json
import unicodedata

from rich.console import Console
from rich.text import Text

COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "bright_red", "bright_cyan", "white")
LEVELS = {"warning": "yellow", "error": "bold red", "critical": "bold red"}

_UNINTERESTING = ("[INF]", "_INBOX_runner.border")
"""Of nats-server: its account of its own start, and what the vault tries in order to be refused."""


class Log:
    """Prints each line once, with its process's name in its colour."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.quiet = False
        """Whether nothing is shown; the log files have it all."""
        self._colours: dict[str, str] = {}

    def __call__(self, name: str, line: str) -> None:
        """Show one line of one process."""
        if self.quiet:
            return
        if name == "nats" and any(part in line for part in _UNINTERESTING):
            return  # its log file has it
        colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
        text = Text.assemble((f"{name:>9} ", colour), ("│ ", "dim"))
        text.append_text(readable(line))
        self._console.print(text, soft_wrap=True, highlight=False)


def readable(line: str) -> Text:
    """A service's JSON line as people read it; anything else as it is, without its escapes."""
    try:
        fields = json.loads(line)
        said, style = visible(fields["text"]), LEVELS.get(fields["level"], "")
        text = Text.assemble((f"{visible(fields['time'][11:23])} ", "dim"), (said, style))
    except (ValueError, KeyError, TypeError):
        return Text(visible(Text.from_ansi(line).plain))
    for name in ("job", "trace"):
        if name in fields:
            text.append(visible(f"  {name}={fields[name]}"), style="dim")
    if "error" in fields:
        text.append(visible(f"\n{fields['error']}"), style="red")
    return text


def visible(text: str) -> str:
    """With control characters written out: an issue or an agent must not steer the terminal."""
    return "".join(
        ascii(c)[1:-1] if unicodedata.category(c) in ("Cc", "Cf") and c not in "\n\t" else c
        for c in text
    )
