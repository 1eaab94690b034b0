"""What a box once reported as changed is written back into a fresh checkout, exactly."""

from __future__ import annotations

import pytest

from harness.repositories import Repository
from patchwright_runner.sandbox.protocol import Backend, BoxSpec, Entry
from patchwright_runner.sandbox.remote import RemoteBox

from .conftest import LIMITS

CHANGES = {
    "deletes a folder": "rm -r folder",
    "makes a folder of a file": "rm kept.txt; mkdir kept.txt; echo x > kept.txt/inner",
    "makes a file of a folder": "rm -r folder; echo x > folder",
    "makes a link of a folder": "rm -r folder; ln -s /etc folder",
    "makes a folder of a link": "rm link; mkdir link; echo x > link/inner",
    "makes a file executable": "chmod +x kept.txt",
    "empties a file": ": > kept.txt",
    "links out of the tree": "ln -s ../../../etc/passwd out; ln -s nowhere dangling",
    "writes bytes": "head -c 3000 /dev/urandom > bytes; printf '\\r\\n' > crlf.txt",
    "nests": "mkdir -p a/b/c/d; echo x > a/b/c/d/e",
    "changes nothing": "true",
}


@pytest.mark.parametrize("command", CHANGES.values(), ids=CHANGES.keys())
async def test_restored_tree_is_collected_the_same(
    worktree: RemoteBox, backend: Backend, repository: Repository, command: str
) -> None:
    await worktree.run(command, timeout=60)
    entries = [entry async for entry in worktree.collect(repository.base)]
    spec = BoxSpec("job-2", mirror=repository.bare, limits=LIMITS)
    async with await backend.start(spec) as fresh:
        await fresh.checkout(repository.base)
        await fresh.restore(entries)
        assert [entry async for entry in fresh.collect(repository.base)] == entries


async def test_folder_that_is_not_empty_any_more_is_removed_all_the_same(
    worktree: RemoteBox, repository: Repository
) -> None:
    """What git ignores lies in it, or what is read-only."""
    await worktree.run(
        "mkdir -p vendored/deep; touch vendored/deep/x; ln -s /etc vendored/link;"
        " chmod -R a-w vendored",
        timeout=60,
    )
    await worktree.restore([Entry("vendored", None), Entry("folder", "100644", b"a file")])
    shown = await worktree.run("ls -d vendored; cat folder; test -d /etc", timeout=60)
    assert "No such file" in shown.output
    assert shown.output.endswith("a file")
    assert shown.exit_code == 0


async def test_file_of_several_pieces_is_restored_whole(
    backend: Backend, repository: Repository
) -> None:
    content = bytes(range(251)) * 12_000
    limits = LIMITS.__class__()
    async with await backend.start(BoxSpec("job-1", repository.bare, limits=limits)) as box:
        await box.checkout(repository.base)
        await box.restore([Entry("large", "100755", content)])
        assert [e async for e in box.collect(repository.base)] == [
            Entry("large", "100755", content)
        ]
