"""The world's levers, below /_standin/: make Apps, people, repositories and faults, and look.

No credentials are asked for, so only this machine may come in.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from standin_github import installations, summary, world
from standin_github.errors import ApiError
from standin_github.hub import Hub

Json = dict[str, Any]
LOOPBACK = ("127.", "::1", "::ffff:127.")
Action = Callable[[Hub, Request, Json], Awaitable[Any]]


async def create_app(hub: Hub, request: Request, body: Json) -> Any:
    return world.create_app(hub, **body)


async def change_app(hub: Hub, request: Request, body: Json) -> Any:
    return world.change_app(hub, _number(request, "app_id"), **body)


async def add_key(hub: Hub, request: Request, body: Json) -> Any:
    return world.add_key(hub, _number(request, "app_id"))


async def install(hub: Hub, request: Request, body: Json) -> Any:
    return world.install(hub, _number(request, "app_id"), **body)


async def uninstall(hub: Hub, request: Request, body: Json) -> Any:
    return installations.uninstall(hub, _number(request, "installation_id"))


async def suspend(hub: Hub, request: Request, body: Json) -> Any:
    return installations.suspend(hub, _number(request, "installation_id"))


async def unsuspend(hub: Hub, request: Request, body: Json) -> Any:
    return installations.unsuspend(hub, _number(request, "installation_id"))


async def remove_repositories(hub: Hub, request: Request, body: Json) -> Any:
    return installations.remove_repositories(hub, _number(request, "installation_id"), **body)


async def create_user(hub: Hub, request: Request, body: Json) -> Any:
    return world.create_user(hub, **body)


async def create_repository(hub: Hub, request: Request, body: Json) -> Any:
    return await world.create_repository(hub, **body)


async def set_collaborator(hub: Hub, request: Request, body: Json) -> Any:
    return world.set_collaborator(hub, _full_name(request), **body)


async def commit_files(hub: Hub, request: Request, body: Json) -> Any:
    return await world.commit_files(hub, _full_name(request), **body)


async def change_settings(hub: Hub, request: Request, body: Json) -> Any:
    return world.change_settings(hub, **body)


async def add_fault(hub: Hub, request: Request, body: Json) -> Any:
    try:
        return asdict(hub.faults.add(**body))
    except re.error as error:
        raise ApiError(422, f"bad pattern: {error}") from None


async def list_faults(hub: Hub, request: Request, body: Json) -> Any:
    return [asdict(fault) for fault in hub.faults.all]


async def clear_faults(hub: Hub, request: Request, body: Json) -> Any:
    hub.faults.clear()
    return {}


async def get_state(hub: Hub, request: Request, body: Json) -> Any:
    return summary.summarize(hub)


async def get_credentials(hub: Hub, request: Request, body: Json) -> Any:
    return sorted(hub.state.credentials)


async def clear_requests(hub: Hub, request: Request, body: Json) -> Any:
    hub.requests.clear()
    return {}


def _number(request: Request, name: str) -> int:
    try:
        return int(request.path_params[name])
    except ValueError:
        raise ApiError(404, f"{name} is not a number") from None


def _full_name(request: Request) -> str:
    return f"{request.path_params['owner']}/{request.path_params['repo']}"


def _route(method: str, path: str, action: Action) -> Route:
    async def endpoint(request: Request) -> Response:
        if request.client is None or not request.client.host.startswith(LOOPBACK):
            return JSONResponse({"message": "only from this machine"}, 403)
        try:
            body = await request.json() if await request.body() else {}
            return JSONResponse(await action(request.app.state.hub, request, body))
        except ApiError as error:
            return JSONResponse({"message": error.message}, error.status)
        except (TypeError, ValueError) as error:
            # The body's fields are the actions' own parameters: a wrong one is told by its name.
            return JSONResponse({"message": str(error)}, 422)

    return Route(f"/_standin{path}", endpoint, methods=[method])


ROUTES = [
    _route("POST", "/apps", create_app),
    _route("PATCH", "/apps/{app_id}", change_app),
    _route("POST", "/apps/{app_id}/keys", add_key),
    _route("POST", "/apps/{app_id}/installations", install),
    _route("DELETE", "/installations/{installation_id}", uninstall),
    _route("PUT", "/installations/{installation_id}/suspended", suspend),
    _route("DELETE", "/installations/{installation_id}/suspended", unsuspend),
    _route("DELETE", "/installations/{installation_id}/repositories", remove_repositories),
    _route("POST", "/users", create_user),
    _route("POST", "/repositories", create_repository),
    _route("PUT", "/repositories/{owner}/{repo}/collaborators", set_collaborator),
    _route("POST", "/repositories/{owner}/{repo}/commits", commit_files),
    _route("PATCH", "/settings", change_settings),
    _route("POST", "/faults", add_fault),
    _route("GET", "/faults", list_faults),
    _route("DELETE", "/faults", clear_faults),
    _route("GET", "/state", get_state),
    _route("GET", "/credentials", get_credentials),
    _route("DELETE", "/requests", clear_requests),
]
