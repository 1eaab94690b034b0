"""The application: which address goes where."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from patchwright_setup import app_step, later_steps
from patchwright_setup.entrance import Entrance, missing
from patchwright_setup.guard import Guard
from patchwright_setup.page import Handler, Site, UnreadableFormError, private


def create_app(site: Site, *, listening: str) -> Starlette:
    """`listening` is host and port as bound: a proxy may use them instead of the public name."""
    hosts = frozenset({urlsplit(site.public_url).netloc, listening})

    async def refused(_request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException) and error.status_code == 404:
            return missing(site)
        status = error.status_code if isinstance(error, HTTPException) else 400
        return site.message("That cannot be done here", "Nothing was changed.", status=status)

    async def unreadable(_request: Request, _error: Exception) -> Response:
        return site.message(
            "This form could not be read",
            "A part of it is larger than any of these forms can need, or it was cut off on its "
            "way. Nothing was changed.",
            status=400,
            link=("/", "Go on with the set-up"),
        )

    async def failed(_request: Request, _error: Exception) -> Response:
        return site.message(
            "Something went wrong in set-up itself",
            "What was stored so far stays stored. The log in the terminal says more.",
            status=500,
            link=("/", "Go on with the set-up"),
        )

    return Starlette(
        routes=_routes(site),
        middleware=[Middleware(Guard, origin=site.public_url, hosts=hosts)],
        exception_handlers={
            HTTPException: refused,
            UnreadableFormError: unreadable,
            Exception: failed,
        },
    )


def _routes(site: Site) -> list[BaseRoute]:
    entrance = Entrance(site)

    def page(path: str, handler: Handler, method: str = "GET") -> Route:
        return Route(path, private(site, handler), methods=[method])

    return [
        Route("/start", entrance.look, methods=["GET"]),
        Route("/start", entrance.enter, methods=["POST"]),
        page("/", later_steps.home),
        page("/app", app_step.show),
        page("/app", app_step.ask, "POST"),
        page("/app/review", app_step.review),
        page("/app/existing", app_step.show_existing),
        page("/app/existing", app_step.bring, "POST"),
        page("/callback", app_step.callback),
        page("/app/again", app_step.again),
        page("/app/again", app_step.convert, "POST"),
        page("/install", later_steps.show_install),
        page("/installed", later_steps.installed),
        page("/model", later_steps.show_model),
        page("/model", later_steps.keep_model, "POST"),
        page("/check", later_steps.show_check),
        page("/finish", later_steps.finish, "POST"),
        page("/done", later_steps.show_done),
        Mount("/static", StaticFiles(packages=[("patchwright_setup", "static")])),
    ]
