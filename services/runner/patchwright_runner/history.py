"""What is stored about a job: its newest event of a kind, and whether it has come to an end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from nats.js.errors import NotFoundError
from pydantic import ValidationError

from patchwright_common.bus import AWAY, Bus
from patchwright_common.errors import Retry
from patchwright_common.events import AnswerProduced, ChangeProduced, Event
from patchwright_common.flow import ANSWER_PRODUCED, CHANGE_PRODUCED, JOB_FAILED, Route

if TYPE_CHECKING:
    from nats.js.api import RawStreamMsg

log = logging.getLogger(__name__)

EventType = TypeVar("EventType", bound=Event)


async def newest_event(
    bus: Bus, route: Route, kind: type[EventType], job_id: str
) -> EventType | None:
    """As `newest`, read. What cannot be read is no event of ours.

    Every service can let the server write its answers, JSON with other fields, to any subject.
    """
    stored = await newest(bus, route, job_id)
    if stored is None:
        return None
    try:
        return kind.model_validate_json(stored.data or b"")
    except ValidationError:
        log.error("the newest message on %s is no %s", stored.subject, kind.__name__)
        return None


async def newest(bus: Bus, route: Route, job_id: str) -> RawStreamMsg | None:
    """The newest event of `route` about the job. Raises `Retry` when NATS does not answer."""
    try:
        return await bus.js.get_last_msg(route.stream.name, route.subject(job_id))
    except NotFoundError:
        return None
    except AWAY as error:
        raise Retry(f"{route.stream.name} did not answer: {error!r}") from error


async def is_produced(bus: Bus, job_id: str, epoch: int) -> bool:
    """Whether an event is stored that ends the job: from there the publisher sees to it.

    It drops what earlier epochs have produced.
    """
    change = await newest_event(bus, CHANGE_PRODUCED, ChangeProduced, job_id)
    answer = await newest_event(bus, ANSWER_PRODUCED, AnswerProduced, job_id)
    if any(found and found.epoch == epoch for found in (change, answer)):
        return True
    return await newest(bus, JOB_FAILED, job_id) is not None
