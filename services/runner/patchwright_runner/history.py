"""What is stored about a job: its newest event of a kind, and whether it has come to an end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nats.js.errors import NotFoundError

from patchwright_common.bus import AWAY, Bus
from patchwright_common.errors import Retry
from patchwright_common.events import AnswerProduced, ChangeProduced
from patchwright_common.flow import ANSWER_PRODUCED, CHANGE_PRODUCED, JOB_FAILED, Route

if TYPE_CHECKING:
    from nats.js.api import RawStreamMsg


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
    for route, kind in ((CHANGE_PRODUCED, ChangeProduced), (ANSWER_PRODUCED, AnswerProduced)):
        stored = await newest(bus, route, job_id)
        if stored and kind.model_validate_json(stored.data or b"").epoch == epoch:
            return True
    return await newest(bus, JOB_FAILED, job_id) is not None
