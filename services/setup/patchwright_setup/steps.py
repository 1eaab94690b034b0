"""The way through: five steps, and where somebody is who comes back. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from patchwright_setup.vault import Held

Where = Literal["app", "install", "model", "check", "done"]


@dataclass(frozen=True)
class Step:
    """One page's worth of work."""

    name: Where
    title: str
    path: str


STEPS = (
    Step("app", "App", "/app"),
    Step("install", "Install", "/install"),
    Step("model", "Model", "/model"),
    Step("check", "Check", "/check"),
    Step("done", "Done", "/done"),
)


@dataclass(frozen=True)
class Progress:
    """What is known to be finished."""

    app: bool = False
    install: bool = False
    model: bool = False
    check: bool = False
    done: bool = False

    def finished(self, name: Where) -> bool:
        """Whether that step needs nothing more."""
        return bool(getattr(self, name))

    def next_step(self) -> Step:
        """The first step that is missing."""
        return next((step for step in STEPS if not self.finished(step.name)), STEPS[-1])

    def reachable(self, step: Step) -> bool:
        """Whether there is any use in going there: all before it is finished."""
        before = STEPS[: STEPS.index(step)]
        return step.name != "done" and all(self.finished(earlier.name) for earlier in before)


def progress(held: Held, *, installed: bool, checked: bool, finished: bool) -> Progress:
    """From the vault's records and the last live checks."""
    return Progress(
        app=held.has_app,
        install=held.has_app and installed,
        model=held.has_model_key,
        check=checked,
        done=finished,
    )
