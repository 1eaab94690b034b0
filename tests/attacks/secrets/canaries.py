"""Every secret of a running stack by name, with the files that are its place.

What is here as a file is where the operator or GitHub keeps it; everywhere else it is a leak.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from harness.stack import RunningStack
from patchwright_common.requests import IDENTITIES
from patchwright_vault.keys.file import FileKeys
from patchwright_vault.keys.ring import parse
from patchwright_vault.sealing import Sealer
from patchwright_vault.store import GITHUB_APP, MARK_KEY, TRANSPORT_KEY, WEBHOOK_SECRET, Store
from patchwright_vault.webhook_secrets import Secrets

from .needles import Canary

APP_KEY = "the App's private key"
SECRET = "a webhook secret"
MODEL_KEY = "the model's key"
KEY_KEY = "a key-encryption key"
SEED = "a seed for NATS"
TRANSPORT = "the transport key"
MARK = "the markers' key"
TOKEN = "a token or assertion of the App"
KINDS = (APP_KEY, SECRET, MODEL_KEY, KEY_KEY, SEED, TRANSPORT, MARK, TOKEN)


def vault_key(stack: RunningStack) -> Path:
    """Outside of the stack's folder: `HOME` of a test's stack is the folder around it."""
    home = stack.folder.root.parent
    return stack.folder.vault_key(home / ".local" / "state" / "patchwright")


def homes(stack: RunningStack) -> frozenset[Path]:
    """Files where secrets belong: the operator's, and the memory of GitHub's own stand-in."""
    root = stack.folder.root
    own = (root / "demo.json", root / "model.key", vault_key(stack))
    github = (root / "github" / "state.json", root / "github" / "state.draft")
    seeds = (stack.at.nkey(name) for name in IDENTITIES)
    return frozenset((*own, *github, *seeds))


async def canaries(stack: RunningStack) -> list[Canary]:
    """All that there are at this moment; a rotation makes others."""
    root = stack.folder.root
    found = [Canary(MODEL_KEY, (root / "model.key").read_bytes().strip())]
    found += _of_app(json.loads((root / "demo.json").read_text()))
    found += _keys(vault_key(stack).read_text())
    found += [
        Canary(f"{SEED}: {name}", stack.at.nkey(name).read_bytes().strip()) for name in IDENTITIES
    ]
    async with stack.github() as github:
        found += [Canary(TOKEN, value.encode()) for value in await github.credentials()]
    return found + await _records(stack)


def private_key(pem: str) -> Canary:
    """A PEM as it is, line by line, in binary, and its primes as a program's memory has them."""
    lines = [line.encode() for line in pem.splitlines()[1:-1]]
    primes = load_pem_private_key(pem.encode(), password=None)
    assert isinstance(primes, RSAPrivateKey)
    numbers = primes.private_numbers()
    size = primes.key_size // 16
    inside = [prime.to_bytes(size, order) for prime in (numbers.p, numbers.q) for order in ORDERS]
    body = base64.b64decode(b"".join(lines))
    # The first lines hold nothing but lengths and the modulus, which is public.
    return Canary(APP_KEY, b"\n".join(lines[len(lines) // 4 :]), (*lines[8:-1], body, *inside))


ORDERS: tuple[str, str] = ("big", "little")


def _of_app(made: dict[str, str]) -> Iterator[Canary]:
    yield private_key(made["private_key"])
    yield Canary(SECRET, made["webhook_secret"].encode())


def _keys(text: str) -> Iterator[Canary]:
    for version, key in parse(text, "the test").keys.items():
        yield Canary(f"{KEY_KEY}, version {version}", key)


async def _records(stack: RunningStack) -> list[Canary]:
    """What the vault made for itself, opened with its own code and key, as its own identity."""
    async with stack.nats("vault") as client:
        keys = FileKeys(vault_key(stack))
        store = await Store.open(client.jetstream(timeout=10), Sealer(keys))
        app = json.loads(await store.get(GITHUB_APP))
        secrets = Secrets.read(await store.get(WEBHOOK_SECRET))
        return [
            Canary(TRANSPORT, await store.get(TRANSPORT_KEY)),
            Canary(MARK, await store.get(MARK_KEY)),
            private_key(app["private_key"]),
            *(Canary(SECRET, entry.secret.encode()) for entry in secrets.entries),
        ]
