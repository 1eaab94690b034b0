"""The contract of a box, part two: the file tools."""

from __future__ import annotations

import pytest

from patchwright_runner.sandbox.protocol import ToolError
from patchwright_runner.sandbox.remote import RemoteBox

SEVERAL = "one\ntwo\nthree\nfour\n"


async def _text(box: RemoteBox, path: str) -> str:
    return (await box.run(f"cat {path}", timeout=10)).output


async def test_created_file_holds_the_text_and_its_folders_are_made(box: RemoteBox) -> None:
    assert "created" in await box.create("/workspace/a/b/c.txt", "héllo\n")
    assert await _text(box, "a/b/c.txt") == "héllo\n"
    assert "overwritten" in await box.create("a/b/c.txt", "new")
    assert await _text(box, "a/b/c.txt") == "new"


async def test_overwriting_keeps_the_executable_bit(box: RemoteBox) -> None:
    await box.run("echo old > tool; chmod +x tool", timeout=10)
    await box.create("tool", "new\n")
    assert (await box.run("test -x tool && cat tool", timeout=10)).output == "new\n"


async def test_view_numbers_lines(box: RemoteBox) -> None:
    await box.create("f", SEVERAL)
    assert "     1\tone\n     2\ttwo\n     3\tthree\n     4\tfour" in await box.view("f")
    shown = await box.view("f", (2, 3))
    assert "     2\ttwo\n     3\tthree" in shown
    assert "one" not in shown
    assert (await box.view("f", (3, -1))).endswith("     3\tthree\n     4\tfour")


async def test_view_of_a_folder_shows_two_levels(box: RemoteBox) -> None:
    await box.create("a/b/c/d", "")
    await box.create(".hidden/x", "")
    shown = (await box.view("/workspace")).splitlines()
    assert shown[1:] == ["/workspace", "/workspace/a/", "/workspace/a/b/"]


@pytest.mark.parametrize("view_range", [(0, 2), (3, 2), (9, 12)])
async def test_view_refuses_a_range_that_does_not_fit(
    box: RemoteBox, view_range: tuple[int, int]
) -> None:
    await box.create("f", SEVERAL)
    with pytest.raises(ToolError, match="has 4 lines"):
        await box.view("f", view_range)


async def test_long_file_is_cut_with_a_hint(box: RemoteBox) -> None:
    await box.run("seq 1 200000 > long", timeout=10)
    assert "use view_range" in await box.view("long")


async def test_str_replace_replaces_the_only_match(box: RemoteBox) -> None:
    await box.create("f", SEVERAL)
    shown = await box.str_replace("f", "two\nthree", "2\n3")
    assert "     2\t2\n     3\t3" in shown
    assert await _text(box, "f") == "one\n2\n3\nfour\n"


async def test_str_replace_refuses_none_or_several_matches(box: RemoteBox) -> None:
    await box.create("f", "x\nx\n")
    with pytest.raises(ToolError, match="Found 2 matches"):
        await box.str_replace("f", "x", "y")
    with pytest.raises(ToolError, match="No match"):
        await box.str_replace("f", "z", "y")
    assert await _text(box, "f") == "x\nx\n"


async def test_edit_keeps_crlf_and_bytes_that_are_not_utf8(box: RemoteBox) -> None:
    await box.run("printf 'a\\r\\nb\\r\\n\\377\\r\\n' > f", timeout=10)
    await box.str_replace("f", "a\nb", "c\nd")
    await box.insert("f", 1, "new")
    result = await box.run("od -An -c f | tr -s ' \\n' ' '", timeout=10)
    assert result.output.strip() == r"c \r \n n e w \r \n d \r \n 377 \r \n"


async def test_insert_puts_lines_after_the_given_one(box: RemoteBox) -> None:
    await box.create("f", "one\ntwo\n")
    await box.insert("f", 0, "zero\n")
    await box.insert("f", 3, "three")
    assert await _text(box, "f") == "zero\none\ntwo\nthree\n"
    with pytest.raises(ToolError, match="has 4 lines"):
        await box.insert("f", 9, "x")


@pytest.mark.parametrize("path", ["/etc/passwd", "../etc/passwd", "/", ""])
async def test_path_outside_the_workspace_is_refused(box: RemoteBox, path: str) -> None:
    with pytest.raises(ToolError, match=r"outside|empty"):
        await box.view(path)
    with pytest.raises(ToolError, match=r"outside|empty"):
        await box.create(path, "x")


async def test_fifo_and_device_do_not_hang_the_tools(box: RemoteBox) -> None:
    await box.run("mkfifo pipe", timeout=10)
    with pytest.raises(ToolError, match="not a regular file"):
        await box.view("pipe")
    with pytest.raises(ToolError):
        await box.create("pipe", "x")


async def test_errors_of_the_file_system_are_told(box: RemoteBox) -> None:
    await box.create("file", "x")
    with pytest.raises(ToolError, match="does not exist"):
        await box.view("missing")
    with pytest.raises(ToolError, match=r"file: Not a directory"):
        await box.create("file/below", "x")
    with pytest.raises(ToolError, match="No space left"):
        await box.create("big", "x" * 7_000_000 * 4)


async def test_text_with_half_a_surrogate_pair_is_stored_with_a_replacement(box: RemoteBox) -> None:
    await box.create("f", "a\ud800b")
    assert await _text(box, "f") == "a?b"
