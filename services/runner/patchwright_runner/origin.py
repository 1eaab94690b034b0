"""Where a mirror's objects come from: git over HTTP, with a token in its environment only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pydantic import SecretStr

from patchwright_git.command import GitFailed, git

_FETCH_SECONDS = 24 * 3600.0
"""A backstop: the caller's own limit ends a fetch sooner."""
_LOCAL_SECONDS = 60.0
BASES = "refs/patchwright/base"
"""What jobs began from, each commit under its own name."""

_SETTINGS = {
    "fetch.fsckObjects": "true",
    "fetch.writeCommitGraph": "false",
    **{
        # Flaws that old tools left in well-known histories and that harm nobody.
        f"fetch.fsck.{flaw}": "ignore"
        for flaw in (
            "badEmail",
            "badTimezone",
            "badDateOverflow",
            "missingEmail",
            "missingNameBeforeEmail",
            "missingSpaceBeforeDate",
            "missingSpaceBeforeEmail",
            "zeroPaddedDate",
            "zeroPaddedFilemode",
            "multipleAuthors",
        )
    },
}


@dataclass(frozen=True, slots=True)
class Origin:
    """One repository on its host."""

    url: str
    token: SecretStr | None
    environment: Mapping[str, str]
    """Proxy and certificate variables."""
    lean: bool
    """Fetch no files but those of the commit that is asked for."""

    async def fetch(self, path: Path, commit: str, lock: int) -> None:
        """Get all branches, the commit by its id if none holds it, and keep it.

        `lock` is the mirror's: git gets it as well, so that it holds while an orphaned git
        still writes. Raises GitFailed.
        """
        await self._get(path, lock, "--prune", "+refs/heads/*:refs/heads/*")
        name = f"{BASES}/{commit}"
        if not await _is_commit(path, commit):
            # Its ref says that it is there, whole: of a lean mirror that is not true yet.
            await self._get(path, lock, commit if self.lean else f"+{commit}:{name}")
        if self.lean:
            await self._complete(path, commit, lock)
        await git("update-ref", name, commit, directory=path, timeout=_LOCAL_SECONDS)

    async def _complete(self, path: Path, commit: str, lock: int) -> None:
        """Get the files of this commit that are not there yet, each by its id."""
        walk = ("rev-list", "--objects", "--no-walk", "--missing=print", commit)
        listed = await git(*walk, directory=path, timeout=_LOCAL_SECONDS)
        missing = [line[1:] for line in listed.splitlines() if line.startswith(b"?")]
        if missing:
            # Else git would tell the server that it has what belongs to its commits.
            settings = {"fetch.negotiationAlgorithm": "noop"}
            await self._get(
                path, lock, "--stdin", stdin=b"\n".join(missing) + b"\n", settings=settings
            )

    async def _get(
        self,
        path: Path,
        lock: int,
        *rest: str,
        stdin: bytes | None = None,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        quiet = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
        options = [word for word in rest if word.startswith("--")]
        refspecs = [word for word in rest if not word.startswith("--")]
        filtered = ("--filter=blob:none",) if self.lean else ()
        await git(
            *("fetch", *quiet, *filtered, *options, "--", self.url, *refspecs),
            directory=path,
            timeout=_FETCH_SECONDS,
            token=self.token,
            stdin=stdin,
            settings={**_SETTINGS, **self._promise(), **settings},
            environment=self.environment,
            descriptors=[lock],
        )

    def _promise(self) -> dict[str, str]:
        """That missing files can be had from there, told for this command alone.

        A mirror whose own configuration said so would fetch by itself, without its token.
        """
        if not self.lean:
            return {}
        remote = f"remote.{self.url}"
        return {f"{remote}.promisor": "true", f"{remote}.partialCloneFilter": "blob:none"}


def is_lean(path: Path) -> bool:
    """Once files are missing, git must be told at every fetch, whatever the settings say."""
    return any((path / "objects" / "pack").glob("*.promisor"))


async def is_kept(path: Path, sha: str) -> bool:
    """Git writes a ref only after it has found everything that the commit needs."""
    name = f"{BASES}/{sha}"
    return await _succeeds("rev-parse", "--verify", "--quiet", name, directory=path) and (
        await _is_commit(path, sha)
    )


async def _is_commit(path: Path, sha: str) -> bool:
    return await _succeeds("cat-file", "-e", f"{sha}^{{commit}}", directory=path)


async def _succeeds(*arguments: str, directory: Path) -> bool:
    try:
        await git(*arguments, directory=directory, timeout=_LOCAL_SECONDS)
    except GitFailed:
        return False
    return True
