"""Thread mode: the server keeps the conversation and the client sends only what is new.

`thread: {"type": "create"}` starts a thread under the reply's id, `{"type": "continue",
"previous_message_id": …}` goes on from it once. Shape and error codes as the `anthropic` SDK 2.12
has them in its types. Threads live in memory: after a restart a client is told `thread_not_found`
and sends the whole conversation again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

BETA = "message-threads-2026-08-12"


class ThreadError(Exception):
    """Answered with `status` and the error code `code`."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass
class _Thread:
    messages: list[Mapping[str, Any]]
    fixed: dict[str, Any]
    """What only the creating request carries: the system prompt and the tools."""
    continued: bool = False


@dataclass
class Threads:
    """The conversations that this server keeps, by the id of their last reply."""

    _by_reply: dict[str, _Thread] = field(default_factory=dict)

    def join(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The request with its past in front. Raises ThreadError."""
        thread = body.get("thread")
        if not thread or thread["type"] == "create":
            return dict(body)
        past = self._by_reply.get(thread["previous_message_id"])
        if past is None:
            raise ThreadError(
                404, "thread_not_found", "No usable Thread state was found for previous_message_id."
            )
        if past.continued:
            raise ThreadError(
                400, "thread_already_continued", "This response has already been continued."
            )
        return {**body, **past.fixed, "messages": [*past.messages, *body["messages"]]}

    def keep(self, joined: Mapping[str, Any], reply: Mapping[str, Any]) -> None:
        """Remember the conversation once its reply has been sent to the end."""
        thread = joined.get("thread")
        if not thread:
            return
        if thread["type"] == "continue":
            self._by_reply[thread["previous_message_id"]].continued = True
        messages: Sequence[Mapping[str, Any]] = joined["messages"]
        answer = {"role": "assistant", "content": reply["content"]}
        fixed = {key: joined[key] for key in ("system", "tools") if key in joined}
        self._by_reply[reply["id"]] = _Thread([*messages, answer], fixed)
