"""The webhook secrets that verify at the moment: the vault's word, in memory alone.

The vault tells each secret's end with it, so an end holds while the vault is away. A secret
that is retired before its end verifies no more once the vault's note is heard. Where the note
is lost, it verifies until the next question that the vault answers: for up to `OFTEN` (600 s)
while the vault is there, and while it is away until the secret's end, if it told one (a
rotation that is not finished has set none).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import TYPE_CHECKING

from patchwright_common.errors import Permanent, Retry
from patchwright_common.watching import watch

if TYPE_CHECKING:
    from pydantic import SecretStr

    from patchwright_common.bus import Bus
    from patchwright_common.credentials import Vault, WebhookSecret

log = logging.getLogger(__name__)

RECORD = "webhook-secret"
"""The vault's name for them."""
OFTEN = 600.0
"""Seconds between two questions that nothing gave cause for, and with it what a lost note costs:
a secret that `retire` ended verifies for that long."""
WAIT = 1.0
"""Seconds between two questions while no secret is known."""
AGAIN = 10.0
"""Seconds between two questions while the vault is away; and between two that bad signatures
cause, however many there are."""
PATIENCE = 1.0
"""Seconds that the answer to a bad signature waits for such a question."""


class WebhookSecrets:
    """Kept as fresh as can be. While the vault is away, what is known stays, each to its end."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._held: tuple[WebhookSecret, ...] = ()
        self._asked = 0
        self._answered = 0
        self._doubted = -math.inf
        self._doubt: asyncio.Task[float] | None = None
        self._learnt = asyncio.Event()
        self._said = ""

    def known(self) -> tuple[SecretStr, ...]:
        """Those that have not ended by now, newest first; none while the vault has not told."""
        now = time.time()
        return tuple(held.secret for held in self._held if held.verifies(now))

    async def learnt(self) -> None:
        """Return when a secret is known."""
        await self._learnt.wait()

    async def keep(self, bus: Bus) -> None:
        """Ask at the start, when the vault says that they changed, and now and then."""
        await watch(bus, RECORD, self.ask)

    async def doubt(self) -> bool:
        """A signature did not match: whether the secrets are others now.

        The delivery may be signed with one that we did not hear of. Returns within
        `PATIENCE` of the question, and at once when there was one a moment ago.
        """
        before, now = self.known(), time.monotonic()
        if self._doubt is None and now - self._doubted >= AGAIN:
            self._doubted = now
            self._doubt = asyncio.create_task(self.ask())
            self._doubt.add_done_callback(self._settled)
        if self._doubt is None:
            return False
        # The question goes on behind the answer, for those who come next.
        await asyncio.wait({self._doubt}, timeout=max(0.0, self._doubted + PATIENCE - now))
        return self.known() != before

    def _settled(self, _task: asyncio.Task[float]) -> None:
        self._doubt = None

    async def ask(self) -> float:
        """Ask once; the seconds after which it is to be asked again. Raises nothing."""
        self._asked += 1
        number = self._asked
        try:
            found = await self._vault.webhook_secrets()
        except Retry as error:
            return self._unanswered(error.reason)
        except Permanent as error:
            # The vault itself says that there is none, or none for us.
            return self._take(number, [], error.reason)
        return self._take(number, found, "there is none")

    def _take(self, number: int, found: list[WebhookSecret], none: str) -> float:
        """Believe an answer, unless a later question was answered before."""
        if number > self._answered:
            self._answered = number
            # Anybody could sign with an empty one.
            usable = tuple(one for one in found if one.secret.get_secret_value())
            changed, self._held = usable != self._held, usable
            if changed:
                log.info("webhook secrets that verify now: %d", len(self.known()))
        if not self.known():
            self._learnt.clear()
            return self._waiting(none)
        self._learnt.set()
        self._said = ""
        return OFTEN

    def _unanswered(self, reason: str) -> float:
        if not self.known():
            return self._waiting(reason)
        log.warning("the known webhook secrets stay for now: %s", reason)
        return AGAIN

    def _waiting(self, reason: str) -> float:
        """Said once, until it is another reason."""
        if reason != self._said:
            log.warning("waiting for the webhook secret: %s", reason)
        self._said = reason
        return WAIT
