"""The application: which address goes where, and the headers that every answer has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from patchwright_traces import queries
from patchwright_traces.database import Database
from patchwright_traces.jaeger_api import JaegerApi
from patchwright_traces.pages import Pages
from patchwright_traces.receiver import Receiver
from patchwright_traces.recording import Limits

_SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the traces are kept, and how many."""

    database: Path
    limits: Limits = field(default_factory=Limits)


def create_app(settings: Settings) -> Starlette:
    """An ASGI application that owns the database file for the time of its lifespan."""
    database = Database(settings.database)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with database:
            yield

    return Starlette(
        routes=_routes(database, settings.limits),
        middleware=[Middleware(_Headers)],
        lifespan=lifespan,
    )


def _routes(database: Database, limits: Limits) -> list[BaseRoute]:
    pages, api = Pages(database), JaegerApi(database)

    async def healthz(_: Request) -> Response:
        await database.read(queries.revision)
        return JSONResponse({"status": "ok"})

    return [
        Route("/v1/traces", Receiver(database, limits).export, methods=["POST"]),
        Route("/", pages.traces),
        Route("/trace/{trace_id}", pages.trace),
        Route("/api/traces", api.traces),
        Route("/api/traces/{trace_id}", api.trace),
        Route("/api/services", api.services),
        Route("/api/services/{service:path}/operations", api.operations),
        Route("/api/operations", api.operations_with_kinds),
        Route("/api/v3/services", api.services_v3),
        Route("/api/v3/operations", api.operations_v3),
        Route("/healthz", healthz),
        Mount("/static", StaticFiles(packages=[("patchwright_traces", "static")])),
    ]


class _Headers:
    """Adds the security headers, and how long a browser may keep what it got."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_headers(scope["path"])]
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def _headers(path: str) -> list[tuple[bytes, bytes]]:
    static = path.startswith("/static/")
    caching = {"Cache-Control": "max-age=31536000, immutable" if static else "no-cache"}
    return [
        (name.lower().encode(), value.encode())
        for name, value in (_SECURITY_HEADERS | caching).items()
    ]
