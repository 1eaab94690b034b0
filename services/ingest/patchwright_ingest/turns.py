"""Whose turn it is among the issues of an installation, and how much one person may ask. Pure.

An issue's queue says which of its jobs comes next (`attempts.py`); here that job waits until
its repository and its installation have fewer jobs in work than they may. Nobody waits by nak:
what waits is in the record, and whatever ends a job lets the next one go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

WINDOW = timedelta(hours=1)
"""For how long a request counts against its sender."""


@dataclass(frozen=True)
class Shares:
    """Jobs ready or running at once; requests of one person within `WINDOW`, 0 for any number."""

    repository: int = 2
    installation: int = 8
    sender: int = 20


class Turn(BaseModel):
    """The next job of an issue."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    repository_id: int


class Turns(BaseModel):
    """`turns.<installation>` in `PW_CLAIMS`: `ready` may run or do run, `waiting` oldest first."""

    model_config = ConfigDict(frozen=True)

    ready: tuple[Turn, ...]
    waiting: tuple[Turn, ...]

    def without(self, finished: Iterable[str]) -> Turns:
        """Take jobs out that have their results."""
        gone = set(finished)
        return Turns(
            ready=tuple(turn for turn in self.ready if turn.job_id not in gone),
            waiting=tuple(turn for turn in self.waiting if turn.job_id not in gone),
        )

    def with_job(self, job_id: str, repository_id: int) -> Turns:
        """Let a job wait behind the others; one that is there already stays where it is."""
        if any(turn.job_id == job_id for turn in (*self.ready, *self.waiting)):
            return self
        turn = Turn(job_id=job_id, repository_id=repository_id)
        return self.model_copy(update={"waiting": (*self.waiting, turn)})

    def advanced(self, shares: Shares) -> Turns:
        """Make ready whom the shares allow, oldest first; a full repository holds up no other."""
        ready, waiting = list(self.ready), []
        for turn in self.waiting:
            mine = sum(one.repository_id == turn.repository_id for one in ready)
            if len(ready) < shares.installation and mine < shares.repository:
                ready.append(turn)
            else:
                waiting.append(turn)
        return Turns(ready=tuple(ready), waiting=tuple(waiting))


NO_TURNS = Turns(ready=(), waiting=())
"""What there is before an installation's first job."""


class Request(BaseModel):
    """A job that somebody asked for, and when."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    at: datetime


class Asked(BaseModel):
    """`asked.<installation>-<sender>` in `PW_CLAIMS`: a person's requests of late."""

    model_config = ConfigDict(frozen=True)

    admitted: tuple[Request, ...]
    refused: tuple[Request, ...]

    def admits(self, job_id: str) -> bool:
        """What was decided about it."""
        return any(request.job_id == job_id for request in self.admitted)

    def with_request(self, job_id: str, at: datetime, limit: int) -> Asked:
        """Decide on a request, once: the second time it is known.

        What was asked after it does not count against it: it may come late, or again when its
        record is no longer kept, and is decided as if it had come in time.
        """
        if any(request.job_id == job_id for request in (*self.admitted, *self.refused)):
            return self
        admitted = tuple(request for request in self.admitted if request.at > at - WINDOW)
        refused = tuple(request for request in self.refused if request.at > at - WINDOW)
        request = Request(job_id=job_id, at=at)
        if limit and sum(request.at <= at for request in admitted) >= limit:
            return Asked(admitted=admitted, refused=(*refused, request))
        return Asked(admitted=(*admitted, request), refused=refused)


NOTHING_ASKED = Asked(admitted=(), refused=())
"""What there is before a person's first request."""
