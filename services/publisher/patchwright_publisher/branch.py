"""Checks the runner's bundle against triage's record of the job, and pushes it.

The bundle comes from a process that works for an agent, so it is not believed: it must
be one commit on the job's base, within limits, and touch nothing protected.
"""

from __future__ import annotations

import fnmatch
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from patchwright_common import telemetry
from patchwright_common.errors import Permanent
from patchwright_common.events import ChangeProduced, JobRequested
from patchwright_git.command import GitError, git

PROTECTED = (".github/workflows/*", ".github/patchwright.yml", ".github/actions/*")
"""Paths (fnmatch, where `*` matches slashes) that a change may not touch."""
FILE_LIMIT = 1_000
FILE_BYTES = 10 * 2**20
REGULAR_MODES = ("000000", "100644", "100755", "120000")
TRANSFER_TIMEOUT = 300.0
"""Seconds for one fetch or push."""
_CHANGE = "refs/patchwright/change"


@dataclass(frozen=True)
class Change:
    """A line of git's raw diff."""

    mode: str
    path: str


class Verified:
    """A change that may be pushed, unpacked in a repository that lasts as long as the context."""

    def __init__(self, repository: Path, job: JobRequested, token: SecretStr) -> None:
        self._repository = repository
        self._job = job
        self._token = token

    async def push(self, branch: str) -> None:
        """Push it as `branch`, without force: what somebody has built upon it stays theirs."""
        with telemetry.span("push branch", attributes={"vcs.ref.head.name": branch}):
            try:
                await git(
                    "push", "--quiet", self._job.repository.clone_url,
                    f"{_CHANGE}:refs/heads/{branch}",
                    repository=self._repository, token=self._token, timeout=TRANSFER_TIMEOUT,
                )  # fmt: skip
            except GitError as error:
                if "non-fast-forward" in error.stderr or "fetch first" in error.stderr:
                    return
                raise Permanent(f"GitHub refused the branch: {error.stderr}") from error


@asynccontextmanager
async def verified(
    job: JobRequested, event: ChangeProduced, bundle: bytes, *, token: SecretStr
) -> AsyncIterator[Verified]:
    """Unpack and check the bundle. Raises `Permanent` when it may not be pushed."""
    with tempfile.TemporaryDirectory(prefix="patchwright-publisher-") as folder:
        repository = Path(folder)
        with telemetry.span("verify change"):
            await _unpack(repository, job, event, bundle, token)
            await _check(repository, job, event)
        yield Verified(repository, job, token)


async def _unpack(
    repository: Path,
    job: JobRequested,
    event: ChangeProduced,
    bundle: bytes,
    token: SecretStr,
) -> None:
    (repository / "change.bundle").write_bytes(bundle)
    await git("init", "--quiet", "--bare", ".", repository=repository)
    url = job.repository.clone_url
    with telemetry.span("fetch base"):
        await git(
            "fetch", "--quiet", "--no-tags", "--depth=1", url, job.base,
            repository=repository, token=token, timeout=TRANSFER_TIMEOUT,
        )  # fmt: skip
    try:
        await git(
            "-c", "fetch.fsckObjects=true", "-c", "transfer.unpackLimit=100000",
            "fetch", "--quiet", "--no-tags", "change.bundle", f"{event.commit}:{_CHANGE}",
            repository=repository, environment={"GIT_ALLOW_PROTOCOL": "file"},
        )  # fmt: skip
    except GitError as error:
        raise Permanent(f"The change could not be unpacked: {error.stderr}") from error


async def _check(repository: Path, job: JobRequested, event: ChangeProduced) -> None:
    listed = await git("rev-list", "--parents", "-n", "1", _CHANGE, repository=repository)
    if listed.decode().split() != [event.commit, job.base]:
        raise Permanent("The change is not one commit on the commit that the job began with.")
    raw = await git(
        "diff-tree", "-r", "-z", "--raw", "--no-renames", job.base, _CHANGE, repository=repository
    )
    refuse(changes(raw))
    sizes = await git("ls-tree", "-r", "-l", "-z", _CHANGE, repository=repository)
    _refuse_large(sizes, {change.path for change in changes(raw)})


def changes(raw: bytes) -> list[Change]:
    """Parse `git diff-tree -z --raw`: `:modes ids status NUL path NUL`."""
    fields = raw.split(b"\0")
    return [
        Change(mode=meta.split()[1].decode(), path=path.decode(errors="surrogateescape"))
        for meta, path in zip(fields[0::2], fields[1::2], strict=False)
        if meta
    ]


def refuse(changed: list[Change]) -> None:
    """Raises `Permanent` with a sentence for the maintainer when the change may not be pushed."""
    if not changed:
        raise Permanent("The change is empty.")
    if len(changed) > FILE_LIMIT:
        raise Permanent(f"The change touches {len(changed)} files; the limit is {FILE_LIMIT}.")
    for change in changed:
        if any(fnmatch.fnmatchcase(change.path.lower(), pattern) for pattern in PROTECTED):
            raise Permanent(
                f"The change touches `{change.path}`, which is protected.",
                advice="Make this part of the change by hand.",
            )
        if change.mode not in REGULAR_MODES:
            raise Permanent(f"The change makes `{change.path}` something other than a file.")


def _refuse_large(listing: bytes, touched: set[str]) -> None:
    for line in listing.split(b"\0"):
        if not line:
            continue
        meta, _, path = line.partition(b"\t")
        name, size = path.decode(errors="surrogateescape"), meta.split()[3]
        if name in touched and size.isdigit() and int(size) > FILE_BYTES:
            raise Permanent(f"`{name}` is larger than {FILE_BYTES // 2**20} MiB.")
