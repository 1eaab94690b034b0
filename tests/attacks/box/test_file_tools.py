"""Attacks on the file tools: paths and links that lead out, and changes while they work."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from patchwright_runner.sandbox.inside.edit import Editor, Refusal
from patchwright_runner.sandbox.protocol import ToolError
from patchwright_runner.sandbox.remote import RemoteBox

from .attack import Attack, against, exports, named
from .unprotected import Unprotected

_WALK = "each step of a path is opened relative to the one before, and never follows a link"
_PATIENCE = 60.0
"""Seconds in which a race is won at least once by a tool that looks first and opens then."""


@dataclass(frozen=True)
class Escape(Attack):
    """`command` prepares the workspace; the tools are asked for `path`, which leads out."""

    path: str = "link"


ESCAPES = (
    Escape("path with dots", _WALK, path="../outside/file"),
    Escape("dots behind a folder", _WALK, "mkdir a", path="a/../../outside/file"),
    Escape(
        "dots behind a link",
        _WALK,
        "mkdir -p a/b; ln -s a/b link",
        path="link/../../../outside/file",
    ),
    Escape("absolute path", _WALK, path="$TOP/outside/file"),
    Escape("link to a file", _WALK, "ln -s $TOP/outside/file link"),
    Escape("relative link to a file", _WALK, "ln -s ../outside/file link"),
    Escape("link to a folder", _WALK, "ln -s $TOP/outside link", path="link/file"),
    Escape("link to a link", _WALK, "ln -s ../outside one; ln -s one two", path="two/file"),
    Escape("link to the root of everything", _WALK, "ln -s / link", path="link$TOP/outside/file"),
    Escape(
        "link by way of proc", _WALK, "ln -s /proc/self/root$TOP/outside link", path="link/file"
    ),
    Escape(
        "hard link",
        "/workspace is a file system of its own: no link crosses to it",
        "ln $TOP/outside/file link",
    ),
)


@against(*ESCAPES)
async def test_file_tools_do_not_leave_the_workspace_by(
    attack: Escape, box: RemoteBox, unprotected: Unprotected
) -> None:
    alone = unprotected.folder
    unprotected.run(_prepared(alone, alone / "workspace", attack))
    naive = alone / "workspace" / attack.path.replace("$TOP", str(alone))
    assert naive.read_text() == "outside\n"
    naive.write_text("changed")
    assert (alone / "outside" / "file").read_text() == "changed"

    await box.run(_prepared(Path("/tmp"), Path("/workspace"), attack), timeout=30)
    path = attack.path.replace("../outside", "../tmp/outside").replace("$TOP", "/tmp")
    for tool in (
        lambda: box.view(path),
        lambda: box.create(path, "changed"),
        lambda: box.str_replace(path, "outside", "changed"),
        lambda: box.insert(path, 0, "changed\n"),
    ):
        with suppress(ToolError):
            assert "outside\n" not in await tool()
        assert (await box.run("cat /tmp/outside/file", timeout=30)).output == "outside\n"


def _prepared(top: Path, workspace: Path, attack: Escape) -> str:
    """The same surroundings: a file beside the workspace, and the links in it."""
    command = attack.command
    if workspace == Path("/workspace"):
        command = command.replace("../outside", "../tmp/outside")
    return f"""
        mkdir -p {top}/outside {workspace}
        echo outside > {top}/outside/file
        cd {workspace}
        {exports({"TOP": str(top)})}{command}"""


SWAPPING = """
import ctypes, os, sys
os.chdir(sys.argv[1])
exchange = ctypes.CDLL(None).renameat2
while True:
    exchange(-100, b"folder", -100, b"link", 2)
"""
"""A folder and a link that leads out change places, as fast as they can."""


@named("file swapped between look and use", _WALK)
def test_race_against_the_file_tools_is_never_won(tmp_path: Path) -> None:
    """The editor itself, outside a box, because in one nothing runs beside it."""
    workspace, outside = tmp_path / "workspace", tmp_path / "outside"
    (workspace / "folder").mkdir(parents=True)
    (workspace / "link").symlink_to("../outside")
    outside.mkdir()
    (outside / "file").write_text("outside")
    target = workspace / "folder" / "file"

    def naive() -> None:
        if target.resolve().is_relative_to(workspace):
            target.write_text("naive")

    editor = Editor(str(workspace))
    with _swapping(workspace):
        attempts = _until_written(outside, naive)
        (outside / "file").write_text("outside")
        for _ in range(max(2000, 5 * attempts)):
            with suppress(Refusal, OSError):
                assert "outside" not in editor.view("folder/file")
            with suppress(Refusal, OSError):
                editor.create("folder/file", "edited")
    assert (outside / "file").read_text() == "outside"


def _until_written(outside: Path, tool: Callable[[], None]) -> int:
    """How many attempts a tool took that looks at the path, then opens it."""
    end, attempts = time.monotonic() + _PATIENCE, 0
    while (outside / "file").read_text() != "naive":
        assert time.monotonic() < end, "the race was not won once, so nothing is shown"
        attempts += 1
        with suppress(OSError):
            tool()
    return attempts


@contextmanager
def _swapping(workspace: Path) -> Iterator[None]:
    with subprocess.Popen(["python3", "-S", "-c", SWAPPING, str(workspace)]) as process:
        try:
            yield
        finally:
            process.kill()


@named("race against the file tools by a process left behind", "nothing outlives its command")
async def test_nothing_runs_beside_the_file_tools(box: RemoteBox, unprotected: Unprotected) -> None:
    attack = """
        touch count
        setsid -f bash -c 'while :; do echo x >> count; done'
        until [ -s count ]; do sleep 0.01; done"""
    unprotected.run(attack)
    count = unprotected.folder / "count"
    seen = count.stat().st_size
    while count.stat().st_size == seen:
        time.sleep(0.01)

    await box.run(attack, timeout=30)
    first = await box.view("count")
    await box.run("sleep 0.2", timeout=30)
    assert await box.view("count") == first
