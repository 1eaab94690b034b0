"""The search finds what a leaking build leaks, in every place: so its silence means something."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from harness.stack import RunningStack

from . import places
from .canaries import MODEL_KEY, SECRET, TOKEN, canaries
from .crashing import core_limit, cores, crash, dumps_lie_beside
from .needles import Search
from .searching import Searched

# The first test of each stack waits for the whole run.
pytestmark = pytest.mark.timeout(600)

LEAKS = {
    "a token in a log line": (places.LOGS, "home/logs/runner.log", TOKEN),
    "a token on the terminal": (places.TERMINAL, "up.log", TOKEN),
    "a token in a span": (places.SPANS, "a row of spans", TOKEN),
    "a model key in an event": (places.STREAMS, "PW_EVENTS pw.evt.change.produced", MODEL_KEY),
    "a token in a dead letter's header": (places.STREAMS, "PW_DLQ pw.dlq.runner", TOKEN),
    "a webhook secret in a delivery's header": (places.STREAMS, "PW_GITHUB pw.github", SECRET),
    "a token in hex in a key": (places.BUCKETS, "KV_PW_CLAIMS $KV.PW_CLAIMS.claim.leak", TOKEN),
    "a record that is no ciphertext": (places.BUCKETS, "KV_PW_VAULT $KV.PW_VAULT.leak", SECRET),
    "a token in base64 in an object": (places.OBJECTS, "OBJ_PW_CHECKPOINTS", TOKEN),
    "a token packed in a bundle": (places.OBJECTS, "OBJ_PW_CHANGES", TOKEN),
    "a token in a file of JetStream": (places.STORE_FILES, "home/nats/", TOKEN),
    "a token hidden in a comment": (places.PAGES, "comments", TOKEN),
    "a model key in a pull request": (places.PAGES, "pulls", MODEL_KEY),
    "a token in a pushed commit": (places.HISTORY, "objects of github", TOKEN),
    "a model key in a prompt": (places.MODEL, "request", MODEL_KEY),
    "a token in the environment of the sandbox": (places.BOX_ENVIRONMENT, "environment", TOKEN),
    "a token in proc of the sandbox": (places.BOX_PROC, "proc-environ", TOKEN),
    "a token in a file of the sandbox": (places.BOX_FILES, "files-by-place", TOKEN),
    "a token in the sandbox's remote": (places.GIT_CONFIGURATION, "git-config", TOKEN),
    "a token in the mirror's remote": (places.GIT_CONFIGURATION, "home/runner/mirrors/", TOKEN),
    "a token packed in a mirror": (places.MIRRORS, "objects of runner", TOKEN),
    "a token among arguments": (places.ARGUMENTS, "sh", TOKEN),
    "a token in a program's environment": (places.ENVIRONMENTS, "sleep", TOKEN),
    "a model key in a service's environment": (
        places.ENVIRONMENTS,
        "leaking_runner.py",
        MODEL_KEY,
    ),
    "a token left in a temporary file": (places.TEMPORARY, "tmp/askpass", TOKEN),
    "a token left in another file": (places.FILES, "debug.txt", TOKEN),
}
OF_BACKENDS = {
    "docker": (places.INSPECT, "", TOKEN),
    "bubblewrap": (places.ARGUMENTS, "bwrap", TOKEN),
}


def _is_found(leaks: Searched, kind: str, name: str, secret: str) -> bool:
    return any(f.secret == secret and f.name.startswith(name) for f in leaks.in_kind(kind))


@pytest.mark.parametrize("leak", LEAKS)
def test_search_finds(leaks: Searched, leak: str) -> None:
    assert _is_found(leaks, *LEAKS[leak]), leaks.told(LEAKS[leak][0])


def test_search_finds_a_token_in_how_the_sandbox_was_started(
    leaks: Searched, leaking_stack: RunningStack
) -> None:
    """Docker tells it to everybody who may inspect, bubblewrap to everybody who lists processes."""
    assert _is_found(leaks, *OF_BACKENDS[leaking_stack.at.sandbox])


def test_search_finds_a_token_in_a_core_dump(leaks: Searched, leaking_stack: RunningStack) -> None:
    """`leaks` made it fetch. Where dumps lie elsewhere, the limit alone shows the mistake."""
    [runner] = [
        child
        for child in psutil.Process(leaking_stack.at.pid).children()
        if "leaking_runner" in child.cmdline()[-1]
    ]
    known = Search(asyncio.run(canaries(leaking_stack)))
    assert core_limit(runner.pid)[0] != 0

    crash(runner.pid)

    dumps = cores(leaking_stack.folder.root.parent)
    found = {name for dump in dumps for name in known.find(dump.data)}
    assert found >= {TOKEN, MODEL_KEY} or not dumps_lie_beside()
