"""The one comment: real GitHub stand-in, real key-value store, crashes played by forgetting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from patchwright_common import flow
from patchwright_common.bus import Bus
from patchwright_common.claims import Claims
from patchwright_common.errors import Retry
from patchwright_common.events import JobRequested
from patchwright_common.flow import PW_CLAIMS
from patchwright_github.session import Session, client
from patchwright_publisher.comment import Known, OneComment
from patchwright_publisher.github import FRESH, Fence, GitHub, OpenSession, open_to_all
from patchwright_publisher.pull_request import marker_of
from standin_github.scene import Scene

from .service import requested


class Thread:
    """An issue's thread, and the publishers that write to it."""

    def __init__(
        self, scene: Scene, job: JobRequested, open_session: OpenSession, claims: Claims
    ) -> None:
        self.scene = scene
        self.job = job
        self.claims = claims
        self.open_session = open_session
        self.github = self.behind(open_to_all)
        self.marker = marker_of(job.job_id, "0123456789abcdef")

    def behind(self, fence: Fence) -> GitHub:
        return GitHub(self.open_session, self.job, self.scene.app.bot, fence)

    def publisher(self) -> OneComment:
        return OneComment(self.github, self.claims, self.job.job_id, self.marker)

    def text(self, words: str) -> str:
        return f"{words}\n\n{self.marker}"

    async def bodies(self) -> list[str]:
        rows = await self.scene.github.comments(self.scene.name, self.job.issue_number)
        return [row["body"].removesuffix(f"\n\n{self.marker}") for row in rows]

    async def ids(self) -> list[int]:
        rows = await self.scene.github.comments(self.scene.name, self.job.issue_number)
        return [row["id"] for row in rows]


@pytest.fixture
async def thread(scene: Scene, claims: Claims) -> AsyncIterator[Thread]:
    issue = await scene.github.open_issue(scene.name, "One", token=scene.person.token)
    job = requested(scene, issue["number"], "One", "0" * 40)
    async with client(scene.github.api_url) as connections:
        session = Session(connections, SecretStr(await scene.token()))

        async def open_session(_job: JobRequested) -> Session:
            return session

        yield Thread(scene, job, open_session, claims)


async def _paused() -> None:
    """A fence that was open, until the whole process stood still behind its answer."""
    time.sleep(FRESH + 0.2)


async def _forget(bus: Bus, thread: Thread) -> None:
    """As when the publisher was killed after GitHub took the comment."""
    bucket = await bus.js.key_value(PW_CLAIMS.name)
    await bucket.delete(f"comment.{thread.job.job_id}")


async def test_comment_is_made_once_and_then_edited(thread: Thread) -> None:
    assert await thread.publisher().write(thread.text("on it"))
    await thread.publisher().update(thread.text("turn 1"))
    assert await thread.bodies() == ["turn 1"]
    await thread.publisher().finish(thread.text("done"))
    assert await thread.bodies() == ["done"]


async def test_result_without_an_acknowledgement_makes_the_comment(thread: Thread) -> None:
    posted = await thread.publisher().finish(thread.text("done"))
    assert await thread.ids() == [posted.id]


async def test_publisher_paused_between_its_look_and_its_comment_writes_none(
    thread: Thread,
) -> None:
    thread.github = thread.behind(_paused)
    with pytest.raises(Retry):
        await thread.publisher().write(thread.text("on it"))
    assert await thread.bodies() == []


async def test_publisher_that_looked_before_another_had_its_comment_writes_none(
    thread: Thread,
) -> None:
    another = thread.publisher()

    async def meanwhile() -> None:
        await another.finish(thread.text("done"))

    thread.github = thread.behind(meanwhile)
    assert await thread.publisher().write(thread.text("on it")) is None
    assert await thread.bodies() == ["done"]
    path = f"{thread.scene.name}/issues/{thread.job.issue_number}/comments"
    assert len(await thread.scene.github.requests("POST", path)) == 1


def test_nobody_else_has_the_message_while_a_write_may_still_be_sent() -> None:
    own = [consumer for consumer in flow.consumers() if consumer.service == "publisher"]
    assert own
    # The last sign of life can be a third of the time old when a process falls silent.
    assert all(consumer.ack_wait * 2 / 3 > FRESH for consumer in own)


async def test_late_acknowledgement_does_not_replace_what_came_after_it(thread: Thread) -> None:
    await thread.publisher().write(thread.text("on it"))
    await thread.publisher().update(thread.text("turn 1"))
    assert await thread.publisher().write(thread.text("on it")) is None
    assert await thread.bodies() == ["turn 1"]
    await thread.publisher().finish(thread.text("done"))
    assert await thread.publisher().write(thread.text("on it")) is None
    assert await thread.bodies() == ["done"]


async def test_result_that_is_shown_already_is_not_written_again(thread: Thread) -> None:
    posted = await thread.publisher().finish(thread.text("done"))
    written = await thread.scene.github.requests("PATCH", "/comments")
    again = await thread.publisher().finish(thread.text("done"))
    assert (again.id, again.at) == (posted.id, posted.at)
    assert await thread.scene.github.requests("PATCH", "/comments") == written
    await thread.publisher().update(thread.text("turn 1"))
    await thread.publisher().finish(thread.text("done"))
    assert await thread.bodies() == ["done"]


async def test_progress_alone_is_not_worth_a_comment(thread: Thread) -> None:
    await thread.publisher().update(thread.text("turn 1"))
    assert await thread.bodies() == []


async def test_comment_is_found_again_when_its_record_is_lost(thread: Thread, bus: Bus) -> None:
    await thread.publisher().write(thread.text("on it"))
    await _forget(bus, thread)
    assert await thread.publisher().write(thread.text("on it")) is None
    await thread.publisher().update(thread.text("turn 1"))
    assert await thread.bodies() == ["turn 1"]
    await _forget(bus, thread)
    await thread.publisher().finish(thread.text("done"))
    assert await thread.bodies() == ["done"]


async def test_lost_answer_to_the_first_write_leaves_one_comment(thread: Thread) -> None:
    await thread.scene.github.fault("POST", "/comments", drop=True, after=True)
    with pytest.raises(Retry):
        await thread.publisher().write(thread.text("on it"))
    assert await thread.publisher().write(thread.text("on it")) is None
    assert await thread.bodies() == ["on it"]


async def test_publishers_at_the_same_moment_leave_one_comment(thread: Thread) -> None:
    publishers = [thread.publisher() for _ in range(4)]
    await asyncio.gather(*(publisher.write(thread.text("on it")) for publisher in publishers))
    assert await thread.bodies() == ["on it"]
    await asyncio.gather(*(publisher.finish(thread.text("done")) for publisher in publishers))
    assert await thread.bodies() == ["done"]


async def test_results_at_the_same_moment_leave_one_comment(thread: Thread) -> None:
    publishers = [thread.publisher() for _ in range(4)]
    await asyncio.gather(*(publisher.finish(thread.text("done")) for publisher in publishers))
    assert await thread.bodies() == ["done"]


async def test_acknowledgement_at_the_moment_of_the_result_does_not_win(thread: Thread) -> None:
    await asyncio.gather(
        thread.publisher().write(thread.text("on it")),
        thread.publisher().finish(thread.text("done")),
    )
    assert await thread.bodies() == ["done"]


async def test_of_two_comments_the_lower_id_stays(thread: Thread, bus: Bus) -> None:
    """A publisher that was paused between writing and noting down wakes up too late to tidy."""
    first = await thread.github.comment(thread.text("on it"))
    await thread.github.comment(thread.text("on it"))
    await thread.publisher().finish(thread.text("done"))
    assert await thread.ids() == [first.id]
    await thread.github.comment(thread.text("on it"))
    await thread.publisher().tidy()
    assert await thread.ids() == [first.id]
    assert await thread.bodies() == ["done"]


async def test_known_comment_stays_where_an_older_one_is_about_to_be_deleted(
    thread: Thread,
) -> None:
    """By somebody who knows, as we do, which one is the job's."""
    older = await thread.github.comment(thread.text("on it"))
    known = await thread.github.comment(thread.text("turn 1"))
    await thread.claims.change(f"comment.{thread.job.job_id}", Known, lambda _: Known(id=known.id))
    await thread.publisher().finish(thread.text("done"))
    await thread.github.delete(older.id)
    assert await thread.ids() == [known.id]
    assert await thread.bodies() == ["done"]


async def test_comment_that_was_written_and_not_noted_after_our_look_is_deleted(
    thread: Thread,
) -> None:
    dying = thread.github

    async def meanwhile() -> None:
        await dying.comment(thread.text("on it"))

    thread.github = thread.behind(meanwhile)
    await thread.publisher().finish(thread.text("done"))
    assert await thread.bodies() == ["done"]


async def test_persons_copy_of_the_marker_is_not_ours(thread: Thread) -> None:
    scene, number = thread.scene, thread.job.issue_number
    copy = thread.text("Look, I am Patchwright")
    theirs = await scene.github.comment(scene.name, number, copy, token=scene.person.token)
    await thread.publisher().write(thread.text("on it"))
    await thread.publisher().finish(thread.text("done"))
    assert await thread.bodies() == ["Look, I am Patchwright", "done"]
    assert theirs["id"] in await thread.ids()


async def test_marker_of_another_job_or_key_is_not_this_ones(thread: Thread) -> None:
    for other in (marker_of(thread.job.job_id, "f" * 16), marker_of("1-2-issue-1", "0" * 16)):
        await thread.github.comment(f"other\n\n{other}")
    await thread.publisher().finish(thread.text("done"))
    assert len(await thread.ids()) == 3


async def test_deleted_comment_is_made_again_for_the_result_alone(thread: Thread) -> None:
    posted = await thread.publisher().write(thread.text("on it"))
    assert posted
    await thread.github.delete(posted.id)
    written = await thread.scene.github.requests("POST", f"{thread.scene.name}/issues")
    await thread.publisher().update(thread.text("turn 1"))
    await thread.publisher().write(thread.text("on it"))
    assert await thread.bodies() == []
    assert await thread.scene.github.requests("POST", f"{thread.scene.name}/issues") == written
    publishers = [thread.publisher() for _ in range(3)]
    await asyncio.gather(*(publisher.finish(thread.text("done")) for publisher in publishers))
    assert await thread.bodies() == ["done"]
    await thread.publisher().finish(thread.text("done again"))
    assert await thread.bodies() == ["done again"]


async def test_comment_is_found_beyond_the_first_page(thread: Thread) -> None:
    scene, number = thread.scene, thread.job.issue_number
    for _ in range(101):
        await scene.github.comment(scene.name, number, "chatter", token=scene.person.token)
    ours = await thread.github.comment(thread.text("on it"))
    found = await thread.github.comments_with(thread.marker)
    assert [comment.id for comment in found] == [ours.id]
