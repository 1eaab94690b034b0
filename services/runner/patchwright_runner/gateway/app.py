"""The gateway's application: few paths, each with one spelling, and errors in the API's shape."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from patchwright_common.errors import Permanent
from patchwright_runner.gateway import models
from patchwright_runner.gateway.conversation import COUNT_TOKENS, MESSAGES, Conversation
from patchwright_runner.gateway.ledger import Ledger, StoppedError
from patchwright_runner.gateway.refusal import API_ERROR, NOT_FOUND, RefusedError, response
from patchwright_runner.gateway.remarks import Remarks
from patchwright_runner.gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

ALLOWED = f"POST {MESSAGES}, POST {COUNT_TOKENS}, GET {models.PATH}"
PLAIN_PATH = re.compile(rb"/|(/[A-Za-z0-9_][A-Za-z0-9._-]*)+")
"""Nothing encoded, empty or pointing upwards; no other host before it."""


class Endpoints:
    """An ASGI application."""

    def __init__(
        self,
        settings: GatewaySettings,
        conversation: Conversation,
        ledger: Ledger,
        remarks: Remarks,
    ) -> None:
        self._ledger = ledger
        self._remarks = remarks
        self._app = Starlette(
            routes=[
                Route(MESSAGES, _Streaming(conversation.create), methods=["POST"]),
                Route(COUNT_TOKENS, _Streaming(conversation.count), methods=["POST"]),
                *models.routes(settings),
                # Claude Code has asked for it to see whether anybody is there.
                Route("/", _alive),
            ],
            exception_handlers={
                RefusedError: self._refused,
                StoppedError: self._stopped,
                HTTPException: _not_found,
                Exception: _failed,
            },
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A path that has another spelling than ours is no path."""
        try:
            if PLAIN_PATH.fullmatch(scope["raw_path"]):
                await self._app(scope, receive, send)
            else:
                await response(_no_such_path(404))(scope, receive, send)
        except Exception:
            log.exception("the model gateway failed")
            raise

    async def _refused(self, _request: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)  # noqa: S101 - for the type checker
        self._remarks.add(f"a request to the model was refused ({error.status}): {error.message}")
        return response(error)

    async def _stopped(self, _request: Request, _error: Exception) -> Response:
        """A 400, as that is what clients do not try again."""
        verdict = self._ledger.verdict
        reason = verdict.reason if isinstance(verdict, Permanent) else "This job has been stopped."
        return response(RefusedError(reason))


class _Streaming:
    """An endpoint that sends its answer itself, piece by piece."""

    def __init__(self, handle: Callable[[Request, Send], Awaitable[None]]) -> None:
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._handle(Request(scope, receive), send)


def _no_such_path(status: int) -> RefusedError:
    return RefusedError(f"This gateway only has {ALLOWED}.", status=status, kind=NOT_FOUND)


async def _not_found(_request: Request, error: Exception) -> Response:
    """404 and 405 of the router."""
    return response(_no_such_path(error.status_code if isinstance(error, HTTPException) else 404))


async def _alive(_request: Request) -> Response:
    return Response()


async def _failed(_request: Request, _error: Exception) -> Response:
    """A bug: Starlette raises it again after the answer."""
    return response(RefusedError("The gateway failed.", status=500, kind=API_ERROR, again=True))
