"""One stack a folder, whoever starts at the same moment or dies."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from patchwright_local.state import Folder

HOLDER = """
import sys, time
from pathlib import Path
from patchwright_local.state import Folder
with Folder(Path(sys.argv[1])).held():
    print("held", flush=True)
    time.sleep(60)
"""


def test_folder_is_held_by_one_stack_and_free_when_that_is_killed(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "home")
    folder.make()
    command = (sys.executable, "-c", HOLDER, str(folder.root))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(BlockingIOError), folder.held():
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
    with folder.held():
        assert folder.lock.exists()


def test_vaults_key_lies_outside_and_stays_the_same(tmp_path: Path) -> None:
    folder, other = Folder(tmp_path / "one"), Folder(tmp_path / "two")
    for each in (folder, other):
        each.make()
    key = folder.vault_key(tmp_path / "states")
    assert key.parent == tmp_path / "states"
    assert folder.vault_key(tmp_path / "states") == key
    assert other.vault_key(tmp_path / "states") != key


def test_vaults_key_of_an_earlier_release_is_used_where_it_is(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    (tmp_path / "vault.key").write_text("00" * 32)
    assert folder.vault_key(tmp_path / "states") == tmp_path / "vault.key"
