"""`just bench ingest`: deliveries as fast as they go in, and each accounted for afterwards.

Real ingest, vault, triage and nats-server; duplicates, bad signatures and bodies that are no
JSON are mixed in. Exit code 1 when one is lost, stored twice or left undecided.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import stamina

from harness.nats import DURABLE
from services.ingest.tests.chain import Chain, chain
from services.ingest.tests.webhooks import headers, signature

DECIDED = ("no job: ", "job requested", "the job is known", "triage-delivery-received gives up: ")
"""Triage's last word on a delivery."""
INSTALLATIONS = 500
"""So many share the load: each of them stays below its own limit."""
STRANGERS = 200
"""Addresses that bad signatures come from, as a proxy forwards them."""


@dataclass(frozen=True)
class Kind:
    """One delivery, and how it is to be answered."""

    status: int
    body: bytes
    signature: str
    delivery_id: str
    stranger: str = ""


@dataclass
class Found:
    """Counts, seconds, and resident bytes by process before and after."""

    answers: Counter[tuple[int, int]] = field(default_factory=Counter)
    """By wanted and given status."""
    seconds: float = 0.0
    decided_after: float = 0.0
    before: dict[str, int] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)


def deliveries(count: int, secret: str, name: str) -> Iterator[Kind]:
    """5 % are sent twice, 3 % have a bad signature, 2 % are signed and no JSON."""
    for number in range(count):
        payload = {
            "action": "labeled",
            "label": {"name": "bug"},
            "issue": {
                "number": number + 1, "title": f"Issue {number}", "body": "x" * 7000,
                "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
            },
            "repository": {"id": number % 997, "full_name": "a/b", "default_branch": "main"},
            "sender": {"login": "ada"},
            "installation": {"id": number % INSTALLATIONS},
        }  # fmt: skip
        body, identity = json.dumps(payload).encode(), f"{name}-{number}"
        match number % 100:
            case 10 | 40 | 70:
                stranger = f"203.0.113.{number // 100 % STRANGERS}"
                yield Kind(401, body, "sha256=" + "0" * 64, identity, stranger)
            case 20 | 60:
                yield Kind(400, body[:-9], signature(body[:-9], secret), identity)
            case rest:
                kind = Kind(202, body, signature(body, secret), identity)
                yield kind
                if rest % 20 == 5:
                    yield kind


async def run(count: int, connections: int, folder: Path) -> Found:
    """Send them all; raises SystemExit where the accounts do not fit."""
    found = Found()
    async with chain(folder, jetstream=DURABLE) as running:
        warm = await _send(running, count // 10 + 100, connections, "warm", Found())
        await _decided(running, warm)
        found.before = _memory(running)
        began = time.perf_counter()
        unique = await _send(running, count, connections, "load", found)
        found.seconds = time.perf_counter() - began
        await _decided(running, warm + unique)
        found.decided_after = time.perf_counter() - began
        found.after = _memory(running)
        await _account(running, found, warm + unique)
    return found


async def _send(running: Chain, count: int, connections: int, name: str, found: Found) -> int:
    """How many different ones ingest has to have stored."""
    url = f"http://127.0.0.1:{running.port}/webhooks/github"
    kinds = iter(deliveries(count, running.app.webhook_secret, name))
    stored: set[str] = set()

    async def sender(http: httpx.AsyncClient) -> None:
        for kind in kinds:
            given = headers(
                kind.body, x_hub_signature_256=kind.signature, x_github_delivery=kind.delivery_id
            )
            if kind.stranger:
                given["X-Forwarded-For"] = kind.stranger
            answer = await _post(http, url, kind.body, given)
            found.answers[kind.status, answer.status_code] += 1
            if answer.status_code == 202:
                stored.add(kind.delivery_id)

    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with (
        httpx.AsyncClient(trust_env=False, timeout=60, limits=limits) as http,
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(connections):
            tasks.create_task(sender(http))
    return len(stored)


@stamina.retry(on=httpx.TransportError, attempts=5, wait_initial=0.01)
async def _post(
    http: httpx.AsyncClient, url: str, body: bytes, given: dict[str, str]
) -> httpx.Response:
    """Under the same id each time: the server closes connections that were idle for long."""
    return await http.post(url, content=body, headers=given)


async def _decided(running: Chain, count: int) -> None:
    async with asyncio.timeout(60 + count / 20):
        while _words(running) < count:
            await asyncio.sleep(0.05)


def _words(running: Chain) -> int:
    lines = running.programs["triage"].lines
    return sum(any(word in line for word in DECIDED) for line in lines)


async def _account(running: Chain, found: Found, count: int) -> None:
    messages = (await running.bus.js.stream_info("PW_GITHUB")).state.messages
    info = await running.bus.js.consumer_info("PW_GITHUB", "triage-delivery-received")
    words = _words(running)
    wrong = {pair: n for pair, n in found.answers.items() if pair[0] != pair[1]}
    if wrong or not messages == words == count or info.num_pending or info.num_ack_pending:
        raise SystemExit(
            f"{count} answered 202, {messages} stored, {words} decided, "
            f"{info.num_pending} not seen, other answers than wanted: {wrong}"
        )


def _memory(running: Chain) -> dict[str, int]:
    pids = {name: running.programs[name].process.pid for name in ("ingest", "triage")}
    pids["nats-server"] = running.nats._pid()
    return {name: int(psutil.Process(pid).memory_info().rss) for name, pid in pids.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what was found."""
    parser = argparse.ArgumentParser(prog="just bench ingest", description=__doc__)
    parser.add_argument("--deliveries", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=32, help="at once")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(run(options.deliveries, options.connections, Path(folder)))
    total = found.answers.total()
    given = ", ".join(f"{n} times {status}" for (_, status), n in sorted(found.answers.items()))
    print(f"{total} deliveries ({given}): every one stored once, or refused as it should be")
    print(f"  answered: {total / found.seconds:,.0f} a second")
    print(f"  decided: the last one {found.decided_after - found.seconds:.2f} s after its answer")
    for name, before in found.before.items():
        after = found.after[name]
        print(f"  {name}: {before / 1e6:.0f} MB before, {after / before:.2f} times that after")


if __name__ == "__main__":
    main()
