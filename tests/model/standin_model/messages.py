"""`POST /v1/messages`: choose the step, fail if it is time to, answer whole or streamed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse, Response, StreamingResponse

from standin_model import broken, stream
from standin_model.cache import PromptCache
from standin_model.conversation import (
    conversation_id,
    first_user_text,
    replies_so_far,
    user_text,
)
from standin_model.errors import InvalidRequestError, error_body, error_response
from standin_model.failures import Failures
from standin_model.models import WINDOW
from standin_model.playbook import Playbook, without_script
from standin_model.recording import Received
from standin_model.reply import Reply, build_reply
from standin_model.scenario import Failure, Step
from standin_model.threads import BETA, Threads
from standin_model.usage import prompt_tokens
from standin_model.validation import (
    check_length,
    check_messages,
    check_request,
)

EVENT_STREAM = "text/event-stream; charset=utf-8"
JSON = "application/json"


@dataclass
class Messages:
    """The scripted model behind the endpoint."""

    playbook: Playbook
    least_delay: float = 0.0
    """Seconds that every reply takes at least, so that a person can watch."""
    key: str = field(default="", repr=False)
    """What an error repeats that is asked to."""
    threads: Threads = field(default_factory=Threads)
    failures: Failures = field(default_factory=Failures)
    cache: PromptCache = field(default_factory=PromptCache)

    async def answer(self, received: Received, version: str) -> Response:
        """Raises InvalidRequestError, ScenarioError or ThreadError; the app answers them."""
        body = self._checked(received, version)
        messages = body["messages"]
        number = replies_so_far(messages)
        scenario = self.playbook.choose(first_user_text(messages))
        step = scenario.branch(without_script(user_text(messages))).step(number)
        received.scenario, received.step = scenario.name, number
        failure = self.failures.due(conversation_id(messages), number, step)
        if failure and failure.status:
            received.outcome = str(failure.status)
            message = f"Not with the key {self.key}" if failure.echo else ""
            return error_response(failure.status, message, headers=_headers(failure))
        check_length(prompt_tokens(body, messages), scenario.window or WINDOW)
        await asyncio.sleep(max(step.delay, self.least_delay))
        reply = build_reply(
            step,
            model=body["model"],
            tools_offered=bool(body.get("tools")),
            prompt_usage=self.cache.prompt_usage(body, messages),
        )
        received.outcome = failure.stream if failure and failure.stream else "ok"
        if body.get("stream"):
            return self._streamed(body, reply, step, failure)
        return self._whole(body, reply, failure)

    def _checked(self, received: Received, version: str) -> dict[str, Any]:
        body = check_request(received.body, version)
        if "max_tokens" not in body:
            raise InvalidRequestError("max_tokens: Field required")
        if body.get("thread") and BETA not in received.headers.get("anthropic-beta", ""):
            raise InvalidRequestError("thread: Extra inputs are not permitted")
        joined = self.threads.join(body)
        check_messages(joined["messages"])
        return joined

    def _whole(self, body: dict[str, Any], reply: Reply, failure: Failure | None) -> Response:
        if failure:
            return broken.TornResponse(_half(JSONResponse(reply.message())), media_type=JSON)
        self.threads.keep(body, reply.message())
        return JSONResponse(reply.message())

    def _streamed(
        self, body: dict[str, Any], reply: Reply, step: Step, failure: Failure | None
    ) -> Response:
        if failure is None:
            return StreamingResponse(self._events(body, reply, step), media_type=EVENT_STREAM)
        pieces = _failing(reply, failure)
        if failure.stream == "drop":
            return broken.TornResponse(pieces, media_type=EVENT_STREAM)
        return StreamingResponse(pieces, media_type=EVENT_STREAM)

    async def _events(self, body: dict[str, Any], reply: Reply, step: Step) -> AsyncIterator[bytes]:
        for event in stream.events(reply):
            if event["type"] == "content_block_delta" and step.pace:
                await asyncio.sleep(step.pace)
            if event["type"] == "message_stop":
                self.threads.keep(body, reply.message())
            yield stream.encode(event)


def _headers(failure: Failure) -> dict[str, str]:
    after = failure.retry_after
    return {**failure.headers, **({} if after is None else {"retry-after": f"{after:g}"})}


async def _failing(reply: Reply, failure: Failure) -> AsyncIterator[bytes]:
    """The first half of the events, then the failure."""
    events = [stream.encode(event) for event in stream.events(reply)]
    for event in events[: len(events) // 2]:
        yield event
    match failure.stream:
        case "drop":
            yield events[len(events) // 2][:20]
        case "error":
            yield stream.encode(error_body(529))
        case "hang":
            await broken.silence()


async def _half(response: Response) -> AsyncIterator[bytes]:
    yield bytes(response.body)[: len(response.body) // 2]
