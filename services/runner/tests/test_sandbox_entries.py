"""The stream from the box is an attacker's: every lie in it has a refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwright_common.errors import Permanent
from patchwright_runner.sandbox.entries import Assembly, check_path
from patchwright_runner.sandbox.protocol import Entry, Limits

LIMITS = Limits(changed_files=3, changed_bytes=100)


def _item(path: object = "a", mode: object = "100644", size: object = 1, **rest: object) -> object:
    return {"path": path, "mode": mode, "size": size, **rest}


@pytest.mark.parametrize(
    "path", ["a", "a/b", ".github/x", "git", ".gitignore", "...", "a b", "é", "~"]
)
def test_ordinary_path_is_let_through(path: str) -> None:
    check_path(path)


@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b"])
def test_path_out_of_the_repository_is_refused(path: str) -> None:
    with pytest.raises(Permanent):
        check_path(path)


@pytest.mark.parametrize(
    "path",
    [
        *(".git", ".git/config", "a/.git/hooks/x", ".GIT/x", ".Git", "git~1", "GIT~2/x"),
        *(".git ", ".git.", ".git. .", ".g\u200cit", "\ufeff.git", ".gi\u202et", "\uff0egit"),
        *(".git::$INDEX_ALLOCATION/config", ".git:x", "a\\.git\\config", "a\\git~1"),
    ],
)
def test_git_directory_by_any_other_name_is_refused(path: str) -> None:
    with pytest.raises(Permanent, match="git's own directory"):
        check_path(path)


@pytest.mark.parametrize("path", ["a\nb", "a\0b", "a\x1b[31m", "\x7f", "a\x85b"])
def test_control_characters_are_refused(path: str) -> None:
    with pytest.raises(Permanent, match="control characters"):
        check_path(path)


@pytest.mark.parametrize("path", ["\udcff", "x" * 256, "/".join(["x" * 200] * 6)])
def test_name_that_cannot_be_stored_everywhere_is_refused(path: str) -> None:
    with pytest.raises(Permanent):
        check_path(path)


@given(st.text(max_size=40))
def test_any_name_is_either_safe_or_refused_with_a_sentence(path: str) -> None:
    try:
        check_path(path)
        refusal = "."
    except Permanent as error:
        refusal = error.reason
    assert refusal.endswith(".")
    assert refusal.isprintable()
    assert refusal != "." or not {".git", "..", ""} & set(path.lower().split("/"))


def test_pieces_are_put_together() -> None:
    assembly = Assembly(LIMITS)
    assert assembly.add(_item(size=4, more=True), b"ab") is None
    assert assembly.add(_item(size=4), b"cd") == Entry("a", "100644", b"abcd")
    assert assembly.add(_item("b", None, 0), b"") == Entry("b", None)


@pytest.mark.parametrize(
    "item",
    [
        *(None, [], "x", {}, _item(path=1), _item(path=None), _item(size="1"), _item(size=-1)),
        *(_item(size=None), _item(mode="160000"), _item(mode="040000"), _item(mode=100644)),
        *(_item(mode=["100644"]), _item(mode="100666")),
    ],
)
def test_item_that_makes_no_sense_is_refused(item: object) -> None:
    with pytest.raises(Permanent):
        Assembly(LIMITS).add(item, b"x")


def test_more_or_less_content_than_announced_is_refused() -> None:
    for piece in (b"", b"xyz"):
        with pytest.raises(Permanent, match="size"):
            Assembly(LIMITS).add(_item(size=2), piece)


def test_announced_size_counts_before_its_content_arrives() -> None:
    with pytest.raises(Permanent, match="larger than"):
        Assembly(LIMITS).add(_item(size=10**15, more=True), b"")


def test_second_piece_cannot_change_what_was_announced() -> None:
    assembly = Assembly(LIMITS)
    assembly.add(_item("a", "100644", 4, more=True), b"ab")
    assert assembly.add(_item(".git/config", "160000", 900), b"cd") == Entry("a", "100644", b"abcd")


def test_too_many_entries_are_refused() -> None:
    assembly = Assembly(LIMITS)
    for name in "abc":
        assembly.add(_item(name), b"x")
    with pytest.raises(Permanent, match="more than 3 files"):
        assembly.add(_item("d", None, 0), b"")


@pytest.mark.parametrize(
    ("first", "second"),
    [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("A/b", "a"), ("\u00e9", "E\u0301/b")],
)
def test_paths_that_contradict_each_other_are_refused(first: str, second: str) -> None:
    assembly = Assembly(LIMITS)
    assembly.add(_item(first), b"x")
    with pytest.raises(Permanent):
        assembly.add(_item(second), b"x")


@pytest.mark.parametrize(
    ("path", "target"), [("l", b""), ("l", b"a\0b"), (".gitmodules", b"x"), ("a/.GitModules", b"x")]
)
def test_symbolic_link_that_misleads_git_is_refused(path: str, target: bytes) -> None:
    with pytest.raises(Permanent):
        Assembly(LIMITS).add(_item(path, "120000", len(target)), target)
