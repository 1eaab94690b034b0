"""About the API itself: the quota, the version, the caller, and what is not there."""

from __future__ import annotations

from starlette.responses import Response

from standin_github.auth import Anonymous, UserCaller
from standin_github.errors import ApiError, not_accessible, not_found
from standin_github.rest.call import Call, answer, route
from standin_github.views.accounts import user

METHODS = ("GET", "POST", "PATCH", "PUT", "DELETE")


async def rate_limit(call: Call) -> Response:
    """Asking costs nothing."""
    core = call.hub.limits.quota(call.caller.name).numbers()
    resources = {"core": core, "search": core, "graphql": core}
    return answer({"resources": resources, "rate": core})


async def meta(call: Call) -> Response:
    return answer({"verifiable_password_authentication": False, "installed_version": "3.18.0"})


async def get_authenticated_user(call: Call) -> Response:
    if isinstance(call.caller, UserCaller):
        return answer(user(call.urls, call.caller.account))
    if isinstance(call.caller, Anonymous):
        raise ApiError(401, "Requires authentication")
    raise not_accessible()


async def get_user(call: Call) -> Response:
    account = call.state.account(call.path("username"))
    if account is None:
        raise not_found()
    return answer(user(call.urls, account))


async def unknown(call: Call) -> Response:
    raise not_found()


ROUTES = [
    route("GET", "/rate_limit", rate_limit),
    route("GET", "/meta", meta),
    route("GET", "/user", get_authenticated_user),
    route("GET", "/users/{username}", get_user),
    *(route(method, "/{anything:path}", unknown) for method in METHODS),
]
