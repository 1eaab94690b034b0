"""One request to the outside and its answer: bounded in time and size, no redirects."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2 as httpx

TOTAL_TIMEOUT = 8.0
"""Seconds for a whole exchange, for an answer that trickles."""
BODY_LIMIT = 512 * 1024
"""Bytes; a page of a hundred repositories has about 600 kB with everything, ours are smaller."""


class UnansweredError(Exception):
    """There is no answer. `sent`: the other side may have acted on the request all the same."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent


@dataclass(frozen=True)
class Answer:
    """Whatever its status is."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


async def fetch(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    json: Any = None,
    timeout: float = TOTAL_TIMEOUT,
    limit: int = BODY_LIMIT,
) -> Answer:
    """The answer, whole. Raises `UnansweredError` for none, half of one, or one too large."""
    try:
        async with (
            asyncio.timeout(timeout),
            client.stream(
                method, url, headers=headers, json=json, follow_redirects=False, timeout=timeout
            ) as response,
        ):
            body = bytearray()
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > limit:
                    raise UnansweredError("the answer is too large", sent=True)
            return Answer(response.status_code, response.headers, bytes(body))
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
        raise UnansweredError("it cannot be reached", sent=False) from None
    except (httpx.UnsupportedProtocol, httpx.InvalidURL):
        raise UnansweredError("the address cannot be used", sent=False) from None
    except (httpx.TimeoutException, TimeoutError):
        raise UnansweredError(f"it did not answer in {timeout:g} s", sent=True) from None
    except httpx.HTTPError as error:
        raise UnansweredError(f"it broke off ({type(error).__name__})", sent=True) from None
