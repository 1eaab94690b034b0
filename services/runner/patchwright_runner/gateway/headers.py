"""The headers of both directions: few pass, and the credential is ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers

from patchwright_runner.gateway.grammar import refuse

VERSIONS: Final = ("2023-06-01", "2026-10-21")
"""Claude Code sends the first, the SDK 2.12 the second."""
BEARER_SINCE: Final = "2026-10-21"
BETAS: Final = frozenset(
    {
        # Sent by Claude Code 2.1.332 in its ordinary work.
        "claude-code-20250219",
        "interleaved-thinking-2025-05-14",
        "context-management-2025-06-27",
        "per-turn-control-2026-07-01",
        "mid-conversation-tool-changes-2026-07-01",
        "thinking-token-count-2026-05-13",
        "advanced-tool-use-2025-11-20",
        "effort-2025-11-24",
        "thinking-display-updates-2026-08-18",
        # Known to it or to the SDK, for fields that the request's grammar lets through.
        "extended-cache-ttl-2025-04-11",
        "fine-grained-tool-streaming-2025-05-14",
        "mid-conversation-system-2026-04-07",
        "mid-conversation-system-clear-at-2026-08-21",
        "model-context-window-exceeded-2025-08-26",
        "pdfs-2024-09-25",
        "prompt-caching-2024-07-31",
        "redact-thinking-2026-02-12",
        "structured-outputs-2025-11-13",
        "structured-outputs-2025-12-15",
        "task-budgets-2026-03-13",
        "thinking-binding-controls-2026-08-01",
        "token-counting-2024-11-01",
        "token-efficient-tools-2025-02-19",
    }
)
"""None of them lets the server fetch, run, store or remember something, or costs more. So there is
no `context-1m` (older models charge more for it), no `fast-mode`, `files-api` or `mcp-client`."""
RESPONSE: Final = frozenset({"content-type", "retry-after", "request-id", "x-should-retry"})
RATE_LIMITS: Final = "anthropic-ratelimit-"
VISIBLE: Final = re.compile(r"[\x20-\x7e]*")
SHOULD_NOT_RETRY: Final = frozenset({401, 402, 403, 404})
"""Claude Code tries some of them ten times; nothing that it can do changes them."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The headers for the model's server, and the beta tokens that were left out."""

    headers: Mapping[str, str]
    dropped: tuple[str, ...]


def outgoing(received: Headers, key: str) -> Outgoing:
    """Raises RefusedError for a version of the API that this gateway does not know."""
    version = received.get("anthropic-version", "")
    if version not in VERSIONS:
        refuse("anthropic-version", f"one of {', '.join(VERSIONS)} is required")
    if received.get("content-encoding", "identity") != "identity":
        refuse("content-encoding", "the body must not be compressed")
    tokens = [
        token
        for value in received.getlist("anthropic-beta")
        for part in value.split(",")
        if (token := part.strip())
    ]
    passed = [token for token in dict.fromkeys(tokens) if token in BETAS]
    headers = {
        "accept": "application/json",
        # What is passed on is counted and searched for the key: it must be readable.
        "accept-encoding": "identity",
        "content-type": "application/json",
        "user-agent": "patchwright-gateway",
        "anthropic-version": version,
        **({"anthropic-beta": ",".join(passed)} if passed else {}),
        **credential(key, version),
    }
    return Outgoing(headers, tuple(token for token in tokens if token not in BETAS))


def credential(key: str, version: str) -> Mapping[str, str]:
    """The key as each version of the API takes it: as its SDKs send it."""
    if version >= BEARER_SINCE:
        return {"authorization": f"Bearer {key}"}
    return {"x-api-key": key}


def incoming(status: int, received: Mapping[str, str], key: str) -> dict[str, str]:
    """What the client gets to see of the answer's headers."""
    passed = {
        name: value
        for name, value in ((name.lower(), value) for name, value in received.items())
        if (name in RESPONSE or name.startswith(RATE_LIMITS))
        and VISIBLE.fullmatch(value)
        and not (key and key in value)
    }
    return {**passed, "x-should-retry": "false"} if status in SHOULD_NOT_RETRY else passed
