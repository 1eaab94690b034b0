"""GitHub as the App itself sees it: its JWT, and the requests that only the App may make.

What an answer means for whoever asked is decided where it was asked; what is wrong with
the App or with GitHub as a whole is the same everywhere and is a `Retry` from here.
"""

from __future__ import annotations

import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, cast

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import BaseModel, ValidationError

from patchwright_common.errors import Permanent, Retry
from patchwright_vault.fetching import TOTAL_TIMEOUT, Answer, UnansweredError, fetch
from patchwright_vault.store import GITHUB_APP, GitHubApp, MissingError, Store

if TYPE_CHECKING:
    import httpx2 as httpx
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

JWT_LIFETIME = 540
"""Seconds; GitHub refuses more than 600 and allows for no drift."""
JWT_BACKDATE = 60
"""Seconds into the past, as GitHub advises, against clocks that drift."""
LONGEST_WAIT = 3600.0
"""Seconds; GitHub's limits are by the hour, so a longer wait is a clock that is wrong."""
LIMITED = ("rate limit", "abuse detection")
"""In GitHub's words for its limits, in lower case."""
SECONDARY_LIMIT_WAIT = 60.0
"""Seconds to wait at a limit when GitHub names no time, as its documentation asks.
https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api"""
ACCEPT = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}


class _Refused(BaseModel):
    message: str = ""


def app_jwt(app: GitHubApp, now: float, *, checked: bool = False) -> str:
    """Prove to be the App (RS256). Raises `Permanent` when the key is not an RSA key in PEM.

    `checked` spares the test of the key's primes, eighty times the work of a signature: for a
    record that passed it on its way into the store.
    """
    claims = {
        "iat": int(now) - JWT_BACKDATE,
        "exp": int(now) + JWT_LIFETIME,
        "iss": app.app_id,
    }
    try:
        key = load_pem_private_key(
            app.private_key.encode(), None, unsafe_skip_rsa_key_validation=checked
        )
        return jwt.encode(claims, cast("RSAPrivateKey", key), algorithm="RS256")
    except (ValueError, TypeError, AttributeError, UnsupportedAlgorithm, jwt.PyJWTError):
        raise Permanent("The App's private key is not an RSA key in PEM.") from None


class AppClient:
    """Makes requests as the App, or with one of its tokens, on the App's own GitHub."""

    def __init__(self, store: Store, outside: httpx.AsyncClient, api_url: str) -> None:
        """`api_url` serves an App whose record names no GitHub."""
        self._store = store
        self._outside = outside
        self._api_url = api_url.rstrip("/")

    async def app(self) -> GitHubApp:
        """The App's record, its `api_url` filled in. Raises `Retry` while there is none.

        Nobody can be told without the App: requests wait until the operator is done.
        """
        try:
            app = GitHubApp.model_validate_json(await self._store.get(GITHUB_APP))
        except MissingError as missing:
            raise Retry(missing.reason) from None
        return app.model_copy(update={"api_url": (app.api_url or self._api_url).rstrip("/")})

    async def request(
        self, method: str, path: str, body: Any = None, *, timeout: float = TOTAL_TIMEOUT
    ) -> Answer:
        """GitHub's answer to the App: success, or a refusal of this one request.

        Raises `Retry` for what is wrong with more than the request: GitHub is away or
        limits the rate, the App's credentials are not accepted.
        """
        app = await self.app()
        return await self.request_of(app, method, path, body, timeout=timeout)

    async def request_of(
        self,
        app: GitHubApp,
        method: str,
        path: str,
        body: Any = None,
        *,
        timeout: float = TOTAL_TIMEOUT,
    ) -> Answer:
        """As `request`, for a record that is at hand already."""
        credential = app_jwt(app, time.time(), checked=True)
        answer = await self.send(app.api_url, method, path, credential, body, timeout=timeout)
        trouble = general_trouble(answer)
        if trouble is not None:
            raise trouble
        return answer

    async def send(
        self,
        api_url: str,
        method: str,
        path: str,
        credential: str,
        body: Any = None,
        *,
        timeout: float = TOTAL_TIMEOUT,
    ) -> Answer:
        """Whatever GitHub answers to this credential. Raises `Retry` for no answer."""
        headers = {"Authorization": f"Bearer {credential}", **ACCEPT}
        try:
            return await fetch(
                self._outside,
                method,
                f"{api_url}/{path}",
                headers=headers,
                json=body,
                timeout=timeout,
            )
        except UnansweredError as error:
            raise Retry(f"GitHub did not answer: {error.reason}") from None


def general_trouble(answer: Answer) -> Retry | None:
    """What no change of the request would mend. The body is not quoted: it may echo what was sent.

    Wrong credentials are the operator's to mend and not a fault of the request: without
    them nobody can be told on GitHub, so requests wait.
    """
    message = message_of(answer)
    match answer.status:
        case 401:
            return Retry("GitHub does not accept the App's id and private key")
        case 404 if "integration" in message:
            return Retry("GitHub does not know the App's id")
        case 403 if "suspended" in message:
            return None
        case status if status in (403, 408, 429) or status >= 500 or 300 <= status < 400:
            return Retry(f"GitHub answered {status}", after=_wait(answer, message))
    return None


def _wait(answer: Answer, message: str) -> float | None:
    """As long as GitHub says; at a limit without a word on it, as long as it wants us to."""
    named = wait_of(answer)
    limited = answer.status == 429 or any(words in message for words in LIMITED)
    return SECONDARY_LIMIT_WAIT if named is None and limited else named


def message_of(answer: Answer) -> str:
    """GitHub's words in lower case, to be matched and not to be shown."""
    try:
        return _Refused.model_validate_json(answer.body).message.lower()
    except ValidationError:
        return ""


def wait_of(answer: Answer) -> float | None:
    """Seconds that the server asks for, if it says so."""
    after = answer.headers.get("retry-after", "")
    if after.isascii() and after.isdecimal():
        return min(float(after), LONGEST_WAIT)
    with suppress(ValueError):  # a proxy may name a date
        named = parsedate_to_datetime(after).timestamp() - time.time()
        return min(max(0.0, named), LONGEST_WAIT)
    reset = answer.headers.get("x-ratelimit-reset", "")
    limited = answer.headers.get("x-ratelimit-remaining") == "0"
    if limited and reset.isascii() and reset.isdecimal():
        return min(max(1.0, float(reset) - time.time()), LONGEST_WAIT)
    return None
