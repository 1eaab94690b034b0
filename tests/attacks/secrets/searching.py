"""The whole attack: run everything, collect what anybody could read, search it for the secrets."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import httpx

from harness.stack import RunningStack

from .canaries import APP_KEY, MODEL_KEY, SECRET, TOKEN, canaries
from .git_objects import git, repositories
from .looking import LOOKS, SEEN
from .needles import Canary, Search
from .places import (
    BOX_ENVIRONMENT,
    BOX_FILES,
    BOX_PROC,
    ENVIRONMENTS,
    GIT_CONFIGURATION,
    MODEL,
    PAGES,
    Finding,
    Place,
)
from .places_files import files
from .places_nats import stored
from .watching import Watch, watched

IN_ITS_PLACE = {
    # The operator gives them there: `services/vault/README.md` says what that means.
    "patchwright-vault": (APP_KEY, SECRET, MODEL_KEY),
    # A child of runner or publisher for one fetch or push: never by arguments, never by a file.
    "git": (TOKEN,),
    "git-remote-http": (TOKEN,),
}
"""Which secrets may be in whose environment."""
KIND_OF_LOOK = {
    "environment": BOX_ENVIRONMENT,
    "proc": BOX_PROC,
    "git": GIT_CONFIGURATION,
    "files": BOX_FILES,
}


@dataclass
class Searched:
    """What was looked at, and what was found where."""

    findings: set[Finding] = field(default_factory=set)
    read: Counter[str] = field(default_factory=Counter)
    """Bytes by kind of place."""
    names: set[tuple[str, str]] = field(default_factory=set)
    secrets: Counter[str] = field(default_factory=Counter)
    """How many there were of each name."""
    services: set[str] = field(default_factory=set)
    """Programs whose arguments and environment were looked at."""
    seen: dict[str, bytes] = field(default_factory=dict, repr=False)
    """What the agent brought out, by the name of its look."""

    def take(self, search: Search, place: Place) -> None:
        """Search one place."""
        self.read[place.kind] += len(place.data)
        self.names.add((place.kind, place.name))
        if place.name in LOOKS:
            self.seen[place.name] = place.data
        for secret in search.find(place.data):
            if not (
                place.kind == ENVIRONMENTS and secret.startswith(IN_ITS_PLACE.get(place.name, ()))
            ):
                self.findings.add(Finding(place.kind, place.name, secret))

    def in_kind(self, kind: str) -> list[Finding]:
        """Sorted."""
        return sorted(finding for finding in self.findings if finding.kind == kind)

    def told(self, kind: str) -> str:
        """Which secret is in which of these places."""
        return "\n".join(f"{found.secret} is in {found.name}" for found in self.in_kind(kind))


async def run_and_search(
    stack: RunningStack, run: Callable[[RunningStack], Awaitable[object]]
) -> Searched:
    """The run under watch, and the search of everything that is left of it."""
    before = await canaries(stack)
    with watched(stack) as watch:
        await run(stack)
    known = {canary.value: canary for canary in (*before, *await canaries(stack))}
    return await search(stack, watch, list(known.values()))


async def search(stack: RunningStack, watch: Watch, known: list[Canary]) -> Searched:
    """Every place for every secret."""
    searched, needles = Searched(services=watch.services), Search(known)
    searched.secrets.update(canary.name for canary in known)
    async for place in _everywhere(stack, watch):
        searched.take(needles, place)
    return searched


async def _everywhere(stack: RunningStack, watch: Watch) -> AsyncIterator[Place]:
    async for place in stored(stack):
        yield place
    async for place in _shown(stack):
        yield place
    for place in watch.places.values():
        yield place
    for place in await asyncio.to_thread(lambda: list(files(stack))):
        yield place
    for place in await asyncio.to_thread(lambda: list(_seen_in_the_box(stack))):
        yield place


async def _shown(stack: RunningStack) -> AsyncIterator[Place]:
    """What people see on GitHub, and what the model's maker was sent."""
    async with stack.github() as github:
        state = await github.state()
    for table in ("issues", "pulls", "comments", "reactions", "check_runs", "pushes", "deliveries"):
        for row in state[table]:
            texts = "\n".join(str(value) for value in row.values())
            yield Place(PAGES, f"{table} {row['id']}", f"{json.dumps(row)}\n{texts}".encode())
    port = next(
        part
        for process in stack.processes().values()
        if "standin-model" in " ".join(command := process.cmdline())
        for part in command[command.index("--port") + 1 :][:1]
    )
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"http://127.0.0.1:{port}/_standin/requests")
    for request in answer.raise_for_status().json():
        yield Place(MODEL, f"request {request['number']}", json.dumps(request).encode())


def _seen_in_the_box(stack: RunningStack) -> list[Place]:
    """What the agent brought out, as it lies in the pushed branch."""
    places = []
    for repository in repositories(stack.folder.root / "github"):
        for ref in git(repository, "for-each-ref", "--format=%(refname)").decode().split():
            listed = git(repository, "ls-tree", "-r", "--name-only", ref).decode().split("\n")
            for name in LOOKS:
                if f"{SEEN}/{name}" in listed:
                    text = git(repository, "cat-file", "blob", f"{ref}:{SEEN}/{name}")
                    places.append(Place(KIND_OF_LOOK[name.partition("-")[0]], name, text))
    return places
