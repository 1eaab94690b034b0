"""The contract of a box, part three: check-out, and what of the tree leaves it as the change."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.boxes import LIMITS, MIB
from harness.repositories import Repository
from patchwright_common.errors import Permanent
from patchwright_runner.sandbox.inside import tree
from patchwright_runner.sandbox.protocol import Backend, BoxSpec, Entry
from patchwright_runner.sandbox.remote import RemoteBox


async def _do(box: RemoteBox, command: str) -> str:
    result = await box.run(f"set -e; {command}", timeout=30)
    assert result.exit_code == 0, result.output
    return result.output


async def _collect(box: RemoteBox, repository: Repository) -> dict[str, Entry]:
    return {entry.path: entry async for entry in box.collect(repository.base)}


async def test_workspace_is_a_clean_clone_with_history_and_without_remote(
    worktree: RemoteBox, repository: Repository
) -> None:
    shown = await _do(
        worktree, "git status --porcelain; git log --format=%H; git remote; ls .git/hooks || true"
    )
    assert shown.splitlines()[0] == repository.base
    assert "No such file" in shown
    assert await _do(worktree, "cat changed.txt link; test -x tool.sh || echo plain") == (
        "one\ntwo\nthree\nkept\nplain\n"
    )


async def test_untouched_tree_is_no_change(worktree: RemoteBox, repository: Repository) -> None:
    assert await _collect(worktree, repository) == {}


async def test_edits_additions_and_deletions_are_the_change(
    worktree: RemoteBox, repository: Repository
) -> None:
    await _do(
        worktree, "echo four >> changed.txt; rm deleted.txt; mkdir -p n/m; echo new > n/m/new"
    )
    assert await _collect(worktree, repository) == {
        "changed.txt": Entry("changed.txt", "100644", b"one\ntwo\nthree\nfour\n"),
        "deleted.txt": Entry("deleted.txt", None),
        "n/m/new": Entry("n/m/new", "100644", b"new\n"),
    }


@pytest.mark.parametrize(
    "command",
    [
        "true",
        "echo ONE > changed.txt.new; tail -n +2 changed.txt >> changed.txt.new;"
        " touch -r changed.txt changed.txt.new; mv changed.txt.new changed.txt",
        "sed -i s/one/ONE/ changed.txt; touch -d @0 changed.txt",
        "cp -rp folder other; echo n > other/deep.txt; mv folder third; mv other folder",
        "chmod +x kept.txt; rm deleted.txt; ln -sf changed.txt link",
        "rm .git/index; echo x >> kept.txt",
        "git rm -q --cached kept.txt; echo kept.txt > .gitignore; echo y > kept.txt",
    ],
)
async def test_quick_look_sees_what_the_whole_one_sees(
    worktree: RemoteBox, repository: Repository, command: str
) -> None:
    await _do(worktree, command)
    quick = [entry async for entry in worktree.collect(repository.base, quick=True)]
    assert quick == [entry async for entry in worktree.collect(repository.base)]
    assert quick or command == "true"


async def test_quick_look_reads_only_what_was_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = Repository.create(tmp_path / "origin")
    monkeypatch.setattr(tree, "OBJECTS", str(origin.bare / "objects"))
    monkeypatch.setattr(tree, "SCRATCH", str(tmp_path))
    workspace = str(tmp_path / "workspace")
    tree.checkout(_git, workspace, origin.base)
    written = tree.written(workspace, origin.base)
    (tmp_path / "workspace" / "kept.txt").write_text("other")
    read = []

    def compare(*arguments: Any) -> tree.Changed | None:
        read.append(arguments[1])
        return plainly(*arguments)

    plainly = tree._compare
    monkeypatch.setattr(tree, "_compare", compare)
    changed = list(tree.collect(_git, workspace, origin.base, MIB, written))
    assert [entry.path for entry in changed] == ["kept.txt"]
    assert read == ["kept.txt"]


def _git(
    *arguments: str,
    directory: str = "/",
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
    accept: tuple[int, ...] = (0,),
    seconds: float = 60,
) -> bytes:
    done = subprocess.run(
        ["git", *arguments],
        cwd=directory,
        input=stdin,
        env={**os.environ, **tree.git_environment(), **(environment or {})},
        stdout=subprocess.PIPE,
        timeout=seconds,
        check=False,
    )
    assert done.returncode in accept
    return done.stdout


async def test_what_the_agent_committed_is_part_of_the_change(
    worktree: RemoteBox, repository: Repository
) -> None:
    await _do(worktree, "echo x > a; git add a; git commit -qm a; git rm -q kept.txt; echo y > b")
    assert set(await _collect(worktree, repository)) == {"a", "b", "kept.txt"}


async def test_change_that_was_undone_is_no_change(
    worktree: RemoteBox, repository: Repository
) -> None:
    await _do(worktree, "echo x > a; git add a; git commit -qm a; rm a; touch kept.txt")
    assert await _collect(worktree, repository) == {}


async def test_modes_and_symbolic_links_are_kept(
    worktree: RemoteBox, repository: Repository
) -> None:
    await _do(
        worktree,
        "chmod +x tool.sh; ln -sf changed.txt link; ln -s /etc/passwd host; "
        "rm kept.txt; ln -s x kept.txt",
    )
    changed = await _collect(worktree, repository)
    assert changed == {
        "tool.sh": Entry("tool.sh", "100755", b"#!/bin/sh\n"),
        "link": Entry("link", "120000", b"changed.txt"),
        "host": Entry("host", "120000", b"/etc/passwd"),
        "kept.txt": Entry("kept.txt", "120000", b"x"),
    }


async def test_file_may_become_a_folder_and_back(
    worktree: RemoteBox, repository: Repository
) -> None:
    await _do(
        worktree, "rm kept.txt; mkdir kept.txt; echo x > kept.txt/in; rm -r folder; echo y > folder"
    )
    changed = await _collect(worktree, repository)
    assert {path: entry.mode for path, entry in changed.items()} == {
        "kept.txt": None,
        "kept.txt/in": "100644",
        "folder/inner.txt": None,
        "folder": "100644",
    }


async def test_ignored_files_stay_in_the_box(worktree: RemoteBox, repository: Repository) -> None:
    await _do(
        worktree,
        "echo x > a.log; mkdir -p build/deep; echo x > build/deep/file; echo x > kept.log2",
    )
    assert set(await _collect(worktree, repository)) == {"kept.log2"}


async def test_exclude_file_of_the_agents_repository_counts(
    worktree: RemoteBox, repository: Repository
) -> None:
    await _do(worktree, "echo secret.txt > .git/info/exclude; echo x > secret.txt")
    assert await _collect(worktree, repository) == {}


async def test_ignored_file_that_was_added_by_force_is_part_of_the_change(
    worktree: RemoteBox, repository: Repository
) -> None:
    await _do(
        worktree, "mkdir build; echo x > build/wanted; echo x > build/not; git add -f build/wanted"
    )
    assert set(await _collect(worktree, repository)) == {"build/wanted"}


async def test_tracked_file_that_a_new_rule_ignores_is_not_deleted(
    worktree: RemoteBox, repository: Repository
) -> None:
    await _do(worktree, "echo '*.txt' > .gitignore; echo more >> kept.txt; echo x > other.txt")
    assert set(await _collect(worktree, repository)) == {".gitignore", "kept.txt"}


async def test_work_is_collected_when_the_agent_destroyed_its_repository(
    worktree: RemoteBox, repository: Repository
) -> None:
    await _do(
        worktree,
        "rm -rf .git; echo x > a; echo .git-is-gone > .git; "
        "dd if=/dev/zero of=/tmp/f bs=1M 2>&1 || true",
    )
    assert set(await _collect(worktree, repository)) == {"a"}


async def test_files_without_read_permission_are_collected(
    worktree: RemoteBox, repository: Repository
) -> None:
    await _do(worktree, "mkdir d; echo x > d/a; chmod 000 d/a d")
    assert (await _collect(worktree, repository))["d/a"].content == b"x\n"


async def test_strange_names_are_collected_as_they_are(
    worktree: RemoteBox, repository: Repository
) -> None:
    names = [":(glob)x", ":/y", "-rf", "a b", "'q\"", "ünï", "*", "!x", "#y", "trailing "]
    for name in names:
        await worktree.create(f"./{name}", "x")
    assert set(await _collect(worktree, repository)) == set(names)


async def test_crlf_is_collected_as_it_was_written(
    worktree: RemoteBox, repository: Repository
) -> None:
    await _do(worktree, "printf 'a\\r\\n' > crlf.txt")
    assert (await _collect(worktree, repository))["crlf.txt"].content == b"a\r\n"


async def test_large_file_arrives_whole(worktree: RemoteBox, repository: Repository) -> None:
    await _do(worktree, "yes | head -c 1040000 > large")
    assert (await _collect(worktree, repository))["large"].content == b"y\n" * 520_000


async def test_special_files_are_left_out(worktree: RemoteBox, repository: Repository) -> None:
    script = "import socket; socket.socket(socket.AF_UNIX).bind('socket')"
    await _do(worktree, f'mkfifo pipe; python3 -c "{script}"; ls -d pipe socket')
    assert await _collect(worktree, repository) == {}


async def test_git_directories_never_leave_the_box(
    worktree: RemoteBox, repository: Repository
) -> None:
    await _do(
        worktree,
        "mkdir -p sub/.git x/.GIT; echo x > sub/.git/config; echo x > x/.GIT/y; "
        "echo x > sub/a; echo x > .Git",
    )
    assert set(await _collect(worktree, repository)) == {"sub/a"}


async def test_forged_objects_do_not_hide_a_change(
    worktree: RemoteBox, repository: Repository
) -> None:
    await _do(
        worktree,
        "echo evil > kept.txt; git add kept.txt; git commit -qm evil; "
        "git replace $(git rev-parse HEAD~1) $(git rev-parse HEAD); "
        "git update-index --assume-unchanged kept.txt",
    )
    assert set(await _collect(worktree, repository)) == {"kept.txt"}


async def test_fifo_instead_of_an_ignore_file_does_not_hang_the_collector(
    worktree: RemoteBox, repository: Repository
) -> None:
    await _do(
        worktree, "rm .gitignore; mkfifo .gitignore; mkdir d; mkfifo d/.gitignore; echo x > d/a"
    )
    assert set(await _collect(worktree, repository)) == {".gitignore", "d/a"}


async def test_agent_that_takes_the_collectors_place_fails_its_job_for_good(
    worktree: RemoteBox, repository: Repository
) -> None:
    await _do(worktree, "echo x > a; chmod 000 /run/patchwright")
    with pytest.raises(Permanent, match="Permission denied"):
        await _collect(worktree, repository)


async def test_too_many_files_are_refused(worktree: RemoteBox, repository: Repository) -> None:
    await _do(worktree, "touch $(seq 60)")
    with pytest.raises(Permanent, match="more than 50 files"):
        await _collect(worktree, repository)
    assert (await worktree.run("echo alive", timeout=10)).output == "alive\n"


@pytest.mark.parametrize("command", ["truncate -s 40M big", "yes | head -c 1500000 > big"])
async def test_too_many_bytes_are_refused(
    worktree: RemoteBox, repository: Repository, command: str
) -> None:
    await _do(worktree, command)
    with pytest.raises(Permanent, match="larger than 1 MB"):
        await _collect(worktree, repository)


async def test_nothing_of_the_workspace_touches_the_host(
    backend: Backend, repository: Repository, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    async with await backend.start(BoxSpec("job-1", mirror=repository.bare, limits=LIMITS)) as box:
        await box.checkout(repository.base)
        await _do(box, "echo x > a; git add a; git commit -qm a")
        assert sorted(tmp_path.rglob("*")) == before


async def test_repository_larger_than_the_workspace_is_a_clear_failure(
    backend: Backend, repository: Repository
) -> None:
    (repository.path / "big").write_bytes(os.urandom(40 * MIB))
    base = repository.commit("small", "x")
    async with await backend.start(BoxSpec("job-1", mirror=repository.bare, limits=LIMITS)) as box:
        with pytest.raises(Permanent, match="do not fit into the sandbox's workspace"):
            await box.checkout(base)
