"""The last step of the manifest flow: a code becomes the App's credentials, once."""

from __future__ import annotations

from starlette.responses import Response

from standin_github.errors import not_found
from standin_github.rest.call import Call, answer, route
from standin_github.views.accounts import app as app_view


async def convert(call: Call) -> Response:
    """Nobody has to be signed in: the code is the proof."""
    found = call.hub.manifest_codes.take(call.path("code"))
    if found is None or found.app_id not in call.state.apps:
        raise not_found()
    app = call.state.apps[found.app_id]
    view = app_view(call.state, call.urls, app) | {
        "client_secret": found.client_secret,
        "webhook_secret": found.webhook_secret or None,
        "pem": found.private_key,
    }
    return answer(view, 201)


ROUTES = [route("POST", "/app-manifests/{code}/conversions", convert)]
