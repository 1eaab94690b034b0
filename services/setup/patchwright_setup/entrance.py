"""The one-time link: looking at it changes nothing, the button uses it up."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from patchwright_setup.door import LINK_LIFETIME, Link
from patchwright_setup.page import COOKIE, Site, read_form, see

AGAIN = (
    "Press Enter in the terminal where set-up runs and open the new link, or run it again. "
    "Nothing was changed."
)
REFUSALS = {
    Link.USED: ("This link was already used", "It is good for one browser, once."),
    Link.OLD: (
        "This link is too old",
        f"It is good for {LINK_LIFETIME / 60:.0f} minutes after it was printed.",
    ),
    Link.UNKNOWN: (
        "This link is not valid",
        "It may be cut off, or from an earlier run, or there is a newer one.",
    ),
}


class Entrance:
    """`/start` and `/`."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def look(self, request: Request) -> Response:
        """GET: a button, for programs that preview links press none."""
        token = request.query_params.get("token", "")
        link = self._site.door.look(token)
        if link is not Link.GOOD:
            return self._refused(request, link)
        return self._site.render("start.html", token=token)

    async def enter(self, request: Request) -> Response:
        """POST: the link is used up, this browser comes in."""
        token = (await read_form(request)).get("token", "")
        link = self._site.door.look(token)
        session = self._site.door.enter(token)
        if session is None:
            return self._refused(request, link)
        response = see("/")
        response.set_cookie(
            COOKIE,
            session.cookie,
            httponly=True,
            # GitHub leads back here, which `strict` would not count as coming from us.
            samesite="lax",
            secure=self._site.public_url.startswith("https://"),
        )
        return response

    def _refused(self, request: Request, link: Link) -> Response:
        if self._site.door.session(request.cookies.get(COOKIE, "")):
            return see("/")
        title, why = REFUSALS[link]
        return self._site.message(title, why, AGAIN, status=403)


def missing(site: Site) -> Response:
    """404, in words."""
    return site.message(
        "There is no such page",
        "Nothing was changed.",
        status=404,
        link=("/", "Go on with the set-up"),
    )
