"""The model's server, at the one address that the runner was given."""

from __future__ import annotations

import functools
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anthropic
import httpx2
from pydantic import SecretStr

from patchwright_common.errors import Permanent, Retry
from patchwright_runner.agent.faults import judge
from patchwright_runner.agent.model import Patience

BODY_BYTES = 64 * 1024**2
"""Of an answer that is not streamed."""


@dataclass(frozen=True, slots=True)
class Query:
    """A request that may pass, as it is sent."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    stream: bool


class Upstream:
    """Adds nothing to a query: its headers hold the credential already."""

    def __init__(self, base_url: str, patience: Patience) -> None:
        self._base = base_url.rstrip("/")
        self._patience = patience
        self._client: httpx2.AsyncClient | None = None

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Keeps connections open meanwhile. A redirect is an answer, and never followed."""
        async with httpx2.AsyncClient(follow_redirects=False, verify=trust()) as self._client:
            yield
        self._client = None

    @asynccontextmanager
    async def ask(self, query: Query) -> AsyncIterator[httpx2.Response]:
        """The answer as soon as its headers are there. Raises httpx2.HTTPError."""
        assert self._client is not None, "not connected"  # noqa: S101
        # A reply that is not streamed comes at once at its end.
        silence = self._patience.silence if query.stream else self._patience.reply
        timeout = httpx2.Timeout(silence, connect=self._patience.connect)
        async with self._client.stream(
            "POST",
            self._base + query.path,
            headers=query.headers,
            content=query.body,
            timeout=timeout,
        ) as answer:
            yield answer


@functools.cache
def trust() -> ssl.SSLContext:
    """Whom TLS believes. Read once: it takes 50 ms, in which every other job would wait."""
    return httpx2.create_ssl_context()


async def body_of(answer: httpx2.Response) -> bytes:
    """All of an answer. Raises httpx2.HTTPError, also when it is far too large."""
    body = bytearray()
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) > BODY_BYTES:
            raise httpx2.ReadError("the answer is too large", request=answer.request)
    return bytes(body)


def fault(
    error: httpx2.HTTPError | httpx2.Response, *, body: object, model: str, key: SecretStr
) -> Permanent | Retry:
    """What an answer without a reply means for the job, in the words of the `claude` agent."""
    found: Exception = (
        anthropic.APIStatusError(f"{error.status_code}", response=error, body=body)
        if isinstance(error, httpx2.Response)
        else error
    )
    try:
        again = judge(found, model=model, key=key.get_secret_value())
    except Permanent as permanent:
        return permanent
    return Retry(again.reason, after=again.after)
