"""What a runner does around the agent: whose job it is, where tokens go, what it may cost."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from harness.nats import NatsServer
from patchwright_common.bus import Bus
from patchwright_common.credentials import digest
from patchwright_common.errors import Overtaken, Permanent, Retry
from patchwright_common.flow import CHANGE_PRODUCED
from patchwright_github.address import lies_on, origin
from patchwright_runner.agent.protocol import CutOff, Observer, Usage
from patchwright_runner.sandbox.protocol import BoxLost, Sandbox

from .git_over_http import serve
from .runner_at_work import JOB, TURN, Bench


async def test_job_ends_in_a_change_on_its_base(bench: Bench) -> None:
    await bench.request()

    await bench.work()

    change = await bench.change()
    assert change is not None
    assert [file.path for file in change.files] == ["new.txt"]
    assert change.base == bench.base


async def test_token_that_was_revoked_meanwhile_is_replaced(bench: Bench) -> None:
    await bench.request()
    bench.stale = "ghs_revoked"

    await bench.work()

    assert await bench.change() is not None
    assert [asked.refused for asked in bench.asked] == ["", digest(SecretStr("ghs_revoked"))]
    assert {asked.job_id for asked in bench.asked} == {JOB}


async def test_token_that_is_refused_again_and_again_is_a_retry(bench: Bench) -> None:
    await bench.request()
    bench.server.token = "ghs_another"

    with pytest.raises(Retry, match="Fetching"):
        await bench.work()

    assert len(bench.asked) == 2


async def test_repository_on_a_foreign_host_gets_no_token(bench: Bench, tmp_path: Path) -> None:
    with serve(tmp_path) as foreign:
        await bench.request(clone_url=foreign.address("origin.git"))

        with pytest.raises(Permanent, match="another host"):
            await bench.work()

        assert foreign.requests == []
    assert bench.asked == []


@pytest.mark.parametrize(
    ("clone_url", "api_url", "belongs"),
    [
        ("https://github.com/a/b.git", "https://api.github.com", True),
        ("https://ghe.example/a/b.git", "https://ghe.example/api/v3", True),
        ("https://acme.ghe.com/a/b.git", "https://api.acme.ghe.com", True),
        ("http://127.0.0.1:8081/a/b.git", "http://127.0.0.1:8081/api/v3", True),
        ("http://github.com/a/b.git", "https://api.github.com", False),
        ("https://github.com.evil.example/a/b.git", "https://api.github.com", False),
        ("https://github.com:8443/a/b.git", "https://api.github.com", False),
        ("https://github.com:x/a/b.git", "https://api.github.com", False),
        ("/a/b.git", "https://api.github.com", False),
    ],
)
def test_address_belongs_to_one_github_alone(clone_url: str, api_url: str, belongs: bool) -> None:
    assert lies_on(clone_url, origin(api_url)) is belongs


async def test_attempts_share_the_budget_of_their_job(bench: Bench) -> None:
    async def fail(observer: Observer, _box: Sandbox) -> None:
        await observer.turn_finished(TURN)
        raise Retry("the model is away")

    await bench.request()
    bench.paid = TURN.usage
    for _ in range(2):
        with pytest.raises(Retry):
            await bench.work(fail)
    await bench.work()

    assert [used.dollars for used in bench.used] == [0.0, 0.5, 1.0]
    assert [used.tokens for used in bench.used] == [0, 110, 220]
    change = await bench.change()
    assert change is not None
    assert (change.spent.dollars, change.spent.turns) == (1.25, 3)


async def test_what_was_paid_counts_however_the_attempt_ends(bench: Bench) -> None:
    await bench.request()

    async def lose_the_box(_observer: Observer, _box: Sandbox) -> None:
        raise BoxLost("it is gone")

    bench.paid = Usage(1, 1, dollars=0.25)
    for _ in range(3):
        with pytest.raises(CutOff):
            await bench.work(lose_the_box)
    with pytest.raises(Permanent, match="cut off 3 times"):
        await bench.work()

    assert [used.dollars for used in bench.used] == [0, 0.25, 0.5]


async def test_bus_that_is_away_for_a_turn_does_not_throw_the_work_away(
    bench: Bench, nats: NatsServer
) -> None:
    async def outage(observer: Observer, _box: Sandbox) -> None:
        nats.pause()
        try:
            await observer.turn_finished(TURN)
        finally:
            nats.wake()

    await bench.request()
    await bench.work(outage)

    assert await bench.change() is not None


async def test_overtaken_runner_does_not_acknowledge_what_it_handed_on(bench: Bench) -> None:
    """Its acknowledgement would clear the message of the runner that works on the job now."""
    await bench.request()
    bus, emit = bench.bus, Bus.emit

    class Slow(Bus):
        async def emit(self, route, event, *, step, once=False):  # type: ignore[no-untyped-def]
            if route is CHANGE_PRODUCED:
                await bench.claims.take(JOB, "another")
            return await emit(bus, route, event, step=step, once=once)

    bench.bus = Slow(bus.client)

    with pytest.raises(Overtaken):
        await bench.work()


async def test_change_that_was_handed_on_is_not_made_again(bench: Bench) -> None:
    await bench.request()
    await bench.work()

    await bench.work()

    assert len(bench.used) == 1


async def test_half_a_surrogate_pair_in_the_last_words_loses_nothing(bench: Bench) -> None:
    await bench.request()
    bench.says = "Half a \ud83d pair."

    await bench.work()

    change = await bench.change()
    assert change is not None
    assert change.summary == "Half a ? pair."
