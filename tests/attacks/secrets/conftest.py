"""A stack for each sandbox on which everything goes wrong, one that leaks, and what is found."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.stack import RunningStack, require, running_stack

from .crashing import cores_allowed
from .failures import full_run, short_run
from .searching import Searched, run_and_search

BACKENDS = ("bubblewrap", "docker")
LEAKING = Path(__file__).with_name("leaking_up.py")


@contextmanager
def own_stack(
    sandbox: str, factory: pytest.TempPathFactory, *program: str
) -> Iterator[RunningStack]:
    """With a TMPDIR of its own; it could dump core."""
    asyncio.run(require(sandbox))
    root: Path = factory.mktemp(sandbox)
    (root / "tmp").mkdir()
    with (
        cores_allowed(),
        running_stack(root, sandbox, program=program, TMPDIR=str(root / "tmp")) as running,
    ):
        yield running


@pytest.fixture(scope="module", params=BACKENDS)
def stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningStack]:
    """The product, for the tests of one module."""
    with own_stack(request.param, tmp_path_factory) as running:
        yield running


@pytest.fixture(scope="module", params=BACKENDS)
def leaking_stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningStack]:
    """The same with services that leak."""
    with own_stack(request.param, tmp_path_factory, sys.executable, str(LEAKING)) as running:
        yield running


@pytest.fixture(scope="module")
def searched(stack: RunningStack) -> Searched:
    """What the search found after everything went wrong."""
    return asyncio.run(run_and_search(stack, full_run))


@pytest.fixture(scope="module")
def leaks(leaking_stack: RunningStack) -> Searched:
    """What the same search found after one job of the leaking build."""
    return asyncio.run(run_and_search(leaking_stack, short_run))
