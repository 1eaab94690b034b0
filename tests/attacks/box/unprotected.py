"""Runs an attack where nothing stops it, bounded in time, and ends what it leaves behind."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import time
from pathlib import Path

from harness import processes

from .attack import PLAIN, Attack, exports

_SECONDS = 45
_CALM_LOOKS = 20


class Unprotected:
    """A folder of this machine and its processes. The folder is all that is written to."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.folder = folder
        self.variables = variables
        self._mark = f"UNPROTECTED={secrets.token_hex(8)}"

    def attacked(self, attack: Attack) -> str:
        """What the attack says."""
        said = self.run(attack.first + attack.command, attack.alone)
        return said + self.run(attack.then) if attack.then else said

    def run(self, command: str, alone: tuple[str, ...] = PLAIN) -> str:
        """Standard output and error, replacing what is no UTF-8."""
        with (self.folder / "output").open("w+b") as output:
            done = subprocess.run(
                [*alone, "env", self._mark, "bash", "-c", exports(self.variables) + command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "LANG": "C.UTF-8"},
                timeout=_SECONDS,
                start_new_session=True,
                check=False,
            )
            assert done.returncode >= 0
            output.seek(0)
            return output.read().decode(errors="replace")

    def end(self) -> None:
        """Kill what is left of ours, known by our mark in their environment.

        One that forks and exits without end can be missed by a look, so that many in a row have
        to find nothing.
        """
        calm = 0
        while calm < _CALM_LOOKS:
            ours = [
                pid
                for pid, environment in processes.told("environ")
                if self._mark.encode() in environment.split(b"\0")
            ]
            for pid in ours:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            calm = 0 if ours else calm + 1
            time.sleep(0.01)
