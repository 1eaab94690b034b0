"""From validated entries to a bundle: the commit is exactly the change, and repeatable."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from harness.repositories import Repository, git
from patchwright_runner.change import Author, Change, bundle
from patchwright_runner.sandbox.protocol import Entry

WHEN = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
AUTHOR = Author("Patchwright", "bot@example.com")


async def _bundle(
    repository: Repository,
    *entries: Entry,
    message: str = "Do it\n\nFully.",
    author: Author = AUTHOR,
) -> Change | None:
    return await bundle(
        entries,
        mirror=repository.bare,
        base=repository.base,
        message=message,
        author=author,
        date=WHEN,
    )


def _applied(repository: Repository, change: Change, tmp_path: Path) -> Path:
    """A clone into which the bundle was fetched and checked out."""
    file = tmp_path / "change.bundle"
    file.write_bytes(change.data)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(repository.bare), str(clone))
    git(clone, "bundle", "verify", str(file))
    git(clone, "fetch", "--quiet", str(file), "refs/heads/patchwright")
    git(clone, "checkout", "--quiet", "FETCH_HEAD")
    return clone


async def test_bundle_holds_one_commit_with_the_change_on_the_base(
    repository: Repository, tmp_path: Path
) -> None:
    change = await _bundle(
        repository,
        Entry("deleted.txt", None),
        Entry("changed.txt", "100644", b"one\n2\nthree\n"),
        Entry("new/run.sh", "100755", b"#!/bin/sh\n"),
        Entry("new/link", "120000", b"../kept.txt"),
        Entry("binary", "100644", b"\0\1\2"),
    )
    assert change is not None
    assert change.digest == hashlib.sha256(change.data).hexdigest()
    clone = _applied(repository, change, tmp_path)
    assert git(clone, "rev-parse", "HEAD", "HEAD^") == f"{change.commit}\n{repository.base}"
    assert git(clone, "show", "--no-patch", "--format=%an|%ae|%cn|%ct|%B") == (
        f"Patchwright|bot@example.com|Patchwright|{int(WHEN.timestamp())}|Do it\n\nFully."
    )
    assert not (clone / "deleted.txt").exists()
    assert (clone / "changed.txt").read_text() == "one\n2\nthree\n"
    assert (clone / "new/run.sh").stat().st_mode & 0o100
    assert (clone / "new/link").readlink() == Path("../kept.txt")
    assert {(f.path, f.status, f.additions, f.deletions) for f in change.files} == {
        ("deleted.txt", "D", 0, 1),
        ("changed.txt", "M", 1, 1),
        ("new/run.sh", "A", 1, 0),
        ("new/link", "A", 1, 0),
        ("binary", "A", 0, 0),
    }
    assert "5 files changed, 3 insertions(+), 2 deletions(-)" in change.diffstat


async def test_no_entries_or_none_that_differ_is_no_change(repository: Repository) -> None:
    assert await _bundle(repository) is None
    assert await _bundle(repository, Entry("kept.txt", "100644", b"kept\n")) is None


async def test_same_entries_give_the_same_commit(repository: Repository) -> None:
    first = await _bundle(repository, Entry("a", "100644", b"x"))
    second = await _bundle(repository, Entry("a", "100644", b"x"))
    assert first is not None
    assert second is not None
    assert (first.commit, first.digest) == (second.commit, second.digest)


async def test_file_that_becomes_a_folder_and_back_is_stored(
    repository: Repository, tmp_path: Path
) -> None:
    change = await _bundle(
        repository,
        Entry("kept.txt/in", "100644", b"x"),
        Entry("folder", "100644", b"y"),
        Entry("kept.txt", None),
        Entry("folder/inner.txt", None),
    )
    assert change is not None
    clone = _applied(repository, change, tmp_path)
    assert (clone / "kept.txt/in").read_text() == "x"
    assert (clone / "folder").read_text() == "y"


async def test_names_with_quotes_backslashes_and_dashes_are_stored_as_they_are(
    repository: Repository,
) -> None:
    names = ['a"b', "back\\slash", "-rf", "ünï", " lead", ":(top)", "two  spaces", "tab?"]
    change = await _bundle(repository, *(Entry(name, "100644", b"x") for name in names))
    assert change is not None
    assert {file.path for file in change.files} == set(names)


async def test_author_and_message_cannot_add_commands_to_the_import(
    repository: Repository, tmp_path: Path
) -> None:
    author = Author("Eve <root@x> 0 +0000\ncommitter", "a@b>\nfrom x")
    change = await _bundle(
        repository,
        Entry("a", "100644", b"x\ndone\nM 100644 inline evil\ndata 1\ny\n"),
        message="m\nM 100644 inline evil\ndata 1\ny\n",
        author=author,
    )
    assert change is not None
    assert [file.path for file in change.files] == ["a"]
    clone = _applied(repository, change, tmp_path)
    assert (
        git(clone, "show", "--no-patch", "--format=%an|%ae")
        == "Eve root@x 0 +0000committer|a@bfromx"
    )


async def test_attributes_of_the_change_run_nothing(repository: Repository, tmp_path: Path) -> None:
    """A filter or a text conversion named by the agent has no configuration to run from."""
    change = await _bundle(
        repository,
        Entry(".gitattributes", "100644", b"* filter=evil diff=evil text eol=crlf\n"),
        Entry("a", "100644", b"one\n"),
    )
    assert change is not None
    clone = _applied(repository, change, tmp_path)
    assert git(clone, "cat-file", "blob", "HEAD:a") == "one"


async def test_mirror_is_left_as_it_was(repository: Repository) -> None:
    before = sorted(repository.bare.rglob("*"))
    await _bundle(repository, Entry("a", "100644", b"x"))
    assert sorted(repository.bare.rglob("*")) == before
