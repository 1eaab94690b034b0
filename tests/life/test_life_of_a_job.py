"""No sequence of events, deaths, pauses and lost answers leads to silence or to two results.

The decisions are the services' own (triage, the runner's ownership and sweeper, the publisher,
the delivery rules); NATS and GitHub are in memory, so that thousands of lives fit into a minute.
What is shown at the end is counted after the last fault, when everything that waits was handled.

`--hypothesis-profile=explore` tries many more lives, each time others.
"""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, precondition, rule

from patchwright_common import flow

from .agents import ENDS
from .fate import Fate
from .laws import Laws
from .services import Made, Waiting, World

FAULTS = ("killed before", "killed after", "unanswered", "away", "paused")
PLACES = ("acknowledge", "publish", "update", "update claim", "update outcome", "write")
"""Where a fault changes most: what others see, and what they know."""


def _fates(*kinds: str) -> st.SearchStrategy[Fate]:
    anywhere = st.builds(Fate, kind=st.sampled_from(kinds), at=st.integers(1, 20))
    chosen = st.builds(
        Fate, kind=st.sampled_from(kinds), of=st.sampled_from(PLACES), at=st.integers(1, 4)
    )
    return anywhere | chosen


fates = _fates(*FAULTS)
seldom = st.builds(Fate) | fates
pauses = _fates("paused")
services = st.sampled_from(("", "runner", "publisher"))
places = st.integers(0, 40)


class LifeOfAJob(RuleBasedStateMachine):
    """What people, operators, GitHub and the machines can do to jobs."""

    deliveries = Bundle("deliveries")

    @initialize(
        target=deliveries,
        wills=st.lists(st.sampled_from(ENDS), min_size=1, max_size=6),
        late=st.booleans(),
        comment=st.booleans(),
    )
    def begin(self, wills: list[str], late: bool, comment: bool) -> Made:
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.world = World(wills)
        self.laws = Laws(self.world)
        self.late = late
        return self.world.ask(1, comment=comment)

    # --- people, GitHub, operators -----------------------------------------------------

    @rule(target=deliveries, issue=st.integers(1, 2), comment=st.booleans())
    def ask(self, issue: int, comment: bool) -> Made:
        return self.world.ask(issue, comment=comment)

    @rule(issue=st.integers(1, 2))
    def stop(self, issue: int) -> None:
        self.world.stop(issue)

    @rule(made=deliveries)
    def deliver_again(self, made: Made) -> None:
        self.world.deliver(made)

    @rule(made=deliveries)
    def replay_as_new(self, made: Made) -> None:
        self.world.site.now()
        self.world.deliver(made, replay=f"replay-{self.world.site.ticks}")

    @rule(place=places)
    def send_an_event_again(self, place: int) -> None:
        stored = self.world.broker.streams[flow.PW_EVENTS.name]
        if stored:
            one = stored[place % len(stored)]
            headers = {k: v for k, v in one.headers.items() if not k.startswith("Nats-")}
            self.world.broker.store(one.subject, one.data, headers)

    @rule()
    def let_an_hour_pass(self) -> None:
        self.world.broker.forget_ids()

    # --- the machines ------------------------------------------------------------------

    @rule(steps=st.integers(1, 12), newest=st.booleans())
    def go_on(self, steps: int, newest: bool) -> None:
        self.world.go_on(steps, newest=newest)

    @precondition(lambda self: self.world.waiting())
    @rule(place=places, fate=fates)
    def handle(self, place: int, fate: Fate) -> None:
        self.world.handle(self._waiting(place), fate)

    @precondition(lambda self: self.world.waiting())
    @rule(
        place=places,
        service=services,
        first=pauses,
        second=pauses | seldom,
        then=seldom,
        last=seldom,
    )
    def compete(
        self, *, place: int, service: str, first: Fate, second: Fate, then: Fate, last: Fate
    ) -> None:
        """Two processes have the same message; the first one sleeps meanwhile."""
        message = self._waiting(place, service)
        rivals = [self.world.handle(message, first)]
        if not message.handed.settled:
            rivals.append(self.world.handle(message, second))
        for one, fate in zip(rivals, (then, last), strict=False):
            if one in self.world.asleep:
                self.world.wake(one, fate)

    def _waiting(self, place: int, service: str = "") -> Waiting:
        """A message that waits, of this service if it has one."""
        waiting = self.world.waiting()
        waiting = [one for one in waiting if one.consumer.service == service] or waiting
        return waiting[place % len(waiting)]

    @precondition(lambda self: self.world.asleep)
    @rule(place=places, then=seldom)
    def wake(self, place: int, then: Fate) -> None:
        asleep = self.world.asleep
        self.world.wake(asleep[place % len(asleep)], then)

    @rule(fate=seldom)
    def sweep(self, fate: Fate) -> None:
        self.world.sweep(fate)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            if not self.world.is_broken:
                self.world.calm_down(late=self.late)
                self.laws.at_rest()
        finally:
            self.world.end()
            self.loop.close()
            asyncio.set_event_loop(None)


EXPLORING = settings.get_current_profile_name() == "explore"
LifeOfAJob.TestCase.settings = settings(
    max_examples=3000 if EXPLORING else 100,
    stateful_step_count=40,
    derandomize=not EXPLORING,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestLifeOfAJob = LifeOfAJob.TestCase
