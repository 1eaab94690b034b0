"""What everybody may know of the App, from wherever it is known."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from patchwright_common.credentials import AppFacts
from patchwright_common.errors import Permanent, Retry

if TYPE_CHECKING:
    from patchwright_vault.app import AppClient
    from patchwright_vault.store import GitHubApp

log = logging.getLogger(__name__)

TIMEOUT = 4.0
"""Seconds for GitHub to say what the App is called."""
AGAIN = 60.0
"""Seconds between two such questions while it does not."""


class _Named(BaseModel):
    slug: str
    html_url: str = ""


class Facts:
    """The App's record, and what it lacks: one from the environment has neither slug nor page.

    That is the operator's setting, or what GitHub says.
    """

    def __init__(self, app: AppClient, *, slug: str = "", fallback: str = "patchwright") -> None:
        """`slug` is what the operator set; `fallback` serves while nobody knows."""
        self._app = app
        self._slug = slug
        self._fallback = fallback
        self._named: dict[tuple[str, str], _Named] = {}
        self._asked = -AGAIN

    async def facts(self) -> AppFacts:
        """Raises `Retry` while there is no App."""
        app = await self._app.app()
        slug, html_url = app.slug or self._slug, app.html_url
        if not slug:
            named = await self._learnt(app)
            slug, html_url = named.slug, html_url or named.html_url
        return AppFacts(app_id=app.app_id, slug=slug, api_url=app.api_url, html_url=html_url)

    async def _learnt(self, app: GitHubApp) -> _Named:
        """https://docs.github.com/rest/apps/apps#get-the-authenticated-app, asked once."""
        key = (app.app_id, app.api_url)
        if key not in self._named and time.monotonic() >= self._asked + AGAIN:
            self._asked = time.monotonic()
            try:
                answer = await self._app.request_of(app, "GET", "app", timeout=TIMEOUT)
                self._named[key] = _Named.model_validate_json(answer.body)
            except (Retry, Permanent) as error:
                log.warning("GitHub did not say what the App is called: %s", error.reason)
            except ValidationError:
                log.warning("GitHub did not say what the App is called")
        return self._named.get(key) or _Named(slug=self._fallback)
