"""One request to the model's server and its answer: passed on as it comes, counted, keyless."""

from __future__ import annotations

import json

import httpx2
from pydantic import SecretStr

from patchwright_common.errors import Permanent, Retry
from patchwright_runner.gateway.headers import incoming
from patchwright_runner.gateway.metering import Meter
from patchwright_runner.gateway.outlet import Outlet
from patchwright_runner.gateway.redaction import Redactor, redacted
from patchwright_runner.gateway.refusal import API_ERROR, TIMEOUT, RefusedError
from patchwright_runner.gateway.upstream import Query, Upstream, body_of, fault

EVENT_STREAM = "text/event-stream"


class Relay:
    """Knows afterwards how it went, whoever broke it off."""

    def __init__(self, query: Query, model: str, upstream: Upstream, key: SecretStr) -> None:
        self._query = query
        self._model = model
        self._upstream = upstream
        self._key = key
        self.meter = Meter(model)
        self.status = 0
        """Of the answer; 0 while there is none."""
        self.fault: Permanent | Retry | None = None
        """What the answer means for the job, when it was no reply."""

    @property
    def answered(self) -> bool:
        """Whether the model wrote something, which is paid for."""
        return self.status == 200

    async def run(self, outlet: Outlet) -> None:
        """To the answer's end, also when the client has gone: what it cost is said at the end.

        Raises RefusedError when the client was told nothing yet.
        """
        try:
            async with self._upstream.ask(self._query) as answer:
                self.status = answer.status_code
                await self._pass_on(answer, outlet)
        except httpx2.HTTPError as error:
            self.fault = fault(error, body=None, model=self._model, key=self._key)
            if not outlet.begun:
                raise _unreachable(error) from None
            outlet.tear()

    async def _pass_on(self, answer: httpx2.Response, outlet: Outlet) -> None:
        if answer.is_redirect:
            raise RefusedError(
                "The model's server answered with a redirect.", status=502, kind=API_ERROR
            )
        key = self._key.get_secret_value()
        headers = incoming(answer.status_code, answer.headers, key)
        if self.answered and headers.get("content-type", "").startswith(EVENT_STREAM):
            await outlet.start(answer.status_code, headers)
            await self._stream(answer, outlet, Redactor(key))
        else:
            body = redacted(await self._whole(answer), key)
            await outlet.start(answer.status_code, {**headers, "content-length": f"{len(body)}"})
            await outlet.send(body)
        await outlet.end()

    async def _stream(self, answer: httpx2.Response, outlet: Outlet, redactor: Redactor) -> None:
        async for chunk in answer.aiter_bytes():
            self.meter.feed(chunk)
            await outlet.send(redactor.feed(chunk))
        await outlet.send(redactor.end())
        if not self.meter.complete:
            self.fault = Retry("the model's reply broke off")

    async def _whole(self, answer: httpx2.Response) -> bytes:
        body = await body_of(answer)
        if self.answered:
            self.meter.whole(body)
        else:
            self.fault = fault(answer, body=_json(body), model=self._model, key=self._key)
        return body


def _unreachable(error: httpx2.HTTPError) -> RefusedError:
    if isinstance(error, httpx2.TimeoutException):
        return RefusedError(
            "The model's server did not answer in time.", status=504, kind=TIMEOUT, again=True
        )
    return RefusedError(
        "The model's server cannot be reached.", status=502, kind=API_ERROR, again=True
    )


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return None
