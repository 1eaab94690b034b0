"""What the vault's tests share: somebody to ask, and a PKCS#11 token in software."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from harness.nats import NatsServer
from patchwright_common.bus import Bus
from patchwright_common.credentials import TokenRequest

from .serving import Serving, asking, serving
from .soft_hsm import SoftHsm


@pytest.fixture(scope="session")
def soft_hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    """The library reads its configuration once in a process, so there is one for the run."""
    hsm = SoftHsm.set_up(tmp_path_factory.mktemp("softhsm"))
    os.environ |= hsm.environment
    yield hsm
    for name in hsm.environment:
        del os.environ[name]


@pytest.fixture(name="bus")
async def _bus(nats: NatsServer) -> AsyncIterator[Bus]:
    """A tester's connection; a vault under its own identity may answer it."""
    async with asking(nats) as connection:
        yield connection


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="vault")
async def _vault(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    """A vault that answers, for the tests of one module."""
    async with serving(tmp_path_factory.mktemp("vault")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def ours(vault: Serving) -> TokenRequest:
    """A repository of the test's own."""
    [made] = await vault.install("ours")
    return made
