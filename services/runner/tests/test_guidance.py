"""The repository's guidance comes from the base commit, and from plain files only."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.repositories import Repository, git
from patchwright_git.command import GitFailed
from patchwright_runner.agent import Guide
from patchwright_runner.guidance import CHARACTERS, MOST_BYTES, guidance


async def test_repository_without_guidance_has_none(repository: Repository) -> None:
    assert await guidance(repository.bare, repository.base) == ()


async def test_both_files_are_read_when_they_differ(repository: Repository) -> None:
    repository.commit("CLAUDE.md", "Use tabs.\n")
    base = repository.commit("AGENTS.md", "Run make.\n")

    assert await guidance(repository.bare, base) == (
        Guide("CLAUDE.md", "Use tabs.\n"),
        Guide("AGENTS.md", "Run make.\n"),
    )


async def test_files_that_agree_are_read_once(repository: Repository) -> None:
    repository.commit("CLAUDE.md", "Run make.\n")
    base = repository.commit("AGENTS.md", "Run make.")

    assert await guidance(repository.bare, base) == (Guide("CLAUDE.md", "Run make.\n"),)


async def test_guidance_is_that_of_the_base_commit(repository: Repository) -> None:
    base = repository.commit("AGENTS.md", "Before.\n")
    repository.commit("AGENTS.md", "After.\n")
    (repository.path / "CLAUDE.md").write_text("Never committed.\n")

    assert await guidance(repository.bare, base) == (Guide("AGENTS.md", "Before.\n"),)


async def test_guidance_of_a_folder_is_not_the_repositorys(repository: Repository) -> None:
    base = repository.commit("folder/AGENTS.md", "Not at the root.\n")

    assert await guidance(repository.bare, base) == ()


async def test_long_guidance_is_cut_off_with_a_note(repository: Repository) -> None:
    base = repository.commit("AGENTS.md", "ä" * (CHARACTERS + 1_234))
    (guide,) = await guidance(repository.bare, base)

    assert guide.text == "ä" * CHARACTERS
    assert guide.note == "Its last 1,234 characters were left out."


async def test_symlinked_guidance_is_not_followed(repository: Repository, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the runner's own file")
    (repository.path / "CLAUDE.md").symlink_to(secret)
    base = repository.commit("AGENTS.md", "Run make.\n")
    link, plain = await guidance(repository.bare, base)

    assert link == Guide("CLAUDE.md", "", "It is a symbolic link, which was not followed.")
    assert plain.text == "Run make.\n"


async def test_submodule_in_the_place_of_guidance_is_not_entered(repository: Repository) -> None:
    entry = f"160000,{repository.base},AGENTS.md"
    git(repository.path, "update-index", "--add", "--cacheinfo", entry)
    git(repository.path, "commit", "--quiet", "--message=submodule")
    git(repository.path, "push", "--quiet", str(repository.bare), "HEAD:refs/heads/main")
    base = git(repository.path, "rev-parse", "HEAD")

    assert await guidance(repository.bare, base) == (Guide("AGENTS.md", "", "It is not a file."),)


async def test_folder_in_the_place_of_guidance_is_not_entered(repository: Repository) -> None:
    (repository.path / "CLAUDE.md").mkdir()
    base = repository.commit("CLAUDE.md/AGENTS.md", "Inner.\n")

    assert await guidance(repository.bare, base) == (Guide("CLAUDE.md", "", "It is not a file."),)


async def test_huge_guidance_is_not_read(repository: Repository) -> None:
    base = repository.commit("AGENTS.md", "x" * (MOST_BYTES + 1))

    (guide,) = await guidance(repository.bare, base)
    assert (guide.text, guide.note) == ("", "It was not read: it has 1,000,001 bytes.")


async def test_binary_guidance_is_not_read(repository: Repository) -> None:
    base = repository.commit("AGENTS.md", "Run\0make")

    (guide,) = await guidance(repository.bare, base)
    assert (guide.text, guide.note) == ("", "It was not read: it is not a text.")


async def test_guidance_that_is_missing_from_the_mirror_is_left_out(
    repository: Repository,
) -> None:
    base = repository.commit("AGENTS.md", "Run make.\n")
    blob = git(repository.bare, "rev-parse", f"{base}:AGENTS.md")
    (repository.bare / "objects" / blob[:2] / blob[2:]).unlink()

    (guide,) = await guidance(repository.bare, base)
    assert (guide.text, guide.note) == ("", "It could not be read.")


@pytest.mark.parametrize("base", ["--help", "--upload-pack=touch x", "0" * 40])
async def test_base_that_looks_like_an_option_is_no_commit(
    repository: Repository, base: str
) -> None:
    with pytest.raises(GitFailed):
        await guidance(repository.bare, base)
