"""The images that a text on GitHub shows, found in its Markdown and HTML."""

from __future__ import annotations

import html
import re

from patchwright_runner.agent.hidden_text import visible_text

LINKS = re.compile(
    # ![words](address "title"), the address perhaps in angle brackets
    r"!\[[^\]\n]{0,500}\]\([ \t]*<?(?P<markdown>[^\s<>()\"']{1,2000})"
    # <img … src="address" …>
    r"|<img\b[^<>]{0,500}?\bsrc[ \t]*=[ \t]*[\"']?(?P<html>[^\s<>\"']{1,2000})",
    re.IGNORECASE,
)


def image_links(text: str) -> tuple[str, ...]:
    """Addresses in the order of their first appearance, unchecked; none that is hidden."""
    shown = visible_text(text).text
    found = (match["markdown"] or html.unescape(match["html"]) for match in LINKS.finditer(shown))
    return tuple(dict.fromkeys(found))
