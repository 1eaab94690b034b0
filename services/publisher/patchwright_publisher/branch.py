"""Checks the runner's bundle against triage's record of the job, and pushes it.

The bundle comes from a process that works for an agent, so it is not believed: it must
be one commit on the job's base, within limits, and touch nothing protected.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from patchwright_common import clock, telemetry
from patchwright_common.errors import Permanent, Retry
from patchwright_common.events import ChangeProduced, JobRequested
from patchwright_git.command import GitFailed, git
from patchwright_git.remote import explained, last_line
from patchwright_git.scratch import scratch
from patchwright_publisher.text import one_line

PROTECTED = (
    ".github/workflows/*",
    ".github/actions/*",
    ".github/patchwright.yml",
    # A link in place of the folder would bring workflows from elsewhere.
    ".github",
    ".github/workflows",
    ".github/actions",
)
"""Paths (fnmatch in lower case, where `*` matches slashes) that a change may not touch."""
FILE_LIMIT = 1_000
FILE_BYTES = 10 * 2**20
BUNDLE_BYTES = 100 * 2**20
REGULAR_MODES = ("000000", "100644", "100755", "120000")
TRANSFER_TIMEOUT = 300.0
"""Seconds for one fetch or push."""
_CHANGE = "refs/patchwright/change"
_THERE = "refs/patchwright/there"
_FETCH = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
_HEADER = re.compile(
    rb"# v(?:2|3) git bundle\n(?:@object-format=sha1\n)?(?:-?[0-9a-f]{40}[^\n]*\n)*\n(?=PACK)"
)
"""https://git-scm.com/docs/gitformat-bundle, for what we read of it."""
_REJECTED = re.compile(r"\[(?:remote )?rejected\]")
_PASSING = re.compile(r"cannot lock ref|failed to update ref|internal server error", re.IGNORECASE)


@dataclass(frozen=True)
class Change:
    """A line of git's raw diff; `mode` and `blob` are the new ones, zeros for what is gone."""

    mode: str
    blob: str
    path: str


class Verified:
    """A change that may be pushed, unpacked in a repository that lasts as long as the context."""

    def __init__(self, repository: Path, job: JobRequested, token: SecretStr) -> None:
        self._repository = repository
        self._job = job
        self._token = token

    async def push(self, branch: str, *, by: float) -> None:
        """Push it as `branch`, without force: what somebody has built upon it stays theirs.

        Not after `by`, a time of `clock.now()`: somebody may have deleted the branch since.
        """
        if clock.now() > by:
            raise Retry("nothing was pushed, as the look before it had grown old")
        with telemetry.span("push branch", attributes={"vcs.ref.head.name": branch}):
            try:
                await self._remotely("push", "--quiet", to=f"{_CHANGE}:refs/heads/{branch}")
            except GitFailed as error:
                if not _REJECTED.search(error.said):
                    raise explained(error, "Pushing the branch") from None
                if not await self._is_on(branch):
                    raise _rejected(branch, error.said) from None

    async def _is_on(self, branch: str) -> bool:
        """Whether the branch holds the change already, with something on top or not."""
        try:
            await self._remotely(*_FETCH, to=f"+refs/heads/{branch}:{_THERE}")
        except GitFailed as error:
            if "couldn't find remote ref" in error.said:
                return False
            raise explained(error) from None
        try:
            await git("merge-base", "--is-ancestor", _CHANGE, _THERE, directory=self._repository)
        except GitFailed:
            return False
        return True

    async def _remotely(self, *command: str, to: str) -> None:
        await git(
            *(*command, "--", self._job.repository.clone_url, to),
            directory=self._repository,
            token=self._token,
            timeout=TRANSFER_TIMEOUT,
        )


def _rejected(branch: str, said: str) -> Permanent | Retry:
    line = next(line for line in said.splitlines() if _REJECTED.search(line))
    if _PASSING.search(line):
        return Retry(f"GitHub could not take the branch: {last_line(line)}")
    if "[remote rejected]" in line:
        return Permanent(f"GitHub refused the branch `{branch}`: {last_line(line)}")
    return Permanent(
        f"The branch `{branch}` is there already and holds something else.",
        advice="Delete or rename that branch.",
    )


@asynccontextmanager
async def verified(
    job: JobRequested, event: ChangeProduced, bundle: bytes, *, token: SecretStr
) -> AsyncIterator[Verified]:
    """Unpack and check the bundle. Raises `Permanent` when it may not be pushed."""
    if len(bundle) > BUNDLE_BYTES:
        raise Permanent(f"The change is larger than {BUNDLE_BYTES // 2**20} MiB.")
    with scratch("publish") as repository:
        with telemetry.span("verify change"):
            await _fetch_base(repository, job, token)
            try:
                await _unpack(repository, event, bundle)
                await _check(repository, job, event)
            except GitFailed as error:
                raise Permanent(f"The change cannot be read: {last_line(error.said)}") from error
        yield Verified(repository, job, token)


async def _fetch_base(repository: Path, job: JobRequested, token: SecretStr) -> None:
    await git("init", "--quiet", "--bare", "--template=", directory=repository)
    url = job.repository.clone_url
    with telemetry.span("fetch base"):
        try:
            await git(
                *(*_FETCH, "--depth=1", "--", url, f"{job.base}:refs/patchwright/base"),
                directory=repository,
                token=token,
                timeout=TRANSFER_TIMEOUT,
            )
        except GitFailed as error:
            raise explained(error) from None


async def _unpack(repository: Path, event: ChangeProduced, bundle: bytes) -> None:
    """The bundle's pack, checked as strictly as git can: no `.git` in a path, no object missing.

    Not by `git fetch`, which checks nothing in what comes from a bundle (2.39). It stays
    a pack, and large files are streamed: a few bytes can stand for a disk full of zeros.
    """
    header = _HEADER.match(bundle)
    if header is None:
        raise Permanent("The change cannot be read: it is not a bundle.")
    await git(
        *("index-pack", "--strict", "--stdin", "--fix-thin"),
        directory=repository,
        stdin=bundle[header.end() :],
        settings={"core.bigFileThreshold": "1m"},
    )
    await git("update-ref", _CHANGE, event.commit, directory=repository)


async def _check(repository: Path, job: JobRequested, event: ChangeProduced) -> None:
    listed = await git("rev-list", "--parents", "-n", "1", _CHANGE, directory=repository)
    if listed.decode().split() != [event.commit, job.base]:
        raise Permanent("The change is not one commit on the commit that the job began with.")
    raw = await git(
        *("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", job.base, _CHANGE),
        directory=repository,
    )
    changed = changes(raw)
    refuse(changed)
    there = [change for change in changed if change.mode != "000000"]
    blobs = "".join(f"{change.blob}\n" for change in there).encode()
    sizes = await git("cat-file", "--batch-check=%(objectsize)", directory=repository, stdin=blobs)
    _refuse_large(there, sizes.split(b"\n"))


def changes(raw: bytes) -> list[Change]:
    """Parse `git diff-tree -z --raw`: `:modes ids status NUL path NUL`."""
    fields = raw.split(b"\0")
    parsed = []
    for meta, path in zip(fields[0::2], fields[1::2], strict=False):
        _, mode, _, blob, _ = meta.decode().split()
        parsed.append(Change(mode, blob, path.decode(errors="backslashreplace")))
    return parsed


def refuse(changed: Sequence[Change]) -> None:
    """Raises `Permanent` with a sentence for the maintainer when the change may not be pushed."""
    if not changed:
        raise Permanent("The change is empty.")
    if len(changed) > FILE_LIMIT:
        raise Permanent(f"The change touches {len(changed)} files; the limit is {FILE_LIMIT}.")
    for change in changed:
        if any(fnmatch.fnmatchcase(change.path.lower(), pattern) for pattern in PROTECTED):
            raise Permanent(
                f"The change touches {_shown(change.path)}, which is protected.",
                advice="Make this part of the change by hand.",
            )
        if change.mode not in REGULAR_MODES:
            raise Permanent(f"The change makes {_shown(change.path)} something other than a file.")


def _refuse_large(changed: Sequence[Change], sizes: Sequence[bytes]) -> None:
    for change, size in zip(changed, sizes, strict=False):
        if not size.isdigit():
            raise Permanent(f"The change lacks the content of {_shown(change.path)}.")
        if int(size) > FILE_BYTES:
            raise Permanent(f"{_shown(change.path)} is larger than {FILE_BYTES // 2**20} MiB.")


def _shown(path: str) -> str:
    return f"`{one_line(path.replace('`', chr(39)), limit=200)}`"
