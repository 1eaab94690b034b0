"""A box as an agent expects it: at the base, submodules placed, the repository's set-up done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from patchwright_common import telemetry
from patchwright_common.events import JobRequested
from patchwright_runner import lfs
from patchwright_runner.environment import Recipe, recipe
from patchwright_runner.lfs import LargeFile
from patchwright_runner.repository_config import RepositoryConfig
from patchwright_runner.sandbox.passage import Passage
from patchwright_runner.sandbox.protocol import Box, BoxSpec
from patchwright_runner.source import with_token
from patchwright_runner.submodules import place
from patchwright_runner.verification import set_up
from patchwright_runner.ways_out import WaysOut
from patchwright_runner.workshop import Workshop


@dataclass(frozen=True, slots=True)
class Workspace:
    """One attempt's. `recipe` is what the set-up's result depends on, if there is a set-up."""

    shop: Workshop
    job: JobRequested
    config: RepositoryConfig
    mirror: Path
    recipe: Recipe | None

    @classmethod
    async def planned(
        cls, shop: Workshop, job: JobRequested, config: RepositoryConfig, mirror: Path
    ) -> Workspace:
        """Before there is a box: it may wait somewhere with the very environment."""
        wanted = None
        if config.setup:
            wanted = await recipe(
                mirror,
                job.base,
                repository_id=job.repository.id,
                made_by=await shop.backend.identity(),
                commands=config.setup,
            )
        return cls(shop, job, config, mirror, wanted)

    @asynccontextmanager
    async def box(self) -> AsyncIterator[Box]:
        """One that is checked out at the base."""
        backend = self.shop.backend
        with telemetry.span("start sandbox", attributes={telemetry.SANDBOX: backend.name}):
            box = await backend.start(self._spec())
        async with box:
            with telemetry.span("check out"):
                await box.checkout(self.job.base)
            yield box

    async def furnish(self, box: Box, ways: WaysOut) -> list[LargeFile]:
        """The LFS files that it placed. Raises Permanent with the output of a set-up that fails."""
        large: list[LargeFile] = []
        if self.recipe is not None:
            await self._environment(box, self.recipe, ways)
        if self.config.lfs:
            # Afterwards, because nothing but the set-up may run in a box whose result is kept.
            with telemetry.span("place LFS files"):
                large = await lfs.large_files(self.mirror, self.job.base)
                await self._place_large_files(box, large)
        if self.config.submodules:
            with telemetry.span("place submodules"):
                job = self.job
                repository = job.repository
                await place(box, self.shop.mirror, repository.id, repository.clone_url, job.base)
        return large

    def prepare_another(self) -> None:
        """Have a box like this one wait for the repository's next job."""
        wanted, cache = self.recipe, self.shop.environments

        async def restore(box: Box) -> None:
            if wanted is not None:
                await cache.restored(box, wanted)

        self.shop.backend.prepare(self._spec(), self.job.base, restore)

    async def _place_large_files(self, box: Box, files: list[LargeFile]) -> None:
        most = self.shop.limits.workspace_bytes // 2

        async def place(token: SecretStr) -> None:
            mirror, repository = self.shop.mirror, self.job.repository
            await lfs.place(box, mirror, repository, token, files, most=most)

        if files:
            await with_token(self.shop, self.job, place)

    async def _environment(self, box: Box, wanted: Recipe, ways: WaysOut) -> None:
        async def run() -> None:
            async with ways.open("set-up", self.config.egress.setup) as way:
                await set_up(Passage(box, way), self.config.setup)

        # The base is the default branch's head, as triage has it from GitHub.
        await self.shop.environments.prepared(
            box, wanted, base=self.job.base, of_default_branch=True, set_up=run
        )

    def _spec(self) -> BoxSpec:
        return BoxSpec(
            job_id=self.job.job_id,
            mirror=self.mirror,
            limits=self.shop.limits,
            programs=self.shop.agents.programs(self.config),
            prepared=self.recipe.digest if self.recipe else "",
        )
