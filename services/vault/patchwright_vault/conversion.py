"""A manifest's code becomes the App's credentials, once, and they are not lost on the way.

A code is good for a single conversion within an hour
(https://docs.github.com/apps/sharing-github-apps/registering-a-github-app-from-a-manifest),
and GitHub shows the private key in its answer and never again. So storing is tried out
first, what GitHub answered is held in memory until it is stored, and it is stored whole in
one record (`conversion`) before its parts go where they belong.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import secrets
import time
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from patchwright_common.credentials import AppFacts
from patchwright_common.errors import Permanent, Retry
from patchwright_vault.accepting import accepted, api_address, checked_app, page_address
from patchwright_vault.administration import Changes, require_sealed
from patchwright_vault.audit import Ask, Grant
from patchwright_vault.fetching import Answer, UnansweredError, fetch
from patchwright_vault.handlers import parsed
from patchwright_vault.store import (
    CONVERSION,
    GITHUB_APP,
    WEBHOOK_SECRET,
    GitHubApp,
    MissingError,
    Store,
)

if TYPE_CHECKING:
    import httpx2 as httpx

log = logging.getLogger(__name__)

PROBE = "probe"
PATIENCE = 9.0
"""Seconds until the asker is told to come back; the conversion goes on without them."""
CONVERSION_TIMEOUT = 30.0
"""Seconds for GitHub's answer."""
HOLD = 3600.0
"""Seconds that an App is held in memory when it cannot be stored."""
HELD_LIMIT = 3
"""Apps."""
ELSEWHERE = 2.0
"""Seconds in which another vault that converted the same code may store what it got."""
BY_HAND = (
    "If the App is there at GitHub (Settings, Developer settings, GitHub Apps), delete it and "
    "begin again, or enter its id, a new private key and a new webhook secret by hand."
)


class ConvertRequest(BaseModel):
    """A code is as good as the App's key until it is used."""

    model_config = ConfigDict(hide_input_in_errors=True)

    code: str = Field(pattern=r"^[A-Za-z0-9_-]{1,200}$", repr=False)
    api_url: str


class _Owner(BaseModel):
    login: str = ""


class _Made(BaseModel):
    """What of GitHub's answer is used."""

    model_config = ConfigDict(hide_input_in_errors=True)

    id: int
    slug: str = ""
    pem: str = Field(repr=False)
    webhook_secret: str | None = Field(default=None, repr=False)
    html_url: str = ""
    owner: _Owner = _Owner()


class ConvertedApp(GitHubApp):
    """The App's record, with what tells that a code was already turned into it."""

    code_digest: str = ""
    owner: str = ""

    def facts(self) -> str:
        """What the set-up may know, as JSON."""
        facts = AppFacts(
            app_id=self.app_id, slug=self.slug, api_url=self.api_url, html_url=self.html_url
        )
        return AppFactsWithOwner(**facts.model_dump(), owner=self.owner).model_dump_json()


class AppFactsWithOwner(AppFacts):
    """The account that the App was made under."""

    owner: str = ""


class _Conversion(BaseModel):
    """An App that GitHub made for us, until it is where it belongs."""

    model_config = ConfigDict(hide_input_in_errors=True)

    app: ConvertedApp
    webhook_secret: str = Field(repr=False)


class Conversions:
    """Answers `convert`. The same call again is always safe."""

    def __init__(self, store: Store, outside: httpx.AsyncClient, changes: Changes) -> None:
        self._store = store
        self._outside = outside
        self._changes = changes
        self._running: dict[str, asyncio.Task[str]] = {}
        self._held: dict[str, _Conversion] = {}
        self._keeping = asyncio.Lock()

    async def convert(self, ask: Ask) -> Grant:
        """The App's facts, as JSON."""
        require_sealed(ask)
        request = parsed(ConvertRequest, ask)
        api_url = api_address(request.api_url)
        digest = hashlib.sha256(f"{api_url} {request.code}".encode()).hexdigest()
        task = self._running.get(digest)
        if task is None:
            # A task of its own: an asker who gives up must not take the only copy along.
            task = asyncio.create_task(self._converted(request.code, api_url, digest))
            self._running[digest] = task
            task.add_done_callback(lambda done: self._ended(digest, done))
        done, _ = await asyncio.wait({task}, timeout=PATIENCE)
        if not done:
            raise Retry(
                "GitHub has not answered yet. The vault goes on waiting and nothing is lost: "
                "do the same again in a moment."
            )
        return Grant(task.result())

    def _ended(self, digest: str, task: asyncio.Task[str]) -> None:
        del self._running[digest]
        if not task.cancelled() and task.exception():
            log.warning("a conversion did not end well: %s", type(task.exception()).__name__)

    async def _converted(self, code: str, api_url: str, digest: str) -> str:
        known = await self._known(digest)
        if known:
            return known
        if digest not in self._held:
            if len(self._held) >= HELD_LIMIT:
                raise Retry(
                    f"The vault holds {HELD_LIMIT} Apps that it could not store yet, and takes no "
                    "further one. Nothing was converted: mend the storage and finish those first."
                )
            await self._probe()
            conversion = await self._asked(code, api_url, digest)
            if conversion is None:
                return await self._made_elsewhere(digest)
            self._held[digest] = conversion
            asyncio.get_running_loop().call_later(HOLD, self._forget, digest)
        try:
            return await self._keep(self._held[digest], digest)
        except (Retry, Permanent) as error:
            raise Retry(
                f"GitHub made the App {self._held[digest].app.slug}, but the vault could not store "
                f"its key yet ({error.reason}). Nothing is lost: it is held in memory for an hour, "
                "so keep the vault running, make NATS answer, and do the same again."
            ) from None

    async def _known(self, digest: str) -> str:
        """The facts of an App that this code was already turned into, or nothing."""
        conversion = await self._record(CONVERSION, _Conversion)
        unfinished = conversion is not None and conversion.app.code_digest == digest
        app = await self._record(GITHUB_APP, ConvertedApp)
        if app is None or app.code_digest != digest:
            return await self._keep(conversion, digest) if unfinished else ""
        # Its record is the last to be written: what came before is not done again, since
        # the webhook secret may be a newer one by now.
        if unfinished:
            await self._store.delete(CONVERSION)
        await self._changes.announce(WEBHOOK_SECRET, GITHUB_APP)
        return str(app.facts())

    async def _record(self, name: str, kind: type[Any]) -> Any:
        try:
            return kind.model_validate_json(await self._store.get(name))
        except (MissingError, ValidationError):
            return None

    async def _probe(self) -> None:
        """Raises `Retry` when a secret could not be stored now.

        `Permanent` for a record that does not open: it would not be overwritten either.
        """
        with contextlib.suppress(MissingError):
            await self._store.get(WEBHOOK_SECRET)
        sample = secrets.token_bytes(16)
        try:
            await self._store.put(PROBE, sample)
            kept = await self._store.get(PROBE) == sample
            await self._store.delete(PROBE)
        except Retry as error:
            raise Retry(
                f"The vault cannot store anything at the moment ({error.reason}). Nothing was "
                "converted, and the code stays good for an hour: do the same again later."
            ) from None
        except MissingError:
            kept = False  # another vault tries the same
        if not kept:
            raise Retry("What the vault stores does not come back. Nothing was converted.")

    async def _asked(self, code: str, api_url: str, digest: str) -> _Conversion | None:
        """The App that GitHub made, or None when it does not know the code (any more)."""
        try:
            answer = await fetch(
                self._outside,
                "POST",
                f"{api_url}/app-manifests/{code}/conversions",
                timeout=CONVERSION_TIMEOUT,
            )
        except UnansweredError as error:
            raise _unanswered(error) from None
        if answer.status == 404:
            return None
        if answer.status != 201:
            raise _refusal(answer)
        try:
            made = _Made.model_validate_json(answer.body)
            app = ConvertedApp(
                app_id=str(made.id),
                private_key=made.pem,
                slug=made.slug,
                api_url=api_url,
                html_url=page_address(made.html_url),
                code_digest=digest,
                owner=made.owner.login,
            )
            secret = made.webhook_secret or ""
            return _Conversion(
                app=checked_app(app),
                webhook_secret=accepted(WEBHOOK_SECRET, secret).decode() if secret else "",
            )
        except (ValidationError, Permanent):
            raise Permanent(
                f"GitHub's answer could not be read, and it gives none again. {BY_HAND}"
            ) from None

    async def _made_elsewhere(self, digest: str) -> str:
        """Raises `Permanent` unless another vault has the App, or will have in a moment."""
        deadline = time.monotonic() + ELSEWHERE
        while time.monotonic() < deadline:
            known = await self._known(digest)
            if known:
                return known
            await asyncio.sleep(0.2)
        raise Permanent(
            "GitHub does not know this code: it was used already, or is older than an hour. "
            f"Nothing was changed here. {BY_HAND}"
        )

    async def _keep(self, conversion: _Conversion, digest: str) -> str:
        """Put everything where it belongs; from the first write on it survives this process."""
        async with self._keeping:
            await self._store.put(CONVERSION, conversion.model_dump_json().encode())
            if conversion.webhook_secret:
                await self._store.put(WEBHOOK_SECRET, conversion.webhook_secret.encode())
            await self._store.put(GITHUB_APP, conversion.app.model_dump_json().encode())
            await self._store.delete(CONVERSION)
        self._held.pop(digest, None)
        await self._changes.announce(WEBHOOK_SECRET, GITHUB_APP)
        return conversion.app.facts()

    def _forget(self, digest: str) -> None:
        if self._held.pop(digest, None):
            log.error("an App was not stored within an hour and is forgotten: %s", BY_HAND)


def _unanswered(error: UnansweredError) -> Retry:
    if not error.sent:
        return Retry(
            f"GitHub could not be asked: {error.reason}. Nothing was converted, and the code stays "
            "good for an hour: check the address and do the same again."
        )
    return Retry(
        f"GitHub's answer did not arrive: {error.reason}. It may have made the App all the same. "
        f"Do the same again; if GitHub does not know the code any more: {BY_HAND}"
    )


def _refusal(answer: Answer) -> Permanent | Retry:
    """The body is not quoted: on its way to an error text it could be anything."""
    status = answer.status
    if 300 <= status < 400:
        return Permanent(
            "This address is not that of GitHub's API: it redirects. Nothing was converted. "
            "On an Enterprise Server the API is at https://HOST/api/v3."
        )
    if status in (403, 429) or status >= 500:
        after = answer.headers.get("retry-after", "")
        return Retry(
            f"GitHub answered {status}. Do the same again in a while; if GitHub does not know the "
            f"code any more then: {BY_HAND}",
            after=min(float(after), HOLD) if after.isdecimal() else None,
        )
    return Permanent(
        f"GitHub answered {status} instead of the App's credentials. Nothing was stored. {BY_HAND}"
    )
