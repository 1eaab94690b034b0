"""The key-encryption key's file: private, whole, and one for all vaults that share it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from patchwright_common.errors import Permanent
from patchwright_vault.sealing import KEY_BYTES, load_or_make_key

PRINT_KEY = (
    "import sys, pathlib; from patchwright_vault.sealing import load_or_make_key;"
    "sys.stdin.read(); print(load_or_make_key(pathlib.Path(sys.argv[1])).hex())"
)


def test_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "vault.key"
    before = os.umask(0)
    try:
        key = load_or_make_key(path)
    finally:
        os.umask(before)
    assert len(key) == KEY_BYTES
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert load_or_make_key(path) == key
    assert list(path.parent.iterdir()) == [path]
    assert load_or_make_key(tmp_path / "other.key") != key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o610, 0o601, 0o644])
def test_key_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "vault.key"
    key = load_or_make_key(path)
    path.chmod(mode)
    with pytest.raises(Permanent) as refused:
        load_or_make_key(path)
    assert f"chmod 600 {path}" in refused.value.reason
    assert key.hex() not in refused.value.reason
    path.chmod(0o400)
    assert load_or_make_key(path) == key


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"secret", b"ab" * 31, b"ab" * 33, b"\xff" * 32, b"zz" * 32]
)
def test_file_without_a_key_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vault.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(Permanent) as refused:
        load_or_make_key(path)
    assert str(path) in refused.value.reason
    assert "secret" not in refused.value.reason
    assert path.read_bytes() == content


def test_path_that_cannot_be_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "vault.key", tmp_path / ("x" * 300)):
        with pytest.raises(Permanent) as refused:
            load_or_make_key(path)
        assert "cannot be used" in refused.value.reason


def test_left_over_of_a_crash_is_no_obstacle(tmp_path: Path) -> None:
    """In a container the process id is the same after every restart."""
    (tmp_path / f".vault.key.{os.getpid()}").write_text("half a k")
    assert len(load_or_make_key(tmp_path / "vault.key")) == KEY_BYTES


async def test_vaults_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    path = tmp_path / "vault.key"
    starting = [
        asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", PRINT_KEY, str(path)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(6)
    ]
    processes = await asyncio.gather(*starting)
    await asyncio.sleep(1.5)  # all of them have imported and wait
    outputs = await asyncio.gather(*(process.communicate(b"") for process in processes))
    keys = {output.decode().strip() for output, _ in outputs}
    assert keys == {path.read_text().strip()}
    assert {process.returncode for process in processes} == {0}
    assert list(tmp_path.iterdir()) == [path]
