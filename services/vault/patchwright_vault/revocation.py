"""Ends tokens at GitHub: when their job is done, and when the vault stops.

The vault that hears of a job's end tells the others (`requests.ENDED`), and each revokes
what it minted itself. A note that is lost, a token that was handed out a moment later, a
GitHub that is away: the sweep finds all of them by the outcome in `PW_CLAIMS`. A vault
that is killed forgets its tokens; they end by themselves within the hour.

https://docs.github.com/rest/apps/installations#revoke-an-installation-access-token
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from patchwright_common import requests, telemetry
from patchwright_common.beside import cancel_until_done
from patchwright_common.bus import AWAY
from patchwright_common.errors import Permanent, Retry
from patchwright_common.events import JOB_ID, JobFinished

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from patchwright_common.bus import Bus
    from patchwright_common.claims import Claims
    from patchwright_common.messaging import Delivery
    from patchwright_vault.app import AppClient
    from patchwright_vault.holdings import Held, Holdings

log = logging.getLogger(__name__)

GRACE = 60.0
"""Seconds after its last hand-out for which a token of a job that has ended stays good."""
LINGER = 3.0
"""Seconds after the end in which the publisher's other handlers finish what they are at: a
token that is revoked under them costs a refusal and a new one each."""
AT_ONCE = 8
"""Requests to GitHub."""
STEP_TIMEOUT = 5.0
"""Seconds for one of them."""
STOP_TIMEOUT = 8.0
"""Seconds in which a vault that stops revokes what it holds."""
DONE = (204, 401, 404)
"""Revoked, or not accepted anyway."""


class Revocation:
    """Owns the end of what `holdings` holds."""

    def __init__(
        self, bus: Bus, claims: Claims, app: AppClient, holdings: Holdings, *, grace: float = GRACE
    ) -> None:
        self._bus = bus
        self._claims = claims
        self._app = app
        self._holdings = holdings
        self._grace = grace
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._ending: set[str] = set()

    async def on_finished(self, delivery: Delivery) -> None:
        """The job's result is visible. Raises `Retry` while GitHub cannot be told."""
        job_id = delivery.read(JobFinished).job_id
        if delivery.delivered == 1:
            await asyncio.sleep(min(LINGER, self._grace))
        self._ending.add(job_id)
        try:
            await self._bus.client.publish(requests.ENDED, job_id.encode())
            await self.end_job(job_id)
        except AWAY as error:
            raise Retry(f"the other vaults were not told: {type(error).__name__}") from None
        finally:
            self._ending.discard(job_id)

    async def end_job(self, job_id: str) -> None:
        """Revoke what this vault minted for it. Raises `Retry` when something is left."""
        await self._revoke(self._holdings.of_job(job_id))

    @asynccontextmanager
    async def beside(self) -> AsyncIterator[None]:
        """Listen to the other vaults and sweep, as long as the context lasts."""
        notes = await self._bus.client.subscribe(requests.ENDED, cb=self._noted)
        sweeping = asyncio.create_task(self._keep_sweeping())
        try:
            yield
        finally:
            await cancel_until_done(sweeping)
            with contextlib.suppress(*AWAY):
                await notes.unsubscribe()

    async def close(self) -> None:
        """Revoke everything, within `STOP_TIMEOUT`; what is left ends within the hour."""
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await self._revoke(self._holdings.everything())
        except (Retry, TimeoutError):
            left = len(self._holdings.everything())
            log.warning("%d tokens were not revoked; they end within the hour", left)

    async def sweep(self) -> None:
        """Revoke what jobs that have ended still have. Raises `Retry`."""
        self._holdings.drop_expired()
        for job_id in self._holdings.jobs():
            quiet = time.monotonic() - self._grace
            held = [one for one in self._holdings.of_job(job_id) if one.handed_at <= quiet]
            if held and await self._has_ended(job_id):
                await self._revoke(held)

    async def _has_ended(self, job_id: str) -> bool:
        outcome = await self._claims.outcome(job_id)
        return outcome is not None and outcome.reported_at is not None

    async def _noted(self, message: Msg) -> None:
        job_id = message.data.decode(errors="replace")
        if message.subject != requests.ENDED:
            return  # stored elsewhere, and delivered here because somebody asked for that
        if not re.fullmatch(JOB_ID, job_id) or job_id in self._ending:
            return  # our own note, for one
        with telemetry.job(job_id):
            try:
                await self.end_job(job_id)
            except Retry as error:
                log.warning("left to the sweep: %s", error.reason)

    async def _keep_sweeping(self) -> None:
        while True:
            await asyncio.sleep(self._grace / 3)
            try:
                await self.sweep()
            except (Retry, Permanent) as error:
                log.warning("tokens of ended jobs are left: %s", error.reason)
            except Exception:
                log.exception("sweeping failed")

    async def _revoke(self, held: Sequence[Held]) -> None:
        """All that can be. Raises `Retry` when something is left."""
        # Nobody gets one that is on its way out.
        self._holdings.retire(held)
        ended = await asyncio.gather(*(self._end(one) for one in held))
        if not all(ended):
            raise Retry(f"{ended.count(False)} of {len(held)} tokens could not be revoked")

    async def _end(self, held: Held) -> bool:
        """Whether GitHub does not accept it any more."""
        token = held.token
        async with self._slots:
            try:
                answer = await self._app.send(
                    token.api_url,
                    "DELETE",
                    "installation/token",
                    token.value,
                    timeout=STEP_TIMEOUT,
                )
            except Retry as error:
                log.warning("a token was not revoked yet: %s", error.reason)
                return False
        if answer.status not in DONE:
            log.warning("a token was not revoked yet: GitHub answered %d", answer.status)
            return False
        self._holdings.drop([held])
        log.info("revoked a token of %s", held.purpose.caller)
        return True
