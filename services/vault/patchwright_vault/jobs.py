"""Checks what an asker says of its job against triage's record: identity alone is not enough."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from patchwright_common.errors import Permanent

if TYPE_CHECKING:
    from patchwright_common.bus import Bus
    from patchwright_common.claims import Claims
    from patchwright_common.credentials import TokenRequest
    from patchwright_vault.audit import Ask

WITHOUT_A_JOB = ("triage",)
"""Those that ask before there is one."""
STRAGGLER = timedelta(hours=3)
"""After a job's result became visible. What begins on the job later sees the result and asks
for nothing, and what was at it already ends within this time (`time_limit` in flow.py). A late
edit that hid the result is put right for as long as its message is tried."""


class Jobs:
    """Every method raises `Permanent` for what does not fit, and `Retry` when NATS is away."""

    def __init__(self, bus: Bus, claims: Claims) -> None:
        self._bus = bus
        self._claims = claims

    async def check_token(self, ask: Ask, request: TokenRequest) -> None:
        """A token goes to the repository of the job that is named, and to no other."""
        self.check_name(ask, request.job_id)
        if not request.job_id:
            if ask.caller not in WITHOUT_A_JOB:
                raise Permanent(f"{ask.caller} must say for which job the token is.")
            return
        repository = (await self._bus.job(request.job_id)).repository
        asked = (request.installation_id, request.repository_id)
        if asked != (repository.installation_id, repository.id):
            raise Permanent("The token is for another repository than the job's.")
        await self._check_open(request.job_id)

    async def _check_open(self, job_id: str) -> None:
        """Whoever steals an identity gets the repositories of today's jobs, not of the year's."""
        outcome = await self._claims.outcome(job_id)
        ended = outcome.reported_at if outcome else None
        if ended is not None and ended < datetime.now(UTC) - STRAGGLER:
            raise Permanent("The job has ended: there are no more tokens for it.")

    async def check_known(self, job_id: str) -> None:
        """There is such a job."""
        await self._bus.job(job_id)

    def check_name(self, ask: Ask, job_id: str) -> None:
        """The request names the job that its envelope, and with it the audit, names."""
        if job_id != ask.job_id:
            raise Permanent("The request to the vault names two jobs.")
