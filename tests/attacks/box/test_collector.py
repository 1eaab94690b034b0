"""Attacks on whoever collects the change: git made to run programs, trees made to mislead."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.repositories import Repository
from patchwright_common.errors import Permanent
from patchwright_runner.sandbox.protocol import Entry
from patchwright_runner.sandbox.remote import RemoteBox

from .attack import WORKED, Attack, against, exports, named
from .unprotected import Unprotected

_OWN_REPOSITORY = "the collector's git reads its own repository's configuration, never the agent's"
_BYTES = "files are read as bytes: no filter, attribute or index has a say"
_NO_STATUS = "the collector compares files itself and runs no command that would"

_PROGRAM = """
printf '#!/bin/sh\\ntouch %s/ran\\n' "$TOP" > $TOP/program; chmod +x $TOP/program
"""


_PARTIAL = """
git config core.repositoryFormatVersion 1; git config extensions.partialClone evil
git config remote.evil.url "ext::$TOP/program"; git config protocol.ext.allow always
git config remote.evil.promisor true"""
"""A clone that says it is partial: git asks its remote for what is missing."""

_AUTHOR = {
    f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
}


@dataclass(frozen=True)
class Trap(Attack):
    """`command` is laid in a repository; `sprung` is what an honest person would do there."""

    sprung: str = "git status"


TRAPS = (
    Trap("fsmonitor", _OWN_REPOSITORY, "git config core.fsmonitor $TOP/program"),
    Trap(
        "hook",
        _OWN_REPOSITORY,
        "mkdir -p .git/hooks; cp $TOP/program .git/hooks/post-index-change",
        sprung="git add --all",
    ),
    Trap(
        "hooks of another folder",
        _OWN_REPOSITORY,
        "mkdir hooks; cp $TOP/program hooks/pre-commit; git config core.hooksPath hooks",
        sprung="git commit --quiet --all --message x",
    ),
    Trap(
        "clean filter",
        _BYTES,
        "git config filter.evil.clean $TOP/program; echo '* filter=evil' > .gitattributes",
        sprung="git add --all",
    ),
    Trap(
        "smudge filter",
        _BYTES,
        "git config filter.evil.smudge $TOP/program; echo '* filter=evil' > .gitattributes",
        sprung="rm kept.txt; git checkout -- kept.txt",
    ),
    Trap(
        "filter process",
        _BYTES,
        "git config filter.evil.process $TOP/program; echo '* filter=evil' > .gitattributes",
        sprung="git add --all",
    ),
    Trap(
        "text conversion",
        _NO_STATUS,
        "git config diff.evil.textconv $TOP/program; echo '*.txt diff=evil' > .gitattributes",
        sprung="git diff",
    ),
    Trap(
        "external diff",
        _NO_STATUS,
        "git config diff.external $TOP/program",
        sprung="git diff",
    ),
    Trap(
        "ssh command",
        "the collector asks no remote; the agent's tree has none",
        "git config core.sshCommand $TOP/program; git remote add evil ssh://evil.invalid/x",
        sprung="git fetch evil",
    ),
    Trap(
        "objects fetched by need",
        _OWN_REPOSITORY,
        f"""{_PARTIAL}
        git update-index --add --cacheinfo 100644,$(printf %040d 1),missing""",
        sprung="git diff --cached",
    ),
    Trap(
        "folder of a sparse index fetched by need",
        _OWN_REPOSITORY,
        f"""
        mkdir sparse; touch sparse/file; git add sparse; git commit --quiet --message x
        git sparse-checkout init --cone --sparse-index; git sparse-checkout set folder
        tree=$(git rev-parse HEAD:sparse); rm -f .git/objects/${{tree:0:2}}/${{tree:2}}
        {_PARTIAL}""",
        sprung="git ls-files",
    ),
    Trap(
        "included configuration",
        _OWN_REPOSITORY,
        """
        printf '[core]\\n\\tfsmonitor = %s/program\\n' $TOP > evil.config
        git config include.path ../evil.config""",
    ),
    Trap(
        "configuration of a worktree",
        _OWN_REPOSITORY,
        """
        git config extensions.worktreeConfig true
        git config --worktree core.fsmonitor $TOP/program""",
    ),
    Trap(
        "repository put elsewhere by a .git file",
        _OWN_REPOSITORY,
        """
        mkdir -p elsewhere; cp -r .git elsewhere/evil; mv .git elsewhere/old
        echo "gitdir: elsewhere/evil" > .git
        git config core.fsmonitor $TOP/program""",
    ),
    Trap(
        "repository put elsewhere by a link",
        _OWN_REPOSITORY,
        """
        mkdir -p elsewhere; mv .git elsewhere/evil; ln -s elsewhere/evil .git
        git config core.fsmonitor $TOP/program""",
    ),
    Trap(
        "nested repository",
        "a nested .git is left out, and no git command runs in it",
        """
        git init --quiet nested; git -C nested config core.fsmonitor $TOP/program
        touch nested/file""",
        sprung="git -C nested status",
    ),
    Trap(
        "submodule",
        "a nested .git is left out, and no git command runs in it",
        """
        git init --quiet nested; git -C nested commit --quiet --allow-empty --message x
        git add nested 2> /dev/null; git -C nested config core.fsmonitor $TOP/program
        printf '[submodule "nested"]\\n\\tpath = nested\\n\\turl = ./nested\\n' > .gitmodules""",
    ),
    Trap(
        "update command of a submodule",
        "the collector updates no submodules",
        """
        git init --quiet nested; git -C nested commit --quiet --allow-empty --message x
        git add nested 2> /dev/null; git -C nested commit --quiet --allow-empty --message y
        printf '[submodule "nested"]\\n\\tpath = nested\\n\\turl = ./nested\\n' > .gitmodules
        git config submodule.nested.url ./nested
        git config submodule.nested.update "!$TOP/program" """,
        sprung="git submodule update",
    ),
    Trap(
        "file names that look like options",
        "names go to git on standard input, each behind ./",
        "cp $TOP/program program; touch -- '--expression=1e sh program'",
        sprung="sed --quiet p *",
    ),
    Trap(
        "branch name that looks like an option",
        "only the base's id is given to git, never a name of the agent's",
        """
        git remote add evil . ; echo "ref: refs/heads/--upload-pack=$TOP/program" > .git/HEAD""",
        sprung="git fetch $(git symbolic-ref --short HEAD) .",
    ),
)


@against(*TRAPS)
async def test_collector_does_not_spring(
    attack: Trap, worktree: RemoteBox, repository: Repository, unprotected: Unprotected
) -> None:
    alone = unprotected.folder
    shutil.copytree(repository.path, alone / "workspace")
    unprotected.run(_laid(attack, alone, alone / "workspace") + attack.sprung)
    assert (alone / "ran").exists()

    command = _laid(attack, Path("/tmp"), Path("/workspace"))
    assert (await worktree.run(f"set -e; {command}true", timeout=30)).exit_code == 0
    assert "work" in await _collected(worktree, repository.base)
    assert (await worktree.run("ls /tmp/ran", timeout=30)).exit_code != 0


def _laid(attack: Trap, top: Path, workspace: Path) -> str:
    """The trap in a tree with a change that is to be collected."""
    return f"""
        cd {workspace}
        {exports({"TOP": str(top), **_AUTHOR})}{_PROGRAM}
        echo work > work; echo more >> kept.txt
        {attack.command}
        rm -f $TOP/ran
        """


async def _collected(box: RemoteBox, base: str) -> dict[str, Entry]:
    return {entry.path: entry async for entry in box.collect(base)}


@named("folder replaced by a link out of the tree", "links are collected as links")
async def test_link_instead_of_a_folder_shows_nothing_from_behind_it(
    worktree: RemoteBox, repository: Repository, unprotected: Unprotected
) -> None:
    attack = """
        rm -r folder; mkdir -p $TOP/secrets; echo secret > $TOP/secrets/inner.txt
        ln -s $TOP/secrets folder"""
    shutil.copytree(repository.path, unprotected.folder / "workspace")
    top = exports({"TOP": str(unprotected.folder)})
    assert unprotected.run(f"cd workspace; {top}{attack}; cat folder/inner.txt") == "secret\n"
    await worktree.run(exports({"TOP": "/tmp"}) + attack, timeout=30)
    changed = await _collected(worktree, repository.base)
    assert changed["folder"] == Entry("folder", "120000", b"/tmp/secrets")
    assert changed["folder/inner.txt"].mode is None
    assert b"secret\n" not in [entry.content for entry in changed.values()]


MISLEADING = (
    Attack(
        "link and folder that differ in case",
        "refused, as what one is on another system the other is too",
        "ln -s .git/hooks A; mkdir -p a; echo x > a/post-checkout",
    ),
    Attack(
        "git's own directory by its short name",
        "refused by every name that any system has for it",
        "mkdir GIT~1; echo x > GIT~1/config",
    ),
    Attack(
        "git's own directory by invisible characters",
        "refused by every name that any system has for it",
        "mkdir $'.g\\u200cit'; echo x > $'.g\\u200cit/config'",
    ),
    Attack(
        "git's own directory by a stream",
        "refused by every name that any system has for it",
        "mkdir '.git::$INDEX_ALLOCATION'; echo x > '.git::$INDEX_ALLOCATION/config'",
    ),
    Attack("name with a line's end", "control characters are refused", "touch $'a\\nb'"),
    Attack(
        "name with a terminal's commands", "control characters are refused", "touch $'a\\x1b[2J'"
    ),
    Attack("name that is no text", "names that are no UTF-8 are refused", "touch $'a\\xff'"),
    Attack("attributes by a link", "git's own files must be files", "ln -sf x .gitattributes"),
    Attack("too many files", "limit on files, counted while they come", "touch $(seq 60)"),
    Attack("too many bytes", "limit on bytes, announced before they come", "truncate -s 40M big"),
)


@against(*MISLEADING)
async def test_collector_refuses(
    attack: Attack, worktree: RemoteBox, repository: Repository, unprotected: Unprotected
) -> None:
    """Unprotected, git takes it all into a commit."""
    clone = f"git clone --quiet {repository.path} workspace && cd workspace\n"
    trusting = "git -c core.protectHFS=false -c core.protectNTFS=false add --all"
    commit = f"\n{trusting} && git commit --quiet --message x && echo the attack 'worked'"
    assert WORKED in unprotected.run(clone + exports(_AUTHOR) + attack.command + commit)
    assert (await worktree.run(attack.command, timeout=30)).exit_code == 0
    with pytest.raises(Permanent):
        await _collected(worktree, repository.base)
    assert (await worktree.run("echo alive", timeout=30)).output == "alive\n"


DEEP = """
python3 -S - <<'END'
import os
for _ in range(60):
    os.mkdir("d" * 100)
    os.chdir("d" * 100)
open("file", "w").close()
END
"""


@named("folders in each other without end", "folders deeper than any path in a change are refused")
async def test_deep_tree_is_refused_in_time(
    worktree: RemoteBox, repository: Repository, unprotected: Unprotected
) -> None:
    unprotected.run(DEEP)
    with pytest.raises(OSError, match="too long"):
        _walked(unprotected.folder)
    assert (await worktree.run(DEEP, timeout=60)).exit_code == 0
    with pytest.raises(Permanent, match="deeper than"):
        await _collected(worktree, repository.base)


def _walked(folder: Path) -> None:
    """As one would write it."""
    for path in folder.iterdir():
        if path.is_dir():
            _walked(path)
