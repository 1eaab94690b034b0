"""A safe part of GitHub's Markdown.

Raw HTML is escaped but for a few tags without attributes; comments vanish, as on GitHub. So a page
never runs or loads what somebody wrote, and `<details>` still folds.
"""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markupsafe import Markup

COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
ALLOWED_TAG = re.compile(
    r"</?(?:details|summary|br|hr|sub|sup|kbd|b|i|em|strong|code|p|del|ins)(?: open)?\s*/?>",
    re.IGNORECASE,
)
TASK = re.compile(r"<li>(\s*(?:<p>)?)\[([ xX])\] ")
LINKED = re.compile(
    r"(?P<url>https?://[^\s<>&\"']+[\w/])|(?<![\w&/])(?P<kind>[#@])(?P<name>[\w-]+)"
)


def _make_safe(state: StateCore) -> None:
    """Replace what could be live. `env` carries the repository's page as `base`, for #12."""
    for token in state.tokens:
        if token.type == "html_block":
            token.content = safe_html(token.content)
        _make_children_safe(token.children or [], state.env["base"])


def _make_children_safe(tokens: list[Token], base: str) -> None:
    in_link = 0
    for token in tokens:
        in_link += {"link_open": 1, "link_close": -1}.get(token.type, 0)
        if token.type == "html_inline":
            token.content = safe_html(token.content)
        elif token.type == "image":
            token.type, token.content = "html_inline", _image_link(token)
        elif token.type == "text" and not in_link:
            linked = LINKED.sub(lambda match: _link(match, base), escapeHtml(token.content))
            token.type, token.content = "html_inline", linked


def _image_link(token: Token) -> str:
    """A page here loads nothing from elsewhere."""
    address = escapeHtml(str(token.attrs.get("src", "")))
    return f'<a href="{address}" rel="nofollow">{escapeHtml(token.content) or address}</a>'


def safe_html(html: str) -> str:
    html = COMMENT.sub("", html)
    parts, position = [], 0
    for match in ALLOWED_TAG.finditer(html):
        parts += [escapeHtml(html[position : match.start()]), match.group()]
        position = match.end()
    return "".join([*parts, escapeHtml(html[position:])])


def _link(match: re.Match[str], base: str) -> str:
    if match["url"]:
        return f'<a href="{match["url"]}" rel="nofollow">{match["url"]}</a>'
    if match["kind"] == "@":
        return f'<span class="mention">@{match["name"]}</span>'
    if not match["name"].isdigit():
        return match.group()
    return f'<a href="{base}/issues/{match["name"]}">#{match["name"]}</a>'


def _parser() -> MarkdownIt:
    # "breaks": GitHub keeps line ends in comments.
    parser = MarkdownIt("commonmark", {"html": True, "breaks": True})
    parser.core.ruler.push("make_safe", _make_safe)
    return parser.enable(["table", "strikethrough"])


def render(text: str | None, base: str) -> Markup:
    """`base` is the repository's page, to which #12 leads."""
    html = _parser().render(text or "", {"base": escapeHtml(base)})
    # The pages' policy forbids style attributes, which is how columns are aligned.
    html = html.replace(' style="text-align:', ' align="')
    # Every piece of it was escaped or made by this module.
    return Markup(TASK.sub(_task, html))  # noqa: S704


def _task(match: re.Match[str]) -> str:
    checked = "" if match[2] == " " else " checked"
    return f'<li class="task">{match[1]}<input type="checkbox" disabled{checked}> '
