"""Which bundles are refused, and that pushing is safe to repeat. Real git, a real server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from harness import processes
from patchwright_common.errors import Permanent, Retry
from patchwright_common.events import JobRequested
from patchwright_publisher import branch
from patchwright_publisher.branch import Verified, verified
from standin_github.scene import Scene

from .bundles import Bundle, Workshop, git
from .service import produced, requested

BRANCH = "patchwright/1-issue-1"


@pytest.fixture
def job(scene: Scene, workshop: Workshop) -> JobRequested:
    return requested(scene, 1, "It is wrong", workshop.base)


@pytest.fixture
async def token(scene: Scene) -> SecretStr:
    wanted = {"contents": "write", "metadata": "read"}
    return SecretStr(await scene.token(wanted, [scene.name.partition("/")[2]]))


async def _refused(job: JobRequested, bundle: Bundle, token: SecretStr) -> str:
    with pytest.raises(Permanent) as caught:
        async with verified(job, produced(job, bundle), bundle.data, token=token):
            raise AssertionError("it was taken")
    reason = caught.value.reason
    assert token.get_secret_value() not in reason
    return reason


async def _push(job: JobRequested, bundle: Bundle, token: SecretStr, to: str = BRANCH) -> None:
    async with verified(job, produced(job, bundle), bundle.data, token=token) as change:
        await change.push(to, by=math.inf)


async def _heads(scene: Scene) -> dict[str, str]:
    path = f"/repos/{scene.name}/git/matching-refs/heads/"
    refs = await scene.github.api("GET", path, token=scene.person.token)
    return {r["ref"].removeprefix("refs/heads/"): r["object"]["sha"] for r in refs}


def _merge(it: Workshop) -> Bundle:
    other = it.commit({"other.txt": "x"})
    return it.bundle(it.commit({"a.txt": "x"}, parents=(it.base, other)))


def _two_commits(it: Workshop) -> Bundle:
    return it.bundle(it.commit({"b.txt": "x"}, parents=(it.commit({"a.txt": "x"}),)))


def _other_base(it: Workshop) -> Bundle:
    root = it.commit({"a.txt": "x"}, parents=("",))
    return it.bundle(it.commit({"b.txt": "x"}, parents=(root,)), without="")


def _root(it: Workshop) -> Bundle:
    return it.bundle(it.commit({"a.txt": "x"}, parents=("",)), without="")


def _named_otherwise(it: Workshop) -> Bundle:
    real = it.change({"a.txt": "x"})
    return Bundle(real.data, it.commit({"b.txt": "x"}))


def _a_blob(it: Workshop) -> Bundle:
    blob = git(it.path, "hash-object", "-w", "--stdin", stdin=b"x")
    return it.bundle(blob, without="")


def _a_tag(it: Workshop) -> Bundle:
    commit = it.commit({"a.txt": "x"})
    text = f"object {commit}\ntype commit\ntag t\ntagger A <a@b> 1 +0000\n\nx\n".encode()
    return it.bundle(git(it.path, "mktag", stdin=text))


def _cut_off(it: Workshop) -> Bundle:
    real = it.change({"a.txt": "x" * 1000})
    return Bundle(real.data[:-25], real.commit)


def _bit_flipped(it: Workshop) -> Bundle:
    real = it.change({"a.txt": "x" * 1000})
    middle = len(real.data) - 40
    flipped = bytes([real.data[middle] ^ 1])
    return Bundle(real.data[:middle] + flipped + real.data[middle + 1 :], real.commit)


def _foreign_format(it: Workshop) -> Bundle:
    real = it.bundle(it.commit({"a.txt": "x"}), version=3)
    data = real.data.replace(b"@object-format=sha1", b"@object-format=sha256")
    assert data != real.data
    return Bundle(data, real.commit)


def _without_a_blob(it: Workshop) -> Bundle:
    """As a partial clone would bring it: the tree names what is not there."""
    commit = it.commit({"a.txt": "content that is not sent"})
    git(it.path, "update-ref", "refs/bundled/change", commit)
    file = it.path / "partial.bundle"
    git(it.path, "bundle", "create", "-q", "--version=3", str(file), "--filter=blob:none",
        f"{it.base}..refs/bundled/change")  # fmt: skip
    data = file.read_bytes().replace(b"@filter=blob:none\n", b"")
    return Bundle(data, commit)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_merge, "not one commit"),
        (_two_commits, "not one commit"),
        (_other_base, "not one commit"),
        (_root, "not one commit"),
        (_a_tag, "not one commit"),
        (_named_otherwise, "cannot be read"),
        (_a_blob, "not one commit"),
        (_cut_off, "cannot be read"),
        (_bit_flipped, "cannot be read"),
        (_foreign_format, "cannot be read"),
        (_without_a_blob, "cannot be read"),
        (lambda _: Bundle(b"", "0" * 40), "cannot be read"),
        (lambda _: Bundle(b"#!/bin/sh\nexit 0\n", "0" * 40), "cannot be read"),
        (lambda it: it.change({}), "is empty"),
    ],
    ids=lambda value: getattr(value, "__name__", "")[1:],
)
async def test_bundle_that_is_not_one_whole_commit_on_the_base_is_refused(
    job: JobRequested,
    workshop: Workshop,
    token: SecretStr,
    make: Callable[[Workshop], Bundle],
    reason: str,
) -> None:
    assert reason in await _refused(job, make(workshop), token)


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        (".github/workflows/ci.yml", "100644"),
        (".GITHUB/WorkFlows/ci.yml", "100644"),
        (".github/workflows/a/b/c.yml", "100644"),
        (".github/actions/x/action.yml", "100644"),
        (".github/patchwright.yml", "100644"),
        (".github/workflows", "120000"),
        (".github", "120000"),
    ],
)
async def test_change_of_a_protected_path_is_refused(
    job: JobRequested, workshop: Workshop, token: SecretStr, path: str, mode: str
) -> None:
    bundle = workshop.change({path: "somewhere", "ok.txt": "x"}, modes={path: mode})
    assert f"touches `{path}`, which is protected" in await _refused(job, bundle, token)


async def test_submodule_is_refused(
    job: JobRequested, workshop: Workshop, token: SecretStr
) -> None:
    bundle = workshop.change({"vendored": "1" * 40}, modes={"vendored": "160000"})
    assert "makes `vendored` something other than a file" in await _refused(job, bundle, token)


@pytest.mark.parametrize("part", [".git", ".GIT", "git~1", "..", "."])
async def test_path_that_leads_out_of_the_tree_is_refused(
    job: JobRequested, workshop: Workshop, token: SecretStr, part: str
) -> None:
    """Built by hand: git's own commands would not write such a tree."""
    blob = git(workshop.path, "hash-object", "-w", "--stdin", stdin=b"x")
    inner = git(workshop.path, "mktree", stdin=f"100644 blob {blob}\tconfig\n".encode())
    tree = b"40000 " + part.encode() + b"\0" + bytes.fromhex(inner)
    outer = git(
        workshop.path, "hash-object", "-w", "-t", "tree", "--stdin", "--literally", stdin=tree
    )
    who = "A <a@b> 1 +0000"
    text = f"tree {outer}\nparent {workshop.base}\nauthor {who}\ncommitter {who}\n\nx\n"
    commit = git(workshop.path, "hash-object", "-w", "-t", "commit", "--stdin", stdin=text.encode())
    assert "cannot be read" in await _refused(job, workshop.bundle(commit), token)


async def test_deleting_a_protected_file_is_a_change_of_it(scene: Scene, tmp_path: Path) -> None:
    files = {".github/workflows/ci.yml": "on: push\n"}
    await scene.github.commit(scene.name, files, login=scene.person.login)
    secret = await scene.token()
    workshop = Workshop.clone(tmp_path / "w.git", scene.repository.clone_url, secret)
    job = requested(scene, 1, "x", workshop.base)
    bundle = workshop.change({".github/workflows/ci.yml": None})
    assert "is protected" in await _refused(job, bundle, SecretStr(secret))


async def test_limits_hold_for_count_and_size(
    job: JobRequested, workshop: Workshop, token: SecretStr
) -> None:
    many = workshop.change({f"f{n}": "x" for n in range(branch.FILE_LIMIT + 1)})
    assert "touches 1001 files; the limit is 1000" in await _refused(job, many, token)
    large = workshop.change({"zeros": b"\0" * (branch.FILE_BYTES + 1)})
    assert "`zeros` is larger than 10 MiB" in await _refused(job, large, token)
    huge = Bundle(b"\0" * (branch.BUNDLE_BYTES + 1), "0" * 40)
    assert "larger than 100 MiB" in await _refused(job, huge, token)
    fitting = {f"f{n}": "x" for n in range(branch.FILE_LIMIT - 1)} | {
        "zeros": b"\0" * branch.FILE_BYTES
    }
    await _push(job, workshop.change(fitting), token)


async def test_push_whose_time_is_over_is_not_made(
    scene: Scene, job: JobRequested, workshop: Workshop, token: SecretStr
) -> None:
    bundle = workshop.change({"new.txt": "new\n"})
    async with verified(job, produced(job, bundle), bundle.data, token=token) as change:
        with pytest.raises(Retry, match="nothing was pushed"):
            await change.push(BRANCH, by=time.monotonic() - 0.1)
    assert BRANCH not in await _heads(scene)


async def test_names_and_links_of_every_kind_can_be_pushed(
    job: JobRequested, scene: Scene, workshop: Workshop, token: SecretStr
) -> None:
    names: list[str | bytes] = [
        "a b",
        'q"uote',
        "-rf",
        "ünï",
        "tab\there",
        "new\nline",
        b"\xff\xfe",
        "`x`",
    ]
    bundle = workshop.change(
        dict.fromkeys(names, "x") | {"link": "/etc/passwd"}, modes={"link": "120000"}
    )
    await _push(job, bundle, token)
    assert (await _heads(scene))[BRANCH] == bundle.commit


async def test_hostile_name_in_a_reason_is_one_harmless_line(
    job: JobRequested, workshop: Workshop, token: SecretStr
) -> None:
    name = b".github/workflows/`\n@ada\xff <!-- x.yml"
    reason = await _refused(job, workshop.change({name: "x"}), token)
    shown = ".github/workflows/' @\u200bada\\xff <\u200b!-- x.yml"
    assert reason == f"The change touches `{shown}`, which is protected."


async def test_push_is_safe_to_repeat(
    job: JobRequested, scene: Scene, workshop: Workshop, token: SecretStr
) -> None:
    bundle = workshop.change({"a.txt": "x"})
    for _ in range(2):
        await _push(job, bundle, token)
    assert (await _heads(scene))[BRANCH] == bundle.commit
    state = await scene.github.state()
    pushes = [p for p in state["pushes"] if p["repository_id"] == scene.repository.id]
    assert [p["ref"] for p in pushes] == [f"refs/heads/{BRANCH}"]


async def test_two_publishers_that_push_at_once_both_succeed(
    job: JobRequested, scene: Scene, workshop: Workshop, token: SecretStr
) -> None:
    bundle = workshop.change({"a.txt": "x"})
    await asyncio.gather(*(_push(job, bundle, token) for _ in range(3)))
    assert (await _heads(scene))[BRANCH] == bundle.commit


async def test_branch_that_somebody_built_upon_is_left_as_it_is(
    job: JobRequested, scene: Scene, workshop: Workshop, token: SecretStr
) -> None:
    bundle = workshop.change({"a.txt": "x"})
    await _push(job, bundle, token)
    theirs = await scene.github.commit(
        scene.name, {"theirs.txt": "y"}, login=scene.person.login, branch=BRANCH
    )
    await _push(job, bundle, token)
    assert (await _heads(scene))[BRANCH] == theirs


async def test_branch_that_holds_something_else_is_neither_overwritten_nor_passed_off_as_ours(
    job: JobRequested, scene: Scene, workshop: Workshop, token: SecretStr
) -> None:
    theirs = await scene.github.commit(
        scene.name, {"theirs.txt": "y"}, login=scene.person.login, branch=BRANCH
    )
    with pytest.raises(Permanent, match="holds something else"):
        await _push(job, workshop.change({"a.txt": "x"}), token)
    assert (await _heads(scene))[BRANCH] == theirs


async def test_server_that_is_away_or_ill_is_a_retry(
    job: JobRequested, scene: Scene, workshop: Workshop, token: SecretStr
) -> None:
    bundle = workshop.change({"a.txt": "x"})
    for path in ("git-upload-pack", "git-receive-pack"):
        for fault in ({"status": 503}, {"drop": True}, {"status": 429}):
            # curl tries once more where a connection is cut.
            await scene.github.fault("POST", path, times=2, **fault)  # type: ignore[arg-type]
            with pytest.raises(Retry):
                await _push(job, bundle, token)
            await scene.github.clear_faults()
    away = job.repository.model_copy(update={"clone_url": "http://127.0.0.1:9/o/r.git"})
    with pytest.raises(Retry):
        await _push(job.model_copy(update={"repository": away}), bundle, token)
    await _push(job, bundle, token)


async def test_token_that_is_refused_is_told_apart_from_one_that_may_not_write(
    job: JobRequested, scene: Scene, workshop: Workshop
) -> None:
    bundle = workshop.change({"a.txt": "x"})
    with pytest.raises(Retry) as unknown:
        await _push(job, bundle, SecretStr("ghs_unknown_token"))
    reading = SecretStr(await scene.token({"contents": "read"}))
    with pytest.raises(Permanent, match=r"denied.*not granted") as denied:
        await _push(job, bundle, reading)
    assert "ghs_" not in f"{unknown.value!r}{denied.value!r}"


async def test_repository_that_is_gone_is_permanent(
    job: JobRequested, workshop: Workshop, token: SecretStr
) -> None:
    bundle = workshop.change({"a.txt": "x"})
    gone = job.repository.model_copy(update={"clone_url": job.repository.clone_url + "x"})
    with pytest.raises(Permanent, match="was not found"):
        await _push(job.model_copy(update={"repository": gone}), bundle, token)
    with pytest.raises(Permanent, match="does not exist"):
        await _push(job.model_copy(update={"base": "0123456789" * 4}), bundle, token)


async def test_token_is_in_no_process_and_no_file_during_a_push(
    job: JobRequested, scene: Scene, workshop: Workshop, token: SecretStr
) -> None:
    secret = token.get_secret_value()
    basic = base64.b64encode(f"x-access-token:{secret}".encode()).decode()
    await scene.github.fault("POST", "git-receive-pack", delay=1.0)
    bundle = workshop.change({"a.txt": "x"})
    async with verified(job, produced(job, bundle), bundle.data, token=token) as change:
        push = asyncio.create_task(change.push(BRANCH, by=math.inf))
        while not await scene.github.requests("POST", f"{scene.name}.git/git-receive-pack"):
            await asyncio.sleep(0.02)
        commands = [command for _, command in processes.told("cmdline")]
        folder = _folder(change)
        files = [_read(file) for file in folder.rglob("*") if file.is_file()]
        await push
    ours = [command for command in commands if scene.name.encode() in command]
    assert ours
    assert not [
        text for text in commands + files if secret.encode() in text or basic.encode() in text
    ]
    assert not folder.exists()


def _folder(change: Verified) -> Path:
    return change._repository


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def test_digest_names_the_bundle(workshop: Workshop) -> None:
    bundle = workshop.change({"a.txt": "x"})
    assert bundle.digest == hashlib.sha256(bundle.data).hexdigest()
