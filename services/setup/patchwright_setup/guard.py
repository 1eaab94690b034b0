"""What every request passes first, and what every answer carries.

A page that another site opened in the operator's browser must get nowhere: it may not use
another name for this server (DNS rebinding), post to it, frame it, or learn an address of it.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_LIMIT = 128 * 1024
"""Bytes; a private key has about two thousand."""
LENGTH_DIGITS = 20
"""Python raises an error for numbers of some thousands."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # The origin alone, so no token of an address; with `no-referrer` browsers would send
    # `Origin: null` with our own forms, which could then not be told from foreign ones.
    "Referrer-Policy": "strict-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def policy_with_form_target(origin: str) -> str:
    """The policy of the one page whose form goes to GitHub."""
    return HEADERS["Content-Security-Policy"].replace(
        "form-action 'self'", f"form-action 'self' {origin}"
    )


class Guard:
    """`origin` is how the browser reaches these pages; `hosts` are the names that are answered."""

    def __init__(self, app: ASGIApp, *, origin: str, hosts: frozenset[str]) -> None:
        self._app = app
        self._origin = origin
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers what is refused by itself."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, method: str, headers: Headers) -> Response | None:
        if headers.get("host", "") not in self._hosts:
            return _refused(421, f"These pages are at {self._origin} and under no other name.")
        if method in ("GET", "HEAD"):
            return None
        if headers.get("origin") != self._origin:
            return _refused(
                403, "This form was not sent from these pages. Nothing was changed. Go back and "
                "use the pages' own buttons."
            )  # fmt: skip
        length = headers.get("content-length", "")
        if not length.isdecimal():
            return _refused(411, "A form has to say how long it is.")
        if len(length) > LENGTH_DIGITS or int(length) > BODY_LIMIT:
            return _refused(413, "That is more than any of these forms can need.")
        return None


def _refused(status: int, reason: str) -> Response:
    # What was sent is not read: the connection has to end with the answer.
    return PlainTextResponse(reason + "\n", status, {"Connection": "close"})
