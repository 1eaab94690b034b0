"""What lies between two commits: changed files with their patches, and the commits themselves."""

from __future__ import annotations

from dataclasses import dataclass

from standin_github.git import Git, GitError

STATUS = {
    "A": "added",
    "D": "removed",
    "M": "modified",
    "R": "renamed",
    "C": "copied",
    "T": "changed",
}
COMMIT_FORMAT = "%x00".join(["%H", "%T", "%P", "%an", "%ae", "%aI", "%cn", "%ce", "%cI", "%B"])


@dataclass(frozen=True, slots=True)
class FileChange:
    """`patch` starts at the first hunk and is None for what is not text."""

    path: str
    previous: str | None
    status: str
    sha: str
    additions: int
    deletions: int
    patch: str | None


@dataclass(frozen=True, slots=True)
class Commit:
    sha: str
    tree: str
    parents: list[str]
    author_name: str
    author_email: str
    authored_at: str
    committer_name: str
    committer_email: str
    committed_at: str
    message: str


async def changed_files(git: Git, repository_id: int, base: str, head: str) -> list[FileChange]:
    """From the merge base to `head`, as a pull request shows it."""
    start = await merge_base(git, repository_id, base, head)
    return await files_between(git, repository_id, start or base, head)


async def files_between(git: Git, repository_id: int, start: str, end: str) -> list[FileChange]:
    arguments = ("diff", "--no-ext-diff", "--no-textconv", "--full-index", "-M", start, end)
    raw = await git.text(repository_id, *arguments, "--raw", "-z", "--no-abbrev")
    # Not stripped: an empty line of context is a single space.
    patch = await git.run(repository_id, *arguments, "--patch")
    patches = _split_patches(patch.decode(errors="replace").removesuffix("\n"))
    changes = []
    for status, sha, path, previous in _raw_entries(raw):
        own = [patches.pop(0) for _ in range(2 if status == "T" else 1) if patches]
        changes.append(_file_change(status, sha, path, previous, "\n".join(own)))
    return changes


async def merge_base(git: Git, repository_id: int, one: str, other: str) -> str | None:
    try:
        return await git.text(repository_id, "merge-base", one, other)
    except GitError:
        return None


async def commits_between(git: Git, repository_id: int, base: str, head: str) -> list[Commit]:
    """Oldest first."""
    return await _log(git, repository_id, "--reverse", f"{base}..{head}")


async def commit_at(git: Git, repository_id: int, sha: str) -> Commit:
    return (await _log(git, repository_id, "-1", sha))[0]


async def _log(git: Git, repository_id: int, *arguments: str) -> list[Commit]:
    # "-z" would clash with the separators inside a record, so records end with a byte of their own.
    output = await git.text(repository_id, "log", f"--format={COMMIT_FORMAT}%x01", *arguments)
    return [_commit(record.lstrip("\n")) for record in output.split("\x01") if record.strip()]


def _commit(record: str) -> Commit:
    sha, tree, parents, *rest = record.rstrip().split("\0", 9)
    return Commit(sha, tree, parents.split(), *rest)


def _raw_entries(raw: str) -> list[tuple[str, str, str, str | None]]:
    """`:mode mode sha sha STATUS NUL path NUL [path NUL]`, see `git help diff-tree`."""
    parts = raw.split("\0")
    entries: list[tuple[str, str, str, str | None]] = []
    while len(parts) > 1:
        _, _, old, new, status = parts.pop(0).split(" ")
        path, previous = parts.pop(0), None
        if status[0] in "RC":
            path, previous = parts.pop(0), path
        entries.append((status[0], old if status == "D" else new, path, previous))
    return entries


def _split_patches(patch: str) -> list[str]:
    if not patch:
        return []
    chunks = ("\n" + patch).split("\ndiff --git ")
    return chunks[1:]


def _file_change(status: str, sha: str, path: str, previous: str | None, patch: str) -> FileChange:
    lines = patch.split("\n")
    start = next((i for i, line in enumerate(lines) if line.startswith("@@")), None)
    hunks = [] if start is None else lines[start:]
    return FileChange(
        path=path,
        previous=previous,
        status=STATUS[status],
        sha=sha,
        additions=sum(line.startswith("+") for line in hunks),
        deletions=sum(line.startswith("-") for line in hunks),
        patch="\n".join(hunks) if hunks else None,
    )
