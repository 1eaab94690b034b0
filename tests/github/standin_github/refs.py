"""What follows when refs move: the push log, push events, pull requests that advance or merge."""

from __future__ import annotations

import time

from standin_github import events
from standin_github.diff import Commit, changed_files, commit_at, commits_between
from standin_github.git import ZERO
from standin_github.hub import Hub
from standin_github.records import Account, Issue, Pull, Push, Repository

PUSH_COMMITS = 2048
"""GitHub lists no more commits in one push event."""


async def refs_moved(
    hub: Hub,
    repository: Repository,
    sender: Account,
    before: dict[str, str],
    after: dict[str, str],
) -> None:
    """Compare two listings of all refs; the caller holds the repository's ref lock."""
    for ref in sorted(before.keys() | after.keys()):
        old, new = before.get(ref, ZERO), after.get(ref, ZERO)
        if old != new:
            await _ref_moved(hub, repository, sender, ref, (old, new))


async def _ref_moved(
    hub: Hub, repository: Repository, sender: Account, ref: str, move: tuple[str, str]
) -> None:
    old, new = move
    push = Push(hub.state.new_id(), repository.id, sender.id, ref, old, new, time.time())
    hub.state.pushes[push.id] = push
    repository.pushed_at = push.at
    commits, forced = await _pushed_commits(hub, repository, old, new)
    events.pushed(hub, push, commits, forced)
    branch = ref.removeprefix("refs/heads/")
    for issue, pull in hub.state.pulls_of(repository):
        if issue.state != "open":
            continue
        if pull.head_ref == branch:
            await _head_moved(hub, issue, pull, sender, push)
        elif pull.base_ref == branch and new != ZERO:
            await _base_moved(hub, issue, pull, sender, new)


async def _pushed_commits(
    hub: Hub, repository: Repository, old: str, new: str
) -> tuple[list[Commit], bool]:
    if new == ZERO:
        return [], False
    if old == ZERO:
        return [await commit_at(hub.git, repository.id, new)], False
    forced = not await hub.git.is_ancestor(repository.id, old, new)
    commits = await commits_between(hub.git, repository.id, old, new)
    return commits[:PUSH_COMMITS], forced


async def _head_moved(hub: Hub, issue: Issue, pull: Pull, sender: Account, push: Push) -> None:
    if push.after == ZERO:
        close(hub, issue, sender)
        return
    pull.head_sha = push.after
    await measure(hub, issue, pull)
    hub.state.note(issue, sender, "pushed", push.after)
    events.pull_changed(
        hub, issue, pull, sender, "synchronize", before=push.before, after=push.after
    )


async def _base_moved(hub: Hub, issue: Issue, pull: Pull, sender: Account, tip: str) -> None:
    if await hub.git.is_ancestor(issue.repository_id, pull.head_sha, tip):
        pull.merged_at, pull.merged_by, pull.merge_sha = time.time(), sender.id, tip
        hub.state.note(issue, sender, "merged", tip)
        close(hub, issue, sender)
    else:
        pull.base_sha = tip


async def measure(hub: Hub, issue: Issue, pull: Pull) -> None:
    """Count commits and lines, and keep the head reachable as refs/pull/N/head."""
    repository_id = issue.repository_id
    await hub.git.set_ref(repository_id, f"refs/pull/{issue.number}/head", pull.head_sha)
    files = await changed_files(hub.git, repository_id, pull.base_sha, pull.head_sha)
    commits = await commits_between(hub.git, repository_id, pull.base_sha, pull.head_sha)
    pull.commits, pull.changed_files = len(commits), len(files)
    pull.additions = sum(f.additions for f in files)
    pull.deletions = sum(f.deletions for f in files)


def close(hub: Hub, issue: Issue, sender: Account, reason: str | None = None) -> None:
    issue.state, issue.state_reason = "closed", reason
    issue.closed_at = issue.updated_at = time.time()
    issue.closed_by = sender.id
    hub.state.note(issue, sender, "closed", reason or "")
    events.issue_changed(hub, issue, sender, "closed")


def reopen(hub: Hub, issue: Issue, sender: Account) -> None:
    issue.state, issue.state_reason = "open", "reopened"
    issue.closed_at, issue.closed_by, issue.updated_at = None, None, time.time()
    hub.state.note(issue, sender, "reopened")
    events.issue_changed(hub, issue, sender, "reopened")
