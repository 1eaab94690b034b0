"""The HTTP side: routes, the key, and errors in Anthropic's shape."""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from standin_model.errors import InvalidRequestError, error_response
from standin_model.messages import Messages
from standin_model.models import model_info, model_list
from standin_model.playbook import Playbook, load_playbook
from standin_model.recording import Received, Recording
from standin_model.scenario import ScenarioError
from standin_model.threads import ThreadError
from standin_model.usage import prompt_tokens
from standin_model.validation import check_messages, check_request

Answer = Callable[[Request, Received], Awaitable[Response]]


def create_app(
    key: str, *, playbook: Playbook | None = None, least_delay: float = 0.0
) -> Starlette:
    """A scripted Messages API that accepts `key` only. `least_delay` in seconds."""
    recording = Recording()
    messages = Messages(playbook or load_playbook(), least_delay, key)

    async def create_message(request: Request, received: Received) -> Response:
        received.body = await _json(request)
        return await messages.answer(received, _version(request))

    async def count_tokens(request: Request, received: Received) -> Response:
        received.body = await _json(request)
        body = check_request(received.body, _version(request))
        check_messages(body["messages"])
        return JSONResponse({"input_tokens": prompt_tokens(body, body["messages"])})

    async def list_models(request: Request, received: Received) -> Response:
        return JSONResponse(model_list())

    async def get_model(request: Request, received: Received) -> Response:
        return JSONResponse(model_info(request.path_params["name"]))

    async def requests(request: Request) -> Response:
        if request.method == "DELETE":
            recording.clear()
        return JSONResponse(recording.as_json())

    def api(answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            received = recording.add(request.method, request.url.path, request.headers)
            return await _guarded(key, answer, request, received)

        return endpoint

    routes = [
        Route("/v1/messages", api(create_message), methods=["POST"]),
        Route("/v1/messages/count_tokens", api(count_tokens), methods=["POST"]),
        Route("/v1/models", api(list_models)),
        Route("/v1/models/{name}", api(get_model)),
        Route("/_standin/requests", requests, methods=["GET", "DELETE"]),
    ]
    return Starlette(routes=routes, middleware=[Middleware(RequestId)])


async def _guarded(key: str, answer: Answer, request: Request, received: Received) -> Response:
    if not _authorized(request, key):
        return _refused(received, error_response(401))
    try:
        return await answer(request, received)
    except ThreadError as error:
        return _refused(received, error_response(error.status, str(error), code=error.code))
    except (InvalidRequestError, ScenarioError) as error:
        return _refused(received, error_response(400, str(error)))


def _refused(received: Received, response: Response) -> Response:
    received.outcome = str(response.status_code)
    return response


def _authorized(request: Request, key: str) -> bool:
    """Either header, as both the SDK's and plain clients send it."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    bearer = token if scheme.lower() == "bearer" else ""
    given = request.headers.get("x-api-key") or bearer
    return hmac.compare_digest(given.encode(), key.encode())


def _version(request: Request) -> str:
    version = request.headers.get("anthropic-version")
    if not version:
        raise InvalidRequestError("anthropic-version: header is required")
    return version


async def _json(request: Request) -> object:
    try:
        return await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidRequestError("The request body is not valid JSON.") from error


class RequestId:
    """Every answer names its request, as support at the real API asks for it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                name = f"req_01{secrets.token_hex(11)}".encode()
                message["headers"] = [*message.get("headers", []), (b"request-id", name)]
            await send(message)

        await self._app(scope, receive, named)
