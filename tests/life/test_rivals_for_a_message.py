"""Two processes with the same message, held up and ended at each of their exchanges.

What Hypothesis finds by luck in `test_life_of_a_job.py` is gone through here one by one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Self

import pytest

from patchwright_common import flow
from patchwright_common.flow import Consumer

from .fate import Fate
from .laws import Laws
from .services import HOUSEKEEPING, Waiting, World

PLACES = 4
"""At about so many exchanges does the first one sleep where the second one's are tried all."""
STEPS = 100
"""More messages than a life has."""
WILLS = {flow.PUBLISHER_CHANGE_PRODUCED.name: "change", flow.PUBLISHER_JOB_FAILED.name: "hopeless"}
STOPPING = (flow.TRIAGE_STOP_RECEIVED, flow.PUBLISHER_JOB_CANCELLED)
CONSUMERS = [consumer for consumer in flow.consumers() if consumer.name not in HOUSEKEEPING]


@pytest.fixture(params=CONSUMERS, ids=lambda consumer: consumer.name)
def consumer(request: pytest.FixtureRequest) -> Consumer:
    assert isinstance(request.param, Consumer)
    return request.param


@pytest.fixture
def loop() -> Iterator[None]:
    made = asyncio.new_event_loop()
    asyncio.set_event_loop(made)
    yield
    asyncio.set_event_loop(None)
    made.close()


def test_second_one_overtakes_and_dies(consumer: Consumer, loop: None) -> None:
    length = _length(consumer)
    for first in range(1, length + 1, max(1, length // PLACES)):
        for second in range(1, length + 1):
            with _Life(consumer) as life:
                life.compete(first, second)
                life.wake(Fate(), _dying(at=2))


def test_first_one_dies_when_the_second_is_about_to_end(consumer: Consumer, loop: None) -> None:
    length = _length(consumer)
    for first in range(1, length + 1):
        with _Life(consumer) as life:
            life.compete(first, length)
            life.wake(_dying(), Fate())


def test_first_one_wakes_when_all_is_over(consumer: Consumer, loop: None) -> None:
    for first in range(1, _length(consumer) + 1):
        with _Life(consumer) as life:
            life.compete(first, STEPS)
            life.world.go_on(STEPS)
            life.wake(Fate())


def test_one_that_dies_each_time_at_the_same_exchange(consumer: Consumer, loop: None) -> None:
    for at in range(1, _length(consumer) + 1):
        for kind in ("killed before", "killed after", "unanswered", "away"):
            with _Life(consumer) as life:
                for _ in range(2):
                    if not life.message.handed.settled:
                        life.world.handle(life.message, Fate(kind, at=at))


@pytest.mark.parametrize("kind", ["killed after", "unanswered"])
def test_late_progress_is_cut_off_over_the_result_again_and_again(kind: str, loop: None) -> None:
    with _Life(flow.PUBLISHER_JOB_PROGRESSED) as life:
        life.world.handle(life.message, Fate("paused", of="write edit"))
        life.world.go_on(STEPS)
        life.wake(Fate(kind))
        for _ in range(3):
            life.world.handle(life.message, Fate("away"))


def _dying(at: int = 1) -> Fate:
    """So many exchanges more; a record is changed by two."""
    return Fate("killed after", at=at)


def _length(consumer: Consumer) -> int:
    """How many exchanges the handler makes, the acknowledgement included."""
    with _Life(consumer) as life:
        fate = Fate()
        life.world.handle(life.message, fate)
        return fate.seen


class _Life:
    """A job until its first message for the consumer waits; the laws are looked at in the end."""

    def __init__(self, consumer: Consumer) -> None:
        self.world = World([WILLS.get(consumer.name, "answer")])
        self._laws = Laws(self.world)
        self.world.ask(1, comment=True)
        if consumer in STOPPING:
            self.world.stop(1)
        for _ in range(STEPS):
            mine = [one for one in self.world.waiting() if one.consumer.name == consumer.name]
            if mine:
                break
            self.world.go_on(1)
        self.message: Waiting = mine[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, broken: object, *_: object) -> None:
        try:
            if broken is None:
                self.world.calm_down(late=False)
                self._laws.at_rest()
        finally:
            self.world.end()

    def compete(self, *sleeps: int) -> None:
        """Hand the message to a process for each of `sleeps`, the exchange before which it does."""
        for at in sleeps:
            if not self.message.handed.settled:
                self.world.handle(self.message, Fate("paused", at=at))

    def wake(self, *fates: Fate) -> None:
        """Those who sleep, in their order."""
        for process, fate in zip(tuple(self.world.asleep), fates, strict=False):
            self.world.wake(process, fate)
