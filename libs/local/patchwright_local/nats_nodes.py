"""The local stack's NATS: one server, or a cluster of three whose stores hold a copy each."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from patchwright_local.identities import CONFIGURATION
from patchwright_local.ports import HOST, free_ports
from patchwright_local.processes import Process

CLUSTER = "patchwright"


@dataclass(frozen=True)
class Node:
    """One server: where clients come in, and where the others do."""

    name: str
    port: int
    route: int
    """0 for one that is alone."""

    @property
    def url(self) -> str:
        """For clients."""
        return f"nats://{HOST}:{self.port}"


class Nodes:
    """Every server of the stack; the first one listens on the stack's own port."""

    def __init__(self, port: int, count: int) -> None:
        """Raises `StartError` when ports are missing."""
        self.copies = count
        self.all: tuple[Node, ...] = (Node("nats", port, 0),)
        if count == 1:
            return
        more = iter(free_ports(2 * count - 1))
        self.all = tuple(
            Node(f"nats-{number}", next(more) if number > 1 else port, next(more))
            for number in range(1, count + 1)
        )

    @property
    def url(self) -> str:
        """All of them, as the services take it."""
        return ",".join(node.url for node in self.all)

    def processes(self, store: Path, environment: Mapping[str, str]) -> list[Process]:
        """A process for each; `store` is where one that is alone keeps its data."""
        return [self._process(node, store, environment) for node in self.all]

    def _process(self, node: Node, store: Path, environment: Mapping[str, str]) -> Process:
        own = store if self.copies == 1 else store.with_name(f"{store.name}-{node.name}")
        command = (
            str(Path(sys.executable).parent / "nats-server"),
            *("--config", str(CONFIGURATION)),
            *("--addr", HOST, "--port", str(node.port)),
            *self._clustered(node),
        )
        given = {**environment, "PATCHWRIGHT_NATS_STORE": str(own)}
        return Process(node.name, command, given, ready="Server is ready")

    def _clustered(self, node: Node) -> tuple[str, ...]:
        if self.copies == 1:
            return ()
        routes = ",".join(f"nats://{HOST}:{other.route}" for other in self.all)
        return (
            *("--name", node.name, "--cluster_name", CLUSTER),
            *("--cluster", f"nats://{HOST}:{node.route}", "--routes", routes),
        )
