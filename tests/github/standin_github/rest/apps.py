"""What an App may ask with its JWT, and what an installation token may ask about itself."""

from __future__ import annotations

import secrets
import time
from typing import Any

from starlette.responses import Response

from standin_github import installations
from standin_github.access import LEVELS
from standin_github.auth import InstallationCaller
from standin_github.clock import iso
from standin_github.errors import ApiError, not_found, suspended
from standin_github.records import Installation, InstallationToken
from standin_github.rest.call import Call, answer, nothing, route
from standin_github.views.accounts import app as app_view
from standin_github.views.accounts import installation as installation_view
from standin_github.views.repository import permissions as permissions_view
from standin_github.views.repository import repository as repository_view

Json = dict[str, Any]


async def get_app(call: Call) -> Response:
    return answer(app_view(call.state, call.urls, call.app()))


async def list_installations(call: Call) -> Response:
    app = call.app()
    rows = [i for i in call.state.installations.values() if i.app_id == app.id]
    page, headers = call.page(rows)
    return answer([installation_view(call.state, call.urls, i) for i in page], headers=headers)


async def get_installation(call: Call) -> Response:
    return answer(installation_view(call.state, call.urls, _own_installation(call)))


async def get_repository_installation(call: Call) -> Response:
    app = call.app()
    installation = call.state.installation_of(app, call.known_repository())
    if installation is None:
        raise not_found()
    return answer(installation_view(call.state, call.urls, installation))


def _own_installation(call: Call) -> Installation:
    app = call.app()
    installation = call.state.installations.get(call.number("installation_id"))
    if installation is None or installation.app_id != app.id:
        raise not_found()
    return installation


async def delete_installation(call: Call) -> Response:
    installations.uninstall(call.hub, _own_installation(call).id)
    return nothing()


async def suspend_installation(call: Call) -> Response:
    installations.suspend(call.hub, _own_installation(call).id)
    return nothing()


async def unsuspend_installation(call: Call) -> Response:
    installations.unsuspend(call.hub, _own_installation(call).id)
    return nothing()


async def create_token(call: Call) -> Response:
    installation = _own_installation(call)
    if installation.suspended_at is not None:
        raise suspended()
    body = await call.json()
    token = InstallationToken(
        id=f"ghs_{secrets.token_hex(18)}",
        installation_id=installation.id,
        permissions=_asked_permissions(installation, body),
        repository_ids=_asked_repositories(call, installation, body),
        expires_at=time.time() + call.hub.settings.token_lifetime,
    )
    call.state.installation_tokens[token.id] = token
    call.state.credentials.add(token.id)
    return answer(_token_view(call, token), 201)


def _asked_permissions(installation: Installation, body: Json) -> dict[str, str]:
    """Metadata can be read with any token."""
    asked = body.get("permissions") or installation.permissions
    if not isinstance(asked, dict):
        raise ApiError(422, "Invalid request.\n\nPermissions must be an object.")
    for name, level in asked.items():
        held = installation.permissions.get(name)
        if held is None or level not in LEVELS or LEVELS.index(level) > LEVELS.index(held):
            raise ApiError(422, "The permissions requested are not granted to this installation.")
    return {"metadata": "read", **asked}


def _asked_repositories(call: Call, installation: Installation, body: Json) -> list[int] | None:
    by_name, by_id = body.get("repositories"), body.get("repository_ids")
    if by_name is None and by_id is None:
        return None
    covered = {call.state.repositories[i].name: i for i in installation.repository_ids}
    asked = [covered.get(name) for name in by_name or []]
    asked += [i if i in covered.values() else None for i in by_id or []]
    found = [i for i in asked if i is not None]
    if len(found) < len(asked):
        raise ApiError(
            422,
            "There is at least one repository that does not exist or is not accessible to the"
            " parent installation.",
        )
    return found


def _token_view(call: Call, token: InstallationToken) -> Json:
    view: Json = {
        "token": token.id,
        "expires_at": iso(token.expires_at),
        "permissions": token.permissions,
        "repository_selection": "selected",
    }
    if token.repository_ids is not None:
        rows = [call.state.repositories[i] for i in token.repository_ids]
        view["repositories"] = [repository_view(call.state, call.urls, r) for r in rows]
    return view


def _own_token(call: Call) -> InstallationCaller:
    if not isinstance(call.caller, InstallationCaller):
        raise ApiError(403, "You must authenticate with an installation access token.")
    return call.caller


async def revoke_token(call: Call) -> Response:
    del call.state.installation_tokens[_own_token(call).token.id]
    return nothing()


async def list_repositories(call: Call) -> Response:
    caller = _own_token(call)
    ids = caller.repository_ids()
    page, headers = call.page([call.state.repositories[i] for i in ids])
    role = "write" if caller.token.permissions.get("contents") == "write" else "read"
    view = {
        "total_count": len(ids),
        "repository_selection": "selected",
        "repositories": [
            repository_view(call.state, call.urls, r) | {"permissions": permissions_view(role)}
            for r in page
        ],
    }
    return answer(view, headers=headers)


ROUTES = [
    route("GET", "/app", get_app),
    route("GET", "/app/installations", list_installations),
    route("GET", "/app/installations/{installation_id}", get_installation),
    route("DELETE", "/app/installations/{installation_id}", delete_installation),
    route("PUT", "/app/installations/{installation_id}/suspended", suspend_installation),
    route("DELETE", "/app/installations/{installation_id}/suspended", unsuspend_installation),
    route("POST", "/app/installations/{installation_id}/access_tokens", create_token),
    route("GET", "/repos/{owner}/{repo}/installation", get_repository_installation),
    route("GET", "/installation/repositories", list_repositories),
    route("DELETE", "/installation/token", revoke_token),
]
