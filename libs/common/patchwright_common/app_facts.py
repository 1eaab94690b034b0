"""What triage, runner and publisher have to know of the App: its name and its GitHub."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from patchwright_common.beside import cancel_until_done
from patchwright_common.errors import Permanent, Retry
from patchwright_common.watching import watch

if TYPE_CHECKING:
    from patchwright_common.bus import Bus
    from patchwright_common.credentials import AppFacts, Vault

log = logging.getLogger(__name__)

RECORD = "github-app"
"""The vault's name for what these facts come from."""
WAIT = 2.0
"""Seconds between two questions while the vault does not know."""
OFTEN = 600.0
"""Seconds between two looks for a change that no note told of."""
DEFAULT_SLUG = "patchwright"
DEFAULT_API_URL = "https://api.github.com"


@dataclass(frozen=True)
class App:
    """The App as a service believes it."""

    slug: str
    """Its name in URLs and mentions."""
    api_url: str
    """GitHub's REST API, without a slash at the end."""

    @property
    def complete(self) -> bool:
        """Nothing is left to be asked."""
        return bool(self.slug and self.api_url)

    def completed(self, facts: AppFacts) -> App:
        """With what the vault knows; what the operator gave to the service wins.

        An App that came from environment variables may lack both.
        """
        return App(
            self.slug or facts.slug or DEFAULT_SLUG,
            (self.api_url or facts.api_url or DEFAULT_API_URL).rstrip("/"),
        )


@asynccontextmanager
async def known_app(bus: Bus, vault: Vault, given: App) -> AsyncIterator[App]:
    """`given` with what is missing in it; waits until the vault knows.

    When set-up makes it another App or another GitHub, the process ends itself as if it
    was told to stop: much is built on these facts, and its supervisor starts it anew.
    """
    if given.complete:
        yield given
        return
    app = given.completed(await _facts(vault))
    log.info("the App is %s on %s", app.slug, app.api_url)
    watching = asyncio.create_task(watch(bus, RECORD, _Changes(vault, given, app).look))
    try:
        yield app
    finally:
        await cancel_until_done(watching)


async def _facts(vault: Vault) -> AppFacts:
    said = ""
    while True:
        try:
            return await vault.app()
        except (Retry, Permanent) as error:
            if error.reason != said:
                log.warning("waiting for the App: %s", error.reason)
            said = error.reason
        await asyncio.sleep(WAIT)


class _Changes:
    """Compares what the vault says now with what the service was built on."""

    def __init__(self, vault: Vault, given: App, app: App) -> None:
        self._vault = vault
        self._given = given
        self._app = app
        self._ended = False

    async def look(self) -> float:
        """End the process once, if the facts differ; the seconds until the next look."""
        try:
            now = self._given.completed(await self._vault.app())
        except (Retry, Permanent) as error:
            # An App that is gone is no other one: what runs may still finish.
            log.info("the App's facts cannot be had at the moment: %s", error.reason)
            return WAIT * 5
        if now != self._app and not self._ended:
            self._ended = True
            log.warning(
                "the App is %s on %s now: stopping, to be started again with it",
                now.slug,
                now.api_url,
            )
            signal.raise_signal(signal.SIGTERM)
        return OFTEN
