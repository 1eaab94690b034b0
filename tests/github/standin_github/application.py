"""The ASGI application: all routes of one GitHub on one port."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from standin_github import admin, git_http
from standin_github.front import Front
from standin_github.hub import Hub
from standin_github.pages import routes as pages
from standin_github.rest import (
    apps,
    checks,
    comments,
    contents,
    hook,
    issues,
    labels,
    manifest,
    meta,
    pulls,
    reactions,
    refs,
    repositories,
)


def build(hub: Hub) -> Front:
    """The order matters: the first route that matches answers."""
    routes: list[BaseRoute] = [
        *admin.ROUTES,
        *apps.ROUTES,
        *hook.ROUTES,
        *manifest.ROUTES,
        *comments.ROUTES,
        *labels.ROUTES,
        *reactions.ROUTES,
        *issues.ROUTES,
        *pulls.ROUTES,
        *checks.ROUTES,
        *refs.ROUTES,
        *contents.ROUTES,
        *repositories.ROUTES,
        *meta.ROUTES,
        *git_http.ROUTES,
        *pages.ROUTES,
    ]
    app = Starlette(routes=routes, lifespan=_lifespan)
    app.state.hub = hub
    app.state.templates = pages.environment()
    return Front(app, hub)


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    hub: Hub = app.state.hub
    async with hub.webhooks:
        saver = asyncio.create_task(hub.keep_saving())
        try:
            yield
        finally:
            saver.cancel()
            await asyncio.gather(saver, return_exceptions=True)
    hub.dirty = True
    hub.save()
