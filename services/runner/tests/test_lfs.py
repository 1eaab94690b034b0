"""Git LFS files are there to be read when the configuration asks, and cannot be rewritten."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.repositories import git
from patchwright_common.errors import Permanent, Retry
from patchwright_runner.agent.protocol import Observer, Turn, Usage
from patchwright_runner.lfs import LargeFile, large_files, pointed_at, refuse_changed
from patchwright_runner.lfs_store import LargeObject
from patchwright_runner.sandbox.protocol import Backend, Entry, Sandbox

from .runner_at_work import Act, Bench

MODEL = bytes(range(256)) * 5000
SMALL = b"a few bytes\n"


def pointer(content: bytes) -> bytes:
    oid = hashlib.sha256(content).hexdigest()
    return (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"
    ).encode()


@pytest.fixture
def large(bench: Bench, backend: Backend) -> Bench:
    """A repository with two LFS files, and a configuration that asks for them."""
    bench.backend = backend
    folder = bench.origin.path
    for path, content in {"data/model.bin": MODEL, "run.sh": SMALL}.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(pointer(content))
        bench.server.large[hashlib.sha256(content).hexdigest()] = content
    (folder / "run.sh").chmod(0o755)
    (folder / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    configure(bench, "lfs: true\n")
    return bench


def configure(bench: Bench, text: str) -> None:
    folder = bench.origin.path
    (folder / ".github").mkdir(exist_ok=True)
    (folder / ".github" / "patchwright.yml").write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=large")
    git(folder, "push", "--quiet", str(bench.origin.bare), "HEAD:refs/heads/main")
    bench.base = git(folder, "rev-parse", "HEAD")


def says(command: str, output: list[str]) -> Act:
    async def act(observer: Observer, box: Sandbox) -> None:
        output.append((await box.run(command, timeout=60)).output)
        talk = [{"role": "user", "content": "Go."}]
        await observer.turn_finished(Turn(1, Usage(1, 1), (), 0.1, talk))

    return act


async def test_large_files_are_in_the_workspace_and_no_part_of_the_change(large: Bench) -> None:
    await large.request()
    shown: list[str] = []
    await large.work(
        says("sha256sum < data/model.bin; ls -l run.sh; git status -s; echo x > new", shown)
    )
    assert shown[0].startswith(hashlib.sha256(MODEL).hexdigest())
    assert "-rwxr-xr-x" in shown[0]
    assert " M " not in shown[0]
    change = await large.change()
    assert change is not None
    assert [file.path for file in change.files] == ["new"]


async def test_token_stays_with_the_repositorys_host_and_objects_stay_here(large: Bench) -> None:
    await large.request()
    await large.work()
    large.job_id = large.job_id.removesuffix("1") + "2"
    await large.request()
    await large.work()
    assert len(large.server.seen) == 2
    for headers in large.server.seen:
        assert headers["x-signed"] == "yes"
        assert "authorization" not in headers


async def test_without_the_setting_pointers_stay(large: Bench) -> None:
    configure(large, "lfs: false\n")
    await large.request()
    shown: list[str] = []
    await large.work(says("cat data/model.bin", shown))
    assert shown[0].encode() == pointer(MODEL)
    assert large.server.seen == []


async def test_large_file_can_be_deleted_and_not_rewritten(large: Bench) -> None:
    await large.request()
    with pytest.raises(Permanent, match=r"data/model\.bin.*Git LFS"):
        await large.work(says("echo x >> data/model.bin", []))
    large.job_id = large.job_id.removesuffix("1") + "2"
    await large.request()
    await large.work(says("rm data/model.bin", []))


@pytest.mark.parametrize("sent", [MODEL[:-1], MODEL + b"x", MODEL[:-1] + b"x"])
async def test_object_that_arrives_otherwise_is_not_used(large: Bench, sent: bytes) -> None:
    large.server.sent[hashlib.sha256(MODEL).hexdigest()] = sent
    await large.request()
    with pytest.raises(Retry, match="did not arrive"):
        await large.work()
    assert list(large.folder.glob("mirrors/**/*.part")) == []
    large.server.sent.clear()
    await large.work()


async def test_object_that_the_server_lost_is_said(large: Bench) -> None:
    del large.server.large[hashlib.sha256(MODEL).hexdigest()]
    await large.request()
    with pytest.raises(Permanent, match="does not have"):
        await large.work()


async def test_only_whole_pointers_are_pointers(bench: Bench) -> None:
    for name, text in {
        "p1": pointer(MODEL),
        "p2": pointer(MODEL) + b"more\n",
        "p3": b"version https://git-lfs.github.com/spec/v1\nno\n",
        "p4": b"",
    }.items():
        (bench.origin.path / name).write_bytes(text)
    configure(bench, "lfs: true\n")
    found = await large_files(bench.origin.bare, bench.base)
    assert [file.path for file in found] == ["p1"]


@given(st.binary(max_size=300))
def test_pointer_is_read_as_it_was_written(content: bytes) -> None:
    expected = LargeObject(hashlib.sha256(content).hexdigest(), len(content))
    assert pointed_at(pointer(content)) == expected
    assert pointed_at(content) is None


def test_pointer_may_be_moved_by_hand() -> None:
    files = [LargeFile("a", "100644", LargeObject("0" * 64, 1))]
    refuse_changed([Entry("a", "100644", pointer(b"another")), Entry("b", "100644", b"x")], files)
    refuse_changed([Entry("a", None)], files)
    with pytest.raises(Permanent):
        refuse_changed([Entry("a", "100644", b"x")], files)
