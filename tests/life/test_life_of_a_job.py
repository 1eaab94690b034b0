"""No sequence of events, deaths, pauses and lost answers leads to silence or to two results.

The decisions are the services' own (triage, the runner's ownership and sweeper, the publisher,
the delivery rules); NATS and GitHub are in memory, so that thousands of lives fit into a minute.
What is shown at the end is counted after the last fault, when everything that waits was handled.

`--hypothesis-profile=explore` tries many more lives, each time others.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, precondition, rule

from patchwright_common import flow
from patchwright_ingest.triage import REPLAY

from .agents import ENDS
from .fate import Fate
from .laws import Laws
from .services import Process, World

REPOSITORY = 7
FAULTS = ("killed before", "killed after", "unanswered", "away", "paused")
PLACES = ("acknowledge", "publish", "update", "write")
"""Where a fault changes most: what others see, and what they know."""

Made = tuple[str, str, bytes, str]
"""A delivery: event, action, body, id."""


def _fates(*kinds: str) -> st.SearchStrategy[Fate]:
    anywhere = st.builds(Fate, kind=st.sampled_from(kinds), at=st.integers(1, 24))
    chosen = st.builds(
        Fate, kind=st.sampled_from(kinds), of=st.sampled_from(PLACES), at=st.integers(1, 4)
    )
    return anywhere | chosen


fates = _fates(*FAULTS)
seldom = st.builds(Fate) | fates
pauses = _fates("paused")
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
        self.asked: set[str] = set()
        return self._ask(1, comment)

    # --- people, GitHub, operators -----------------------------------------------------

    @rule(target=deliveries, issue=st.integers(1, 2), comment=st.booleans())
    def ask(self, issue: int, comment: bool) -> Made:
        return self._ask(issue, comment)

    def _ask(self, issue: int, comment: bool) -> Made:
        at = self.world.site.now().isoformat()
        number = self.world.site.ticks
        about: dict[str, Any] = {
            "action": "created" if comment else "labeled",
            "issue": {"number": issue, "title": "Title", "created_at": at, "updated_at": at},
            "repository": {
                "id": REPOSITORY,
                "full_name": "octo/doorbell",
                "default_branch": "main",
            },
            "sender": {"login": "ada"},
            "installation": {"id": 1},
            "label": {"name": "patchwright"},
        }
        if comment:
            about["comment"] = {"id": number, "body": "@patchwright do it", "created_at": at}
        event = "issue_comment" if comment else "issues"
        made = (event, about["action"], json.dumps(about).encode(), f"guid-{number}")
        self._deliver(made, {})
        self.asked.add(f"{REPOSITORY}-{issue}-" + (f"c{number}" if comment else "issue"))
        return made

    @rule(made=deliveries)
    def deliver_again(self, made: Made) -> None:
        self._deliver(made, {})

    @rule(made=deliveries)
    def replay_as_new(self, made: Made) -> None:
        self.world.site.now()
        self._deliver(made, {REPLAY: f"replay-{self.world.site.ticks}"})

    def _deliver(self, made: Made, more: dict[str, str]) -> None:
        event, action, body, guid = made
        subject = f"pw.github.{event}.{action}.{REPOSITORY}"
        self.world.broker.store(subject, body, {"x-github-delivery": guid, **more})

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
        """Without a fault; what sleeping processes hold is left to them."""
        for _ in range(steps):
            waiting = self.world.waiting(held=False)
            if waiting:
                self.world.handle(waiting[-1 if newest else 0], Fate())

    @precondition(lambda self: self.world.waiting())
    @rule(place=places, fate=fates)
    def handle(self, place: int, fate: Fate) -> None:
        self._handle(place, fate)

    @precondition(lambda self: self.world.waiting())
    @rule(place=places, first=pauses, second=seldom, then=seldom, last=seldom)
    def compete(self, place: int, first: Fate, second: Fate, then: Fate, last: Fate) -> None:
        """Two processes have the same message; the first one sleeps meanwhile."""
        rivals = [self._handle(place, first), self._handle(place, second)]
        for one, fate in zip(rivals, (then, last), strict=True):
            if one in self.world.asleep:
                self.world.wake(one, fate)

    def _handle(self, place: int, fate: Fate) -> Process:
        waiting = self.world.waiting()
        return self.world.handle(waiting[place % len(waiting)], fate)

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
            self.world.calm_down(late=self.late)
            self.laws.at_rest(self.asked)
        finally:
            self.world.end()
            self.loop.close()
            asyncio.set_event_loop(None)


@pytest.fixture(autouse=True)
def quiet() -> Any:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


EXPLORING = settings.get_current_profile_name() == "explore"
LifeOfAJob.TestCase.settings = settings(
    max_examples=3000 if EXPLORING else 200,
    stateful_step_count=40,
    derandomize=not EXPLORING,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestLifeOfAJob = LifeOfAJob.TestCase
