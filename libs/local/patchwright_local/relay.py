"""Brings GitHub's webhooks to a stack that GitHub cannot reach, by way of a channel.

GitHub's log shows what the channel answered, not what ingest did. So a delivery that was
heard is kept until ingest has it, as long as there is room; and whatever is given up is
named, because GitHub can send it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import sys
import time

import httpx
from httpx_sse import ServerSentEvent
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from patchwright_common import telemetry
from patchwright_common.errors import Permanent
from patchwright_common.service import run, until_stopped
from patchwright_local.buffer import Buffer
from patchwright_local.channel import (
    ChannelError,
    Delivery,
    UnreadableError,
    checked,
    read,
    shown,
    subscribed,
)
from patchwright_local.processes import Process

log = logging.getLogger("patchwright_local.relay")

DELAYS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before the channel is tried again; the last one repeats."""
STEADY = 10.0
"""Seconds that a connection must have lasted for the next delay to be the first again."""
TARGET_DELAYS = (0.2, 0.5, 1.0, 2.0, 5.0)
"""The same before ingest is tried again."""
TARGET_TIMEOUT = 15.0
"""Seconds for ingest to answer; GitHub itself gives it 10."""
FAILURES = 5
"""Answers of 500 to one delivery, after which it is given up: a bug would hold up all others."""
REMINDER = 12
"""Tries between two lines that say that ingest is still away."""
LAST = 5.0
"""Seconds at the end for what is still waiting."""
AGAIN = "GitHub has them in the App's settings, Advanced, Recent Deliveries: redeliver from there"


class RelaySettings(BaseSettings):
    """Between which two addresses."""

    model_config = SettingsConfigDict(
        env_prefix="PATCHWRIGHT_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    relay_url: SecretStr = Field(
        default=SecretStr(""), description="The channel; whoever knows it can listen."
    )
    relay_target: str = Field(
        default="http://127.0.0.1:8080/webhooks/github", description="Ingest's endpoint."
    )
    log_level: str = Field(default="INFO", description="The least that is logged.")


def process(url: str, target: str, environment: dict[str, str]) -> Process:
    """The relay as a part of the local stack. Raises `ChannelError` for an address that is none.

    The address travels in the environment: everybody can read a command line.
    """
    own = {"PATCHWRIGHT_RELAY_URL": checked(url), "PATCHWRIGHT_RELAY_TARGET": target}
    command = (sys.executable, "-m", "patchwright_local.relay")
    return Process("relay", command, environment | own, ready='"text": "ready')


class Relay:
    """From the channel into the buffer, from the buffer to ingest."""

    def __init__(self, url: str, target: str, buffer: Buffer) -> None:
        self._url = url
        self._target = target
        self._buffer = buffer
        self._last_event_id = ""
        self._ever = False

    async def run(self, stop: asyncio.Task[None]) -> None:
        """Until `stop` is done. Raises `ChannelError` when there was never such a channel."""
        # Outwards as the machine is set up; to ingest, which is local, without a proxy.
        async with (
            httpx.AsyncClient() as outside,
            httpx.AsyncClient(timeout=TARGET_TIMEOUT, trust_env=False) as inside,
        ):
            listening = asyncio.create_task(self._listen(outside))
            sending = asyncio.create_task(self._send_all(inside))
            try:
                await asyncio.wait({stop, listening, sending}, return_when=asyncio.FIRST_COMPLETED)
                await _ended(listening)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._buffer.empty(), LAST)
            finally:
                listening.cancel()
                sending.cancel()
                _give_up(self._buffer.ids(), "the relay stops")
                await _ended(sending)

    # --- listening ---------------------------------------------------------------------

    async def _listen(self, http: httpx.AsyncClient) -> None:
        failures = 0
        away_since = time.monotonic()
        while True:
            began = time.monotonic()
            try:
                await self._hear(http, began - away_since)
                reason = "it ended the connection"
            except ChannelError as error:
                if error.lasting and not self._ever:
                    raise
                reason = str(error)
            away_since = time.monotonic()
            if away_since - began > STEADY:
                failures = 0
            delay = DELAYS[min(failures, len(DELAYS) - 1)] * random.uniform(0.75, 1.25)  # noqa: S311
            failures += 1
            log.warning("not listening to %s: %s; again in %.1f s", shown(self._url), reason, delay)
            await asyncio.sleep(delay)

    async def _hear(self, http: httpx.AsyncClient, away: float) -> None:
        async with subscribed(http, self._url, self._last_event_id) as messages:
            if self._ever:
                log.warning(
                    "listening again after %.0f s; what was sent meanwhile may be missing: %s",
                    away,
                    AGAIN,
                )
            else:
                self._ever = True
                log.info("listening to %s for %s", shown(self._url), self._target)
                log.info("ready")
            async for message in messages:
                self._take(message)
                self._last_event_id = message.id

    def _take(self, message: ServerSentEvent) -> None:
        # gosmee says `ready` in a message without a name.
        if message.event != "message" or message.data in ("", "{}", "ready"):
            return
        try:
            delivery = read(message.data)
        except UnreadableError as error:
            log.warning("a message of the channel was left out: %s", error)
            return
        if not self._buffer.add(delivery):
            _give_up([delivery.id], f"{len(self._buffer)} wait for ingest already")

    # --- sending -----------------------------------------------------------------------

    async def _send_all(self, http: httpx.AsyncClient) -> None:
        while True:
            delivery = await self._buffer.first()
            await self._send(http, delivery)
            self._buffer.done()

    async def _send(self, http: httpx.AsyncClient, delivery: Delivery) -> None:
        """Return when ingest has it, or never will; under one id it stores it once."""
        tries = failures = 0
        said = ""
        while True:
            status, reason = await self._try(http, delivery)
            if 200 <= status < 300:
                log.info("%s %s: %d", delivery.event, delivery.id, status)
                return
            failures += status == httpx.codes.INTERNAL_SERVER_ERROR
            if is_final(status) or failures >= FAILURES:
                _give_up(
                    [delivery.id], f"ingest answers {status}, {reason}", _why(status, delivery)
                )
                return
            if reason != said or tries % REMINDER == 0:
                said = reason
                log.warning(
                    "ingest does not take deliveries (%s); waiting: %d",
                    reason,
                    len(self._buffer),
                )
            await asyncio.sleep(TARGET_DELAYS[min(tries, len(TARGET_DELAYS) - 1)])
            tries += 1

    async def _try(self, http: httpx.AsyncClient, delivery: Delivery) -> tuple[int, str]:
        """The answer's status, or 0 without one, and its reason."""
        try:
            async with asyncio.timeout(TARGET_TIMEOUT):
                answer = await http.post(
                    self._target, content=delivery.body, headers=delivery.headers
                )
        except (httpx.HTTPError, TimeoutError) as error:
            return 0, type(error).__name__
        return answer.status_code, _reason(answer)


def is_final(status: int) -> bool:
    """Whether the same delivery will get the same answer, whenever it is sent."""
    return 300 <= status < 500 and status not in (408, 425, 429)


def _reason(answer: httpx.Response) -> str:
    """Ingest's own words, if it is ingest that answers."""
    try:
        found = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase
    return found[:200] if isinstance(found, str) and found.isprintable() else answer.reason_phrase


def _why(status: int, delivery: Delivery) -> str:
    if status != httpx.codes.UNAUTHORIZED:
        return ""
    if delivery.exact:
        return "Probably the App's webhook secret is another one than the vault's."
    return (
        "Probably the App's webhook secret is another one than the vault's. If others of its "
        "deliveries are taken, the channel changed the body, which it passes on as parsed JSON: "
        "one that keeps its bytes (gosmee) helps."
    )


def _give_up(ids: list[str], why: str, advice: str = "") -> None:
    if ids:
        log.error("given up, %s: %s. %s", why, ", ".join(ids), f"{advice} {AGAIN}.".strip())


async def _ended(task: asyncio.Task[None]) -> None:
    """Cancel it, and raise what it failed of."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def serve() -> None:
    """Relay until told to stop."""
    settings = RelaySettings()
    telemetry.set_up("relay", export=False, level=settings.log_level)
    stop = asyncio.create_task(until_stopped())
    try:
        url = checked(settings.relay_url.get_secret_value())
        if url.startswith("http://"):
            log.warning("this channel is not encrypted: %s", shown(url))
        await Relay(url, settings.relay_target, Buffer()).run(stop)
    except ChannelError as error:
        raise Permanent(
            f"The relay's channel cannot be used: {error}.",
            advice="`just up --relay new` makes one.",
        ) from None
    finally:
        stop.cancel()


def main() -> None:
    """Entry point of `python -m patchwright_local.relay`."""
    run(serve)


if __name__ == "__main__":
    main()
