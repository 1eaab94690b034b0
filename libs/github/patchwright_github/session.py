"""Requests to GitHub's REST API that end as a value, `Retry` or `Permanent`.

The protocol (headers, pages, rate limits, error bodies) is gidgethub's; the wire is httpx2's.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2 as httpx
from gidgethub import BadRequest, GitHubBroken, HTTPException, RateLimitExceeded, sansio
from pydantic import SecretStr

from patchwright_common import telemetry
from patchwright_common.errors import Permanent, Retry

USER_AGENT = "patchwright"
API_VERSION = "2022-11-28"
TIMEOUT = 20.0
"""Seconds for one request."""
SECONDARY_LIMIT_WAIT = 60.0
"""Seconds to wait when GitHub names no time, as its documentation asks."""


class RefusedError(Permanent):
    """GitHub understood and said no: 4xx other than rate limits. `status` says which."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"GitHub answered {status}: {message}")
        self.status = status


class Session:
    """GitHub's REST API under one token. Paths are relative to the API's root."""

    def __init__(self, client: httpx.AsyncClient, token: SecretStr) -> None:
        self._client = client
        self._token = token

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

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Create something. May have happened even when it raises `Retry`."""
        return (await self._request("POST", path, body))[0]

    async def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """Change something."""
        return (await self._request("PATCH", path, body))[0]

    async def delete(self, path: str) -> None:
        """Delete something; what is already gone is no error."""
        try:
            await self._request("DELETE", path)
        except RefusedError as refused:
            if refused.status != httpx.codes.NOT_FOUND:
                raise

    async def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> tuple[Any, str | None]:
        headers = sansio.create_headers(
            USER_AGENT, accept=sansio.accept_format(), oauth_token=self._token.get_secret_value()
        )
        headers["x-github-api-version"] = API_VERSION
        content = b""
        if body is not None:
            headers["content-type"] = "application/json; charset=utf-8"
            content = json.dumps(body).encode()
        name = f"{method} {_template(path)}"
        with telemetry.span(name, attributes={"http.request.method": method}):
            try:
                response = await self._client.request(
                    method, path, headers=headers, content=content
                )
                data, _, following = sansio.decipher_response(
                    response.status_code, response.headers, response.content
                )
            except httpx.HTTPError as error:
                raise Retry(f"GitHub did not answer: {type(error).__name__}") from error
            except HTTPException as error:
                raise _ours(error, response.headers) from error
            except ValueError as error:
                raise Retry("GitHub's answer was cut off") from error
        return data, following


@asynccontextmanager
async def client(api_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Connections to the API at `api_url` (`https://api.github.com`, or a server's `/api/v3`)."""
    limits = httpx.Limits(max_connections=50)
    async with httpx.AsyncClient(
        base_url=api_url.rstrip("/") + "/", timeout=TIMEOUT, limits=limits
    ) as made:
        yield made


def _ours(error: HTTPException, headers: Mapping[str, str]) -> Retry | RefusedError:
    status = int(error.status_code)
    message = str(error) or type(error).__name__
    limited = isinstance(error, RateLimitExceeded) or "rate limit" in message.lower()
    if limited or status == httpx.codes.TOO_MANY_REQUESTS or "retry-after" in headers:
        return Retry(f"GitHub's rate limit: {message}", after=_wait(headers))
    if isinstance(error, GitHubBroken) or not isinstance(error, BadRequest):
        return Retry(f"GitHub answered {status}")
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.REQUEST_TIMEOUT):
        # A token that expired or was revoked meanwhile: the next attempt gets another.
        return Retry(f"GitHub answered {status}: {message}")
    return RefusedError(status, message)


def _wait(headers: Mapping[str, str]) -> float:
    after = headers.get("retry-after", "")
    if after.isdecimal():
        return float(after)
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") == "0" and reset.isdecimal():
        return max(1.0, float(reset) - time.time())
    return SECONDARY_LIMIT_WAIT


def _template(path: str) -> str:
    """A span's name may not hold ids: it would make a name for every request."""
    steps = path.partition("?")[0].removeprefix("/").split("/")
    if steps[0] == "repositories" and len(steps) > 2:
        steps = ["repositories", "{id}", *steps[2:]]
    return "/" + "/".join("{n}" if s.isdecimal() else s for s in steps[:6])
