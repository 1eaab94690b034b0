"""One REST call: who asks, for what, within which limits; and how it is answered."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from standin_github.access import Need, require
from standin_github.auth import (
    Anonymous,
    AppCaller,
    Caller,
    InstallationCaller,
    UserCaller,
    identify,
)
from standin_github.errors import ApiError, not_found
from standin_github.hub import Hub
from standin_github.records import Account, App, Issue, Repository
from standin_github.state import State
from standin_github.urls import Urls

Row = TypeVar("Row")
Json = dict[str, Any]
PER_PAGE, PER_PAGE_MAX = 30, 100
BODY_MAX = 65536
"""Characters in the text of an issue, pull request or comment."""


class Call:
    """What a handler gets to see of a request."""

    def __init__(self, hub: Hub, request: Request, caller: Caller) -> None:
        self.hub = hub
        self.request = request
        self.caller = caller

    @property
    def state(self) -> State:
        return self.hub.state

    @property
    def urls(self) -> Urls:
        return self.hub.urls

    def path(self, name: str) -> str:
        return str(self.request.path_params[name])

    def query(self, name: str, default: str = "") -> str:
        return self.request.query_params.get(name, default)

    def number(self, name: str) -> int:
        """A numeric part of the path; anything else names nothing."""
        if not self.path(name).isascii() or not self.path(name).isdigit():
            raise not_found()
        return int(self.path(name))

    async def json(self) -> Json:
        """The request's body. Raises ApiError 400 for what is not a JSON object."""
        raw = await self.request.body()
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            raise ApiError(400, "Problems parsing JSON") from None
        if not isinstance(body, dict):
            raise ApiError(400, "Body should be a JSON object")
        return body

    def repository(self, need: Need) -> Repository:
        """The repository in the path, if the caller may do that with it."""
        repository = self.state.repository(self.path("owner"), self.path("repo"))
        if repository is None:
            raise not_found()
        require(self.state, self.caller, repository, need)
        return repository

    def known_repository(self) -> Repository:
        """The repository in the path, when what is needed depends on what is found in it."""
        repository = self.state.repository(self.path("owner"), self.path("repo"))
        if repository is None:
            raise not_found()
        return repository

    def issue(self, repository: Repository) -> Issue:
        issue = self.state.issue(repository, self.number("number"))
        if issue is None:
            raise not_found()
        return issue

    def require(self, repository: Repository, need: Need) -> None:
        require(self.state, self.caller, repository, need)

    def app(self) -> App:
        """The App whose JWT this is."""
        if not isinstance(self.caller, AppCaller):
            raise ApiError(401, "A JSON web token could not be decoded")
        return self.caller.app

    def actor(self) -> Account:
        """The account that a write is done as."""
        if isinstance(self.caller, InstallationCaller):
            return self.caller.bot
        if isinstance(self.caller, UserCaller):
            return self.caller.account
        raise ApiError(401, "Requires authentication")

    def app_id(self) -> int | None:
        return self.caller.app.id if isinstance(self.caller, InstallationCaller) else None

    def page(self, rows: Sequence[Row]) -> tuple[list[Row], dict[str, str]]:
        """The rows of the page asked for, and the Link header that leads on."""
        page = max(1, self._whole("page", 1))
        size = self.per_page()
        last = max(1, -(-len(rows) // size))
        goals = {"prev": page - 1, "next": page + 1, "last": last, "first": 1}
        wanted = [
            self.link(relation, page=str(goal))
            for relation, goal in goals.items()
            if (goal >= 1 and goal < page) or (goal > page and goal <= last)
        ]
        headers = {"Link": ", ".join(wanted)} if wanted else {}
        return list(rows[(page - 1) * size : page * size]), headers

    def per_page(self) -> int:
        return min(PER_PAGE_MAX, max(1, self._whole("per_page", PER_PAGE)))

    def link(self, relation: str, **changed: str) -> str:
        address = self.urls.base + self.request.url.path
        query = urlencode(dict(self.request.query_params) | changed)
        return f'<{address}?{query}>; rel="{relation}"'

    def _whole(self, name: str, default: int) -> int:
        text = self.query(name)
        return int(text) if text.isascii() and text.isdigit() else default


Handler = Callable[[Call], Awaitable[Response]]


def answer(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(data, status, headers, media_type="application/json; charset=utf-8")


def nothing() -> Response:
    return Response(status_code=204)


def route(method: str, path: str, handler: Handler) -> Route:
    """A route below /api/v3 whose handler gets a Call."""

    async def endpoint(request: Request) -> Response:
        hub: Hub = request.app.state.hub
        try:
            return await _answer_call(hub, request, handler)
        except ApiError as error:
            return answer(error.body(), error.status, error.headers)

    return Route(f"/api/v3{path}", endpoint, methods=[method])


async def _answer_call(hub: Hub, request: Request, handler: Handler) -> Response:
    caller = identify(hub.state, request.headers.get("authorization"))
    request.scope["standin.actor"] = caller.name
    quota, within = hub.limits.take(caller.name)
    if not within and not request.url.path.endswith("/rate_limit"):
        raise ApiError(403, _exceeded(caller), headers=quota.headers())
    try:
        response = await handler(Call(hub, request, caller))
    except ApiError as error:
        error.headers |= quota.headers()
        raise
    response.headers.update(quota.headers())
    response.headers["x-github-media-type"] = "github.v3; format=json"
    return response


def _exceeded(caller: Caller) -> str:
    if isinstance(caller, InstallationCaller):
        return f"API rate limit exceeded for installation ID {caller.installation.id}."
    if isinstance(caller, Anonymous):
        return "API rate limit exceeded."
    return f"API rate limit exceeded for {caller.name}."
