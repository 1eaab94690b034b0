"""Submodules are files to read: from the same GitHub, without a token, and no part of a change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.repositories import Repository, git
from patchwright_runner.mirror import Mirror
from patchwright_runner.sandbox.protocol import Backend, BoxSpec
from patchwright_runner.sandbox.remote import RemoteBox
from patchwright_runner.submodules import addresses, place, resolved, submodules

from .conftest import LIMITS
from .git_over_http import GitServer, serve

HERE = "https://github.com/octo/doorbell.git"


@pytest.fixture
def library(tmp_path: Path) -> Repository:
    made = Repository.create(tmp_path / "library")
    (made.path / ".gitattributes").write_text("* filter=evil\n")
    made.commit("api.txt", "of the library\n")
    return made


@pytest.fixture
def server(library: Repository, repository: Repository) -> Iterator[GitServer]:
    with serve(library.bare.parent) as running:
        yield running


def _add(repository: Repository, commit: str, **urls: str) -> str:
    """The base with a submodule for each path."""
    modules = []
    for path, url in urls.items():
        modules.append(f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n')
        cache = f"160000,{commit},{path}"
        git(repository.path, "update-index", "--add", "--cacheinfo", cache)
    (repository.path / ".gitmodules").write_text("".join(modules))
    git(repository.path, "add", ".gitmodules")
    git(repository.path, "commit", "--quiet", "--message=submodules")
    git(repository.path, "push", "--quiet", str(repository.bare), "HEAD:refs/heads/main")
    return git(repository.path, "rev-parse", "HEAD")


async def _placed(
    backend: Backend, server: GitServer, folder: Path, base: str
) -> tuple[RemoteBox, list[str]]:
    mirror = Mirror(folder / "mirrors")
    url = server.address("origin.git")
    box = await backend.start(
        BoxSpec("job-1", mirror=await mirror.fetch(7, url, None, sha=base), limits=LIMITS)
    )
    assert isinstance(box, RemoteBox)
    await box.checkout(base)
    return box, await place(box, mirror, 7, url, base)


async def test_submodule_is_there_to_read_and_no_part_of_the_change(
    backend: Backend,
    server: GitServer,
    repository: Repository,
    library: Repository,
    tmp_path: Path,
) -> None:
    commit = git(library.path, "rev-parse", "HEAD")
    base = _add(repository, commit, vendored="../library.git")
    box, left_out = await _placed(backend, server, tmp_path, base)
    async with box:
        assert left_out == []
        result = await box.run("cat vendored/api.txt; git status --porcelain", timeout=30)
        assert result.output == "of the library\n"
        written = await box.run("echo mine > vendored/api.txt", timeout=30)
        assert "Permission denied" in written.output
        await box.run(
            "chmod -R u+w vendored; echo mine > vendored/new; rm vendored/api.txt", timeout=30
        )
        assert [entry.path async for entry in box.collect(base)] == []
        await box.run("rm -r vendored", timeout=30)
        assert [(entry.path, entry.mode) async for entry in box.collect(base)] == [
            ("vendored", None)
        ]


async def test_submodule_on_another_host_or_out_of_reach_is_left_out(
    backend: Backend,
    server: GitServer,
    repository: Repository,
    library: Repository,
    tmp_path: Path,
) -> None:
    commit = git(library.path, "rev-parse", "HEAD")
    with serve(library.bare.parent) as other:
        base = _add(
            repository,
            commit,
            elsewhere=other.address("library.git"),
            absent="../absent.git",
            local=str(library.bare),
        )
        box, left_out = await _placed(backend, server, tmp_path, base)
        await box.close()
        assert other.requests == []
    assert left_out == ["absent", "elsewhere", "local"]


async def test_private_submodule_is_left_out_though_github_speaks_of_a_bad_token(
    backend: Backend,
    server: GitServer,
    repository: Repository,
    library: Repository,
    tmp_path: Path,
) -> None:
    base = _add(repository, git(library.path, "rev-parse", "HEAD"), closed="../library.git")
    mirror, url = Mirror(tmp_path / "mirrors"), server.address("origin.git")
    path = await mirror.fetch(7, url, None, sha=base)
    async with await backend.start(BoxSpec("job-1", mirror=path, limits=LIMITS)) as box:
        await box.checkout(base)
        server.token = "somebody else's"
        assert await place(box, mirror, 7, url, base) == ["closed"]


async def test_submodule_without_an_address_is_left_out(
    server: GitServer, repository: Repository, tmp_path: Path
) -> None:
    mirror, url = Mirror(tmp_path / "mirrors"), server.address("origin.git")
    for text in (b"", b"[not a configuration"):
        git(repository.path, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},lost")
        blob = git(repository.path, "hash-object", "-w", "--stdin", stdin=text)
        git(repository.path, "update-index", "--add", "--cacheinfo", f"100644,{blob},.gitmodules")
        tree = git(repository.path, "write-tree")
        base = git(repository.path, "commit-tree", tree, "-m", "submodule")
        git(repository.path, "push", "--quiet", "--force", str(repository.bare), f"{base}:main")
        path = await mirror.fetch(7, url, None, sha=base)
        [found] = await submodules(path, base, clone_url=url)
        assert (found.path, found.url) == ("lost", "")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("../library.git", "https://github.com/octo/library.git"),
        ("../../else/library.git", "https://github.com/else/library.git"),
        ("https://github.com/a/b", "https://github.com/a/b"),
        ("git@github.com:a/b.git", "https://github.com/a/b.git"),
        ("http://github.com/a/b", ""),
        ("https://user:secret@github.com/a/b", ""),
        ("https://github.com.evil.example/a/b", ""),
        ("https://github.com@evil.example/a/b", ""),
        ("../../../evil.example/x", "https://github.com/evil.example/x"),
        (".//evil.example/x", "https://github.com/octo/doorbell.git/evil.example/x"),
        ("file:///etc/passwd", ""),
        ("/etc/passwd", ""),
        ("ext::sh -c date", ""),
        ("--upload-pack=date", ""),
        ("git@evil.example:a/b.git", ""),
        ("", ""),
    ],
)
def test_address_of_a_submodule_stays_on_the_same_github(url: str, expected: str) -> None:
    assert resolved(url, HERE) == expected


def test_names_of_submodules_may_hold_dots() -> None:
    listed = "submodule.a.b.path\nlib\0submodule.a.b.url\n../b\0submodule.c.path\nc\0core.x\ny\0"
    assert addresses(listed) == {"lib": "../b"}
