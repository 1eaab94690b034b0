"""A safe part of GitHub's Markdown.

Raw HTML is escaped but for a few tags without attributes; comments vanish, as on GitHub. So a page
never runs or loads what somebody wrote, and `<details>` still folds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
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


class Renderer(RendererHTML):
    """`env` carries the repository's page as `base`, for #12, and the server's as `root`."""

    def html_block(
        self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType
    ) -> str:
        return safe_html(tokens[index].content)

    def html_inline(
        self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType
    ) -> str:
        return safe_html(tokens[index].content)

    def text(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        escaped = escapeHtml(tokens[index].content)
        opened = sum(t.type == "link_open" for t in tokens[:index])
        if opened > sum(t.type == "link_close" for t in tokens[:index]):
            return escaped
        return LINKED.sub(lambda match: _link(match, env), escaped)

    def image(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        """As a link: a page here loads nothing from elsewhere."""
        token = tokens[index]
        address = escapeHtml(str(token.attrs.get("src", "")))
        return f'<a href="{address}" rel="nofollow">{escapeHtml(token.content) or address}</a>'


def safe_html(html: str) -> str:
    html = COMMENT.sub("", html)
    parts, position = [], 0
    for match in ALLOWED_TAG.finditer(html):
        parts += [escapeHtml(html[position : match.start()]), match.group()]
        position = match.end()
    return "".join([*parts, escapeHtml(html[position:])])


def _link(match: re.Match[str], env: Any) -> str:
    if match["url"]:
        return f'<a href="{match["url"]}" rel="nofollow">{match["url"]}</a>'
    if match["kind"] == "@":
        return f'<span class="mention">@{match["name"]}</span>'
    if not match["name"].isdigit():
        return match.group()
    return f'<a href="{env["base"]}/issues/{match["name"]}">#{match["name"]}</a>'


def _parser() -> MarkdownIt:
    # "breaks": GitHub keeps line ends in comments.
    options = {"html": True, "breaks": True}
    return MarkdownIt("commonmark", options, renderer_cls=Renderer).enable(
        ["table", "strikethrough"]
    )


def render(text: str | None, base: str) -> Markup:
    """`base` is the repository's page, to which #12 leads."""
    html = _parser().render(text or "", {"base": escapeHtml(base)})
    # The pages' policy forbids style attributes, which is how columns are aligned.
    html = html.replace(' style="text-align:', ' align="')
    # Every piece of it was escaped or made by this module.
    return Markup(TASK.sub(_task, html))


def _task(match: re.Match[str]) -> str:
    checked = "" if match[2] == " " else " checked"
    return f'<li class="task">{match[1]}<input type="checkbox" disabled{checked}> '
