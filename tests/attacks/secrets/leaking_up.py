"""`patchwright` with services that leak on purpose, to prove that the search finds leaks.

The product knows nothing of it: `leaking_*.py` wrap its functions from outside.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from patchwright_local import cli, stack
from patchwright_local.processes import Process

HERE = Path(__file__).parent


class LeakingStack(stack.LocalStack):
    """Starts the leaking services in place of the real ones."""

    async def _vault(self) -> Process:
        return self._leaking(await super()._vault())

    def _services(self, sandbox: str) -> list[Process]:
        return [self._leaking(process) for process in super()._services(sandbox)]

    def _leaking(self, process: Process) -> Process:
        program = HERE / f"leaking_{process.name}.py"
        if not program.exists():
            return process
        environment = dict(process.environment)
        if process.name == "runner":
            environment["ANTHROPIC_API_KEY"] = (self._folder.root / "model.key").read_text()
        command = (sys.executable, str(program))
        return replace(process, command=command, environment=environment)


if __name__ == "__main__":
    stack.LocalStack = LeakingStack  # type: ignore[misc]
    # Its children shall be able to dump core.
    cli.keep_memory_private = lambda: None
    cli.app()
