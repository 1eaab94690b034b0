"""One visit to a page: whose it is, what was entered, and how it is answered."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from patchwright_common.errors import Permanent, Retry
from patchwright_setup.door import Door, Session, same_token
from patchwright_setup.steps import STEPS, Progress, progress
from patchwright_setup.vault import Held, SetupVault

COOKIE = "patchwright_setup"
FIELDS_MAX = 20
FIELD_LIMIT = 64 * 1024
"""Bytes."""


class UnreadableFormError(Exception):
    """It is malformed or too large, or was cut off."""


@dataclass(frozen=True)
class Site:
    """What all pages share."""

    public_url: str
    """Without a slash at the end."""
    github_url: str
    """The GitHub that the form begins with."""
    webhook_url: str
    """The same for the webhook's address; may be empty."""
    stays: bool
    """Whether the process goes on after the last page."""
    door: Door
    vault: SetupVault
    templates: Environment
    finish: Callable[[], Awaitable[None]]
    """Called when the last page has been delivered."""

    def render(self, name: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page. Everything in it is escaped."""
        shared = {"site": self, "steps": STEPS, "progress": None, "csrf": "", "notice": ""}
        return HTMLResponse(self.templates.get_template(name).render(shared | values), status)

    def message(
        self, title: str, *lines: str, status: int, link: tuple[str, str] | None = None
    ) -> HTMLResponse:
        """A page that says something plainly; `link` is a path and its words."""
        return self.render("message.html", status, title=title, lines=lines, link=link)


@dataclass
class Visit:
    """A request of the one browser that may."""

    site: Site
    request: Request
    session: Session
    form: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Uploads are there as text."""

    async def held(self) -> Held:
        """What the vault has now."""
        return await self.site.vault.held()

    def progress(self, held: Held) -> Progress:
        """As far as is known without asking GitHub again."""
        findings = self.session.findings
        token = findings.get("token")
        return progress(
            held,
            installed=token is not None and token.ok,
            checked=len(findings) == len(CHECKS) and all(f.ok for f in findings.values()),
            finished=self.session.finished,
        )

    async def render(self, name: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page of a step, with the way through at its top."""
        held = values.get("held") or await self.held()
        return self.site.render(
            name,
            status,
            **values
            | {
                "held": held,
                "progress": self.progress(held),
                "csrf": self.session.csrf,
                "notice": self.session.take_notice(),
            },
        )


CHECKS = ("webhook", "token", "model")
Handler = Callable[[Visit], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


def environment() -> Environment:
    """Escapes everything, and fails on a name that a page forgot to pass."""
    made = Environment(
        loader=PackageLoader("patchwright_setup"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["moment"] = _moment
    return made


def _moment(seconds: float) -> str:
    """When, in UTC; a browser's own time zone would need a script."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def private(site: Site, handler: Handler) -> Endpoint:
    """For the one browser that may; a form needs the session's token too."""

    async def endpoint(request: Request) -> Response:
        session = site.door.session(request.cookies.get(COOKIE, ""))
        if session is None:
            return no_session(site)
        form = await read_form(request) if request.method == "POST" else {}
        if request.method == "POST" and not same_token(session, form.get("csrf", "")):
            return site.message(
                "This page is too old",
                "It belongs to an earlier set-up, so its form was not taken. Nothing was changed.",
                status=403,
                link=("/", "Go on where you are"),
            )
        try:
            return await handler(Visit(site, request, session, form))
        except Retry as error:
            return _unavailable(site, request, error.reason)
        except Permanent as error:
            return _unavailable(site, request, f"{error.reason} {error.advice}".strip())

    return endpoint


def no_session(site: Site) -> Response:
    """Plain words for whoever has no business here, or has lost it."""
    return site.message(
        "This browser has no key to these pages",
        "Set-up is open to one browser only: the one that used the newest one-time link.",
        "Press Enter in the terminal where set-up runs, or run it again, and open the new link. "
        "What was stored so far stays stored, and the new link goes on from there.",
        status=403,
    )


def _unavailable(site: Site, request: Request, reason: str) -> Response:
    path = request.url.path if request.method == "GET" else "/"
    return site.message(
        "The vault does not answer as it should",
        f"It says: {reason}." if not reason.endswith(".") else f"It says: {reason}",
        "Nothing was lost or changed by this. See that the stack runs (just up, just logs vault), "
        "then try again.",
        status=503,
        link=(path, "Try again"),
    )


async def read_form(request: Request) -> dict[str, str]:
    """The fields; of one that comes twice the last. An upload that is no text counts as empty.

    Raises `UnreadableFormError`.
    """
    form: dict[str, str] = {}
    try:
        async with request.form(
            max_files=1, max_fields=FIELDS_MAX, max_part_size=FIELD_LIMIT
        ) as fields:
            for name, value in fields.items():
                form[name] = await _text(value)
    except (HTTPException, ClientDisconnect, ValueError):
        # `ValueError` has all that is wrong with the character set that the sender names.
        raise UnreadableFormError from None
    return form


async def _text(value: UploadFile | str) -> str:
    if isinstance(value, str):
        value.encode()  # some character sets make halves of characters, which nobody takes
        return value
    try:
        return (await value.read(FIELD_LIMIT)).decode()
    except UnicodeDecodeError:
        return ""


def see(path: str) -> Response:
    """On to another page, so that a reload posts nothing twice."""
    return RedirectResponse(path, 303)


def afterwards(response: Response, work: Callable[[], Awaitable[None]]) -> Response:
    """The response, with something to do once it has been delivered."""
    response.background = BackgroundTask(work)
    return response
