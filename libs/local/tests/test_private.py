"""Files for their owner alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchwright_local.private import write_private


@pytest.mark.parametrize("mode", [None, 0o644, 0o666, 0o600])
def test_file_is_for_its_owner_alone_whatever_it_was_before(
    tmp_path: Path, mode: int | None
) -> None:
    path = tmp_path / "private"
    if mode is not None:
        path.write_text("a longer text that was there before")
        path.chmod(mode)
    write_private(path, "new")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == "new"
