"""The key-encryption keys' file: private, whole, and one for all vaults that share it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
from pathlib import Path

import pytest

from patchwright_common.errors import Permanent, Retry
from patchwright_vault.keys import file
from patchwright_vault.keys.file import FileKeys
from patchwright_vault.keys.ring import Ring

START = """
import asyncio, pathlib, sys
from patchwright_vault.keys.file import FileKeys
sys.stdin.read()
asyncio.run(FileKeys(pathlib.Path(sys.argv[1])).begin())
"""
ROTATE = """
import asyncio, pathlib, sys
from patchwright_vault.keys.file import FileKeys
sys.stdin.read()
for _ in range(5):
    asyncio.run(FileKeys(pathlib.Path(sys.argv[1])).rotate())
"""


async def test_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "vault.key"
    before = os.umask(0)
    try:
        await FileKeys(path).begin()
    finally:
        os.umask(before)
    text = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    await FileKeys(path).begin()
    assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]
    await FileKeys(tmp_path / "other.key").begin()
    assert (tmp_path / "other.key").read_text() != text


async def test_file_of_the_first_releases_is_version_one(tmp_path: Path) -> None:
    path = tmp_path / "vault.key"
    path.write_text("ab" * 32 + "\n")
    path.chmod(0o600)
    keys = FileKeys(path)
    await keys.begin()
    assert await keys.versions() == (1,)
    assert await keys.legacy() == b"\xab" * 32
    wrapped = await keys.wrap(b"data key", b"")
    assert await keys.rotate() == 2
    assert path.stat().st_mode & 0o777 == 0o600
    assert await FileKeys(path).unwrap(*wrapped, b"") == b"data key"
    assert f"1:{'ab' * 32}" in path.read_text()
    await keys.retire(1)
    assert "ab" * 32 not in path.read_text()
    assert await keys.legacy() is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o610, 0o601, 0o644])
async def test_key_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "vault.key"
    keys = FileKeys(path)
    await keys.begin()
    wrapped = await keys.wrap(b"data key", b"")
    path.chmod(mode)
    for holder in (keys, FileKeys(path)):
        with pytest.raises(Permanent) as refused:
            await holder.begin()
        assert f"chmod 600 {path}" in refused.value.reason
        assert path.read_text().strip()[2:] not in refused.value.reason
    path.chmod(0o400)
    assert await keys.unwrap(*wrapped, b"") == b"data key"


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"secret", b"ab" * 31, b"ab" * 33, b"\xff" * 32, b"zz" * 32]
)
async def test_file_without_a_key_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vault.key"
    path.write_bytes(content)
    path.chmod(0o600)
    keys = FileKeys(path)
    for attempt in (keys.begin, keys.versions, keys.rotate, lambda: keys.retire(1)):
        with pytest.raises(Permanent) as refused:
            await attempt()
        assert str(path) in refused.value.reason
        assert "secret" not in refused.value.reason
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


async def test_path_that_cannot_be_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "vault.key", tmp_path / ("x" * 300)):
        with pytest.raises(Permanent) as refused:
            await FileKeys(path).begin()
        assert "cannot be used" in refused.value.reason


async def test_key_file_that_was_removed_is_not_made_again_while_running(tmp_path: Path) -> None:
    path = tmp_path / "vault.key"
    keys = FileKeys(path)
    await keys.begin()
    path.unlink()
    for attempt in (keys.rotate, lambda: keys.wrap(b"x", b"")):
        with pytest.raises(Permanent, match="is missing"):
            await attempt()
    assert not path.exists()


async def test_link_to_the_key_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    await FileKeys(tmp_path / "real" / "vault.key").begin()
    link = tmp_path / "vault.key"
    link.symlink_to(tmp_path / "real" / "vault.key")
    await FileKeys(link).rotate()
    assert link.is_symlink()
    assert await FileKeys(tmp_path / "real" / "vault.key").versions() == (2, 1)


async def test_left_over_of_a_crash_is_no_obstacle(tmp_path: Path) -> None:
    """In a container the process id is the same after every restart."""
    (tmp_path / f".vault.key.{os.getpid()}").write_text("half a k")
    keys = FileKeys(tmp_path / "vault.key")
    await keys.begin()
    assert await keys.rotate() == 2


async def test_lock_that_somebody_keeps_is_a_reason_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "LOCK_TIMEOUT", 0.1)
    keys = FileKeys(tmp_path / "vault.key")
    await keys.begin()
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        with pytest.raises(Retry):
            await keys.rotate()
        assert await keys.versions() == (1,)
    finally:
        os.close(folder)
    assert await keys.rotate() == 2


async def processes(code: str, path: Path, count: int) -> list[asyncio.subprocess.Process]:
    """Started and waiting for the end of their input."""
    starting = [
        asyncio.create_subprocess_exec(
            sys.executable, *("-c", code, str(path)), stdin=asyncio.subprocess.PIPE
        )
        for _ in range(count)
    ]
    started = list(await asyncio.gather(*starting))
    await asyncio.sleep(1.5)  # all of them have imported and wait
    return started


async def test_vaults_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    path = tmp_path / "vault.key"
    started = await processes(START, path, 6)
    watching = asyncio.create_task(seen(path))
    await asyncio.gather(*(process.communicate(b"") for process in started))
    texts = await watching
    assert {process.returncode for process in started} == {0}
    assert texts == {path.read_text()}
    assert list(tmp_path.iterdir()) == [path]


async def test_vault_that_begins_a_moment_later_takes_the_key_that_is_there(
    tmp_path: Path,
) -> None:
    """It looked when there was none, and has made one to write."""
    path = tmp_path / "vault.key"
    await FileKeys(path).begin()
    text = path.read_text()
    FileKeys(path)._write(Ring({}, "").rotated(), new=True)
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


async def seen(path: Path) -> set[str]:
    """Every content that the file has in the next second."""
    found = set()
    for _ in range(500):
        if path.exists():
            found.add(path.read_text())
        await asyncio.sleep(0.002)
    return found


async def test_vaults_that_rotate_at_once_lose_no_version(tmp_path: Path) -> None:
    path = tmp_path / "vault.key"
    keys = FileKeys(path)
    await keys.begin()
    wrapped = await keys.wrap(b"data key", b"")
    started = await processes(ROTATE, path, 4)
    await asyncio.gather(*(process.communicate(b"") for process in started))
    assert {process.returncode for process in started} == {0}
    assert await keys.versions() == tuple(range(21, 0, -1))
    assert await keys.unwrap(*wrapped, b"") == b"data key"


async def test_vault_that_is_killed_while_it_rotates_loses_no_version(tmp_path: Path) -> None:
    path = tmp_path / "vault.key"
    keys = FileKeys(path)
    await keys.begin()
    wrapped = await keys.wrap(b"data key", b"")
    for pause in (0.0, 0.002, 0.005, 0.01, 0.02):
        [rotating] = await processes(ROTATE, path, 1)
        assert rotating.stdin
        rotating.stdin.close()
        await asyncio.sleep(pause)
        rotating.send_signal(signal.SIGKILL)
        await rotating.wait()
        before = await keys.versions()
        assert before == tuple(range(before[0], 0, -1))
        assert await keys.rotate() == before[0] + 1
        assert await keys.unwrap(*wrapped, b"") == b"data key"
