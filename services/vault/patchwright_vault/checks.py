"""Tries each part for real; `findings.py` says what the answers mean."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from patchwright_vault.app import app_jwt
from patchwright_vault.audit import Ask, Grant
from patchwright_vault.fetching import Answer, UnansweredError, fetch
from patchwright_vault.findings import (
    CREATE_APP,
    NO_APP,
    Delivery,
    Finding,
    HookConfig,
    Installation,
    installations_finding,
    model_finding,
    token_finding,
    webhook_finding,
)
from patchwright_vault.handlers import parsed
from patchwright_vault.store import GITHUB_APP, MODEL_KEY, GitHubApp, MissingError, Store

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx2 as httpx

log = logging.getLogger(__name__)

TRIED = 3
"""Installations for which a token is minted in one check."""
STEP_TIMEOUT = 4.0
"""Seconds for one request."""
CHECK_TIMEOUT = 9.0
"""Seconds for all of one check: less than the vault has for an answer."""
JSON = "application/vnd.github+json"
T = TypeVar("T")


class CheckRequest(BaseModel):
    """Which part."""

    model_config = ConfigDict(hide_input_in_errors=True)

    what: Literal["webhook", "token", "model"]


class FoundError(Exception):
    """It is clear before the end what is wrong."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.detail)
        self.finding = finding


class _Minted(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    token: str


class _Repository(BaseModel):
    full_name: str


class _Repositories(BaseModel):
    repositories: list[_Repository]


class Checks:
    """Answers `check`."""

    def __init__(
        self, store: Store, outside: httpx.AsyncClient, *, github_url: str, model_url: str
    ) -> None:
        self._store = store
        self._outside = outside
        self._github_url = github_url.rstrip("/")
        self._model_url = model_url.rstrip("/")

    async def check(self, ask: Ask) -> Grant:
        """The finding, as JSON: what is wrong is an answer and not an error."""
        what = parsed(CheckRequest, ask).what
        tried = {"webhook": self._webhook, "token": self._token, "model": self._model}[what]
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                finding = await tried()
        except FoundError as found:
            finding = found.finding
        except TimeoutError:
            finding = Finding(
                ok=False,
                detail=f"The answers took longer than {CHECK_TIMEOUT:g} s.",
                advice="Check again; if it stays so, look at the network of this machine.",
            )
        return Grant(finding.model_dump_json())

    async def _webhook(self) -> Finding:
        app = await self._app()
        config = await self._as_app(app, "app/hook/config", HookConfig)
        newest = await self._as_app(app, "app/hook/deliveries?per_page=1", list[Delivery])
        return webhook_finding(config, newest[0] if newest else None, app.html_url)

    async def _token(self) -> Finding:
        app = await self._app()
        found = await self._as_app(app, "app/installations?per_page=100", list[Installation])
        wrong = installations_finding(found, app.html_url)
        if wrong:
            return wrong
        active = [installation for installation in found if not installation.suspended_at]
        covered: dict[str, Sequence[str]] = {}
        for installation in active[:TRIED]:
            covered[installation.owner] = await self._repositories(app, installation)
        return token_finding(covered, len(active) - len(covered))

    async def _model(self) -> Finding:
        host = urlsplit(self._model_url).netloc
        try:
            key = (await self._store.get(MODEL_KEY)).decode()
        except MissingError:
            return Finding(
                ok=False,
                detail="The vault holds no key for the model.",
                advice="Paste it in the set-up pages (`just setup`), or `just secrets set "
                "model-key`.",
            )
        headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
        try:
            answer = await fetch(
                self._outside, "GET", f"{self._model_url}/v1/models?limit=1", headers=headers
            )
        except UnansweredError as error:
            return Finding(
                ok=False,
                detail=f"The model's API at {host} gave no answer: {error.reason}.",
                advice="Check ANTHROPIC_BASE_URL and that this machine may reach it.",
            )
        return model_finding(answer.status, host, listing=_is_listing(answer.body))

    async def _repositories(self, app: GitHubApp, installation: Installation) -> list[str]:
        """Those that a token of the installation sees; the token is revoked again."""
        token = (
            await self._as_app(
                app,
                f"app/installations/{installation.id}/access_tokens",
                _Minted,
                method="POST",
                body={"permissions": {"metadata": "read"}},
            )
        ).token
        try:
            path = "installation/repositories?per_page=100"
            found = await self._read(app, "GET", path, token, _Repositories)
            return [repository.full_name for repository in found.repositories]
        finally:
            # It ends by itself within the hour, and could only read names until then.
            with contextlib.suppress(FoundError):
                await self._request(app, "DELETE", "installation/token", token)

    # --- GitHub ------------------------------------------------------------------------

    async def _app(self) -> GitHubApp:
        try:
            record = await self._store.get(GITHUB_APP)
        except MissingError:
            raise FoundError(Finding(ok=False, detail=NO_APP, advice=CREATE_APP)) from None
        return GitHubApp.model_validate_json(record)

    async def _as_app(
        self, app: GitHubApp, path: str, kind: type[T], *, method: str = "GET", body: Any = None
    ) -> T:
        return await self._read(
            app, method, path, app_jwt(app, time.time(), checked=True), kind, body=body
        )

    async def _read(
        self, app: GitHubApp, method: str, path: str, token: str, kind: type[T], *, body: Any = None
    ) -> T:
        answer = await self._request(app, method, path, token, body=body)
        try:
            return TypeAdapter(kind).validate_json(answer.body)
        except ValidationError:
            host = self._host(app)
            raise FoundError(
                Finding(
                    ok=False,
                    detail=f"{host} answers, but not as GitHub's API does.",
                    advice="Check the address of GitHub's API: on an Enterprise Server it is "
                    "https://HOST/api/v3.",
                )
            ) from None

    async def _request(
        self, app: GitHubApp, method: str, path: str, token: str, *, body: Any = None
    ) -> Answer:
        """A success. Raises `FoundError` for everything else."""
        host = self._host(app)
        headers = {"Authorization": f"Bearer {token}", "Accept": JSON}
        try:
            answer = await fetch(
                self._outside,
                method,
                f"{app.api_url or self._github_url}/{path}",
                headers=headers,
                json=body,
                timeout=STEP_TIMEOUT,
            )
        except UnansweredError as error:
            raise FoundError(
                Finding(
                    ok=False,
                    detail=f"GitHub's API at {host} gave no answer: {error.reason}.",
                    advice="Check its address and that this machine may reach it, then check "
                    "again. Nothing was changed.",
                )
            ) from None
        if not 200 <= answer.status < 300:
            raise FoundError(_refused(answer, host, path))
        return answer

    def _host(self, app: GitHubApp) -> str:
        return urlsplit(app.api_url or self._github_url).netloc


def _refused(answer: Answer, host: str, path: str) -> Finding:
    detail = f"GitHub's API at {host} answered {answer.status} to {path.partition('?')[0]}."
    if answer.status == 401:
        return Finding(
            ok=False,
            detail=f"{host} does not accept the App's private key.",
            advice="Generate a new private key on the App's settings page and enter it. If it is "
            "new already, check this machine's clock.",
        )
    if answer.status == 404 and b"ntegration" in answer.body:
        return Finding(
            ok=False,
            detail=f"{host} does not know the App's id.",
            advice="Check the id and the address of GitHub's API, or whether the App was deleted.",
        )
    if answer.status in (403, 429) or answer.status >= 500:
        return Finding(ok=False, detail=detail, advice="Check again in a few minutes.")
    return Finding(
        ok=False, detail=detail, advice="Check the address of GitHub's API and the App's settings."
    )


def _is_listing(body: bytes) -> bool:
    try:
        found = json.loads(body)
    except ValueError:
        return False
    return isinstance(found, dict) and isinstance(found.get("data"), list)
