"""Requests to GitHub's REST API that end as a value, `Retry` or `Permanent`.

The protocol (headers, pages, rate limits, error bodies) is gidgethub's; the wire is httpx2's.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2 as httpx
from gidgethub import BadRequest, GitHubBroken, HTTPException, RateLimitExceeded, sansio
from pydantic import SecretStr

from patchwright_common import clock, telemetry
from patchwright_common.errors import Permanent, Retry

USER_AGENT = "patchwright"
API_VERSION = "2022-11-28"
TIMEOUT = 20.0
"""Seconds for one step of a request: connecting, or the next bytes of the answer."""
TOTAL_TIMEOUT = 60.0
"""Seconds for a whole request, for an answer that trickles."""
REDIRECT_LIMIT = 3
REDIRECTS = (301, 302, 307, 308)
"""GitHub's answers for what was renamed or transferred
(https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api)."""
LIMITED = ("rate limit", "abuse detection")
"""In GitHub's words for its limits: the secondary one comes as 403 like any refusal, and older
Enterprise Servers call it by the second name."""
SECONDARY_LIMIT_WAIT = 60.0
"""Seconds to wait when GitHub names no time, as its documentation asks."""


class RefusedError(Permanent):
    """GitHub understood and said no: 4xx other than rate limits. `status` says which."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"GitHub answered {status}: {message}")
        self.status = status


Renew = Callable[[SecretStr], Awaitable[SecretStr]]
"""Another token for one that GitHub did not accept."""


class Session:
    """GitHub's REST API under one token. Paths are relative to the API's root."""

    def __init__(
        self, client: httpx.AsyncClient, token: SecretStr, renew: Renew | None = None
    ) -> None:
        """`renew` is called once at most: tokens expire and are revoked."""
        self._client = client
        self._token = token
        self._renew = renew

    async def get(self, path: str) -> Any:
        """The decoded body."""
        return (await self._request("GET", path))[0]

    async def pages(self, path: str) -> AsyncIterator[Any]:
        """Every item of a list, page by page."""
        following: str | None = path
        while following:
            items, following = await self._request("GET", following)
            for item in items:
                yield item

    async def post(self, path: str, body: Mapping[str, Any], *, by: float | None = None) -> Any:
        """Create something. May have happened even when it raises `Retry`.

        Nothing is sent after `by`, a time of `clock.now()`: whoever stood still since it
        looked whether to write has to look again.
        """
        return (await self._request("POST", path, body, by))[0]

    async def patch(self, path: str, body: Mapping[str, Any], *, by: float | None = None) -> Any:
        """Change something; `by` as in `post`."""
        return (await self._request("PATCH", path, body, by))[0]

    async def delete(self, path: str) -> None:
        """Delete something; what is already gone is no error."""
        try:
            await self._request("DELETE", path)
        except RefusedError as refused:
            if refused.status != httpx.codes.NOT_FOUND:
                raise

    async def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        by: float | None = None,
    ) -> tuple[Any, str | None]:
        url = self._client.base_url.join(path)
        name = f"{method} {_template(url.path.removeprefix(self._client.base_url.path))}"
        with telemetry.span(name, attributes={"http.request.method": method}):
            try:
                async with asyncio.timeout(TOTAL_TIMEOUT):
                    response = await self._sent(method, url, body, by)
                    if response.status_code == httpx.codes.UNAUTHORIZED and self._renew:
                        # Nothing was done, so any method may be repeated.
                        renew, self._renew = self._renew, None
                        self._token = await renew(self._token)
                        response = await self._sent(method, url, body, by)
            except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
                raise Retry(f"GitHub did not answer: {type(error).__name__}") from error
            try:
                data, _, following = sansio.decipher_response(
                    response.status_code, response.headers, self._quotable(response)
                )
            except HTTPException as error:
                raise _ours(error, response.headers) from error
            except (ValueError, LookupError) as error:
                raise _unreadable(response) from error
        return data, following

    async def _sent(
        self, method: str, url: httpx.URL, body: Mapping[str, Any] | None, by: float | None
    ) -> httpx.Response:
        """The answer, from where the repository is now: the same request, method and body.

        httpx would make a GET of a redirected POST. The token goes to no other host.
        """
        for _ in range(REDIRECT_LIMIT + 1):
            if _origin(url) != _origin(self._client.base_url):
                raise Retry(f"GitHub points to another host: {url.host}")
            response = await self._client.request(
                method,
                url,
                headers=self._headers(body),
                content=_encoded(body),
                extensions={} if by is None else {"trace": _sent_by(by)},
            )
            location = response.headers.get("location")
            if response.status_code not in REDIRECTS or not location:
                return response
            url = url.join(location)
        raise Retry("GitHub redirects in circles")

    def _quotable(self, response: httpx.Response) -> bytes:
        """The body, and that of an error without our token: its words end up on the issue.

        GitHub repeats no header, but a proxy's page may.
        """
        if response.is_success:
            return response.content
        return response.content.replace(self._token.get_secret_value().encode(), b"***")

    def _headers(self, body: Mapping[str, Any] | None) -> dict[str, str]:
        headers = sansio.create_headers(
            USER_AGENT, accept=sansio.accept_format(), oauth_token=self._token.get_secret_value()
        )
        headers["x-github-api-version"] = API_VERSION
        if body is not None:
            headers["content-type"] = "application/json; charset=utf-8"
        return headers


_SENDING = ("send_request_headers.started", "send_request_body.started")


def _sent_by(by: float) -> Callable[[str, Mapping[str, Any]], Awaitable[None]]:
    """What the wire calls at each of its steps (https://www.encode.io/httpcore/extensions/#trace).

    Only here there is a connection, and the next things are the first byte and the body, without
    which a request is none.
    """

    async def look(step: str, _details: Mapping[str, Any]) -> None:
        if step.endswith(_SENDING) and clock.now() > by:
            raise Retry("nothing was sent to GitHub, as the look before it had grown old")

    return look


def _encoded(body: Mapping[str, Any] | None) -> bytes:
    return b"" if body is None else json.dumps(body).encode()


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


@asynccontextmanager
async def client(api_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Connections to the API at `api_url` (`https://api.github.com`, or a server's `/api/v3`)."""
    limits = httpx.Limits(max_connections=50)
    async with httpx.AsyncClient(
        base_url=api_url.rstrip("/") + "/", timeout=TIMEOUT, limits=limits
    ) as made:
        yield made


def _unreadable(response: httpx.Response) -> Retry:
    if response.is_success:
        return Retry("GitHub's answer was cut off")
    return Retry(f"GitHub answered {response.status_code}", after=_named_wait(response.headers))


def _ours(error: HTTPException, headers: Mapping[str, str]) -> Retry | RefusedError:
    status = int(error.status_code)
    message = str(error) or type(error).__name__
    limited = any(words in message.lower() for words in LIMITED)
    if limited or isinstance(error, RateLimitExceeded) or status == httpx.codes.TOO_MANY_REQUESTS:
        wait = _named_wait(headers)
        return Retry(
            f"GitHub's rate limit: {message}", after=SECONDARY_LIMIT_WAIT if wait is None else wait
        )
    if isinstance(error, GitHubBroken) or not isinstance(error, BadRequest):
        return Retry(f"GitHub answered {status}", after=_named_wait(headers))
    if "retry-after" in headers or status in (
        # A token that expired or was revoked meanwhile: the next attempt gets another.
        httpx.codes.UNAUTHORIZED,
        httpx.codes.REQUEST_TIMEOUT,
    ):
        return Retry(f"GitHub answered {status}: {message}", after=_named_wait(headers))
    return RefusedError(status, message)


def _named_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that GitHub asks for, if it does."""
    after = headers.get("retry-after", "")
    if after.isdecimal():
        return float(after)
    with suppress(ValueError):  # a proxy may name a date
        return max(0.0, parsedate_to_datetime(after).timestamp() - time.time())
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") == "0" and reset.isdecimal():
        return max(1.0, float(reset) - time.time())
    return None


def _template(path: str) -> str:
    """A span's name may not hold names or ids: they would make a name for every request."""
    steps = path.strip("/").split("/")
    if steps[0] == "repos" and len(steps) > 2:
        steps[1:3] = ["{owner}", "{repo}"]
    if steps[0] == "repositories" and len(steps) > 1:
        steps[1] = "{id}"
    return "/" + "/".join("{n}" if step.isdecimal() else step for step in steps[:6])
