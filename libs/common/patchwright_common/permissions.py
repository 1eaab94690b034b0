"""Who may send and receive what at NATS, derived from the map and never written by hand.

`deploy/nats/identities.conf` is this module's output; a test compares them. What no
line here allows, the server refuses. Notable by their absence: no service makes or
changes a stream or a consumer (whoever makes consumers can let the server deliver any
message to any subject), acknowledges another's messages, hears another's replies, or
reads a bucket that it has no business with.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from patchwright_common import flow
from patchwright_common.requests import (
    CHANGED,
    ENDED,
    IDENTITIES,
    OPERATOR,
    PREFIX,
    SERVICES,
    SETUP,
    VERBS,
    subject,
)

API = "$JS.API"
HEARS_CHANGES = tuple(service for service in SERVICES if service != "vault")
"""Those that keep something of the vault's in memory."""


@dataclass(frozen=True)
class Permissions:
    """Subjects as NATS writes them; a queue group follows its subject after a space."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    never_publish: tuple[str, ...] = ()


def of(identity: str) -> Permissions:
    """What `identity` may do. Raises KeyError for one that does not exist."""
    if identity not in IDENTITIES:
        raise KeyError(identity)
    if identity == OPERATOR:
        return _operator()
    return Permissions(
        publish=tuple(dict.fromkeys(_publishes(identity))),
        subscribe=tuple(dict.fromkeys(_subscribes(identity))),
    )


def inbox(identity: str) -> str:
    """The prefix of its inboxes: one that all shared would let everybody hear all replies."""
    return f"_INBOX_{identity}"


def bucket_stream(bucket: flow.Bucket) -> str:
    """The stream behind a bucket."""
    return bucket.stream


def _publishes(identity: str) -> Iterator[str]:
    yield from (sent(route, identity) for route in flow.ROUTES if identity in route.producers)
    yield from (subject(identity, verb.name) for verb in VERBS if identity in verb.callers)
    for consumer in flow.consumers(identity):
        yield from _consumed(consumer)
    for stream in flow.STREAMS:
        if identity in stream.readers:
            yield f"{API}.STREAM.MSG.GET.{stream.name}"
    yield from (f"{API}.STREAM.INFO.{name}" for name in flow.watched(identity))
    for bucket in flow.BUCKETS:
        yield from _kept(bucket, identity)
    if identity == "vault":
        # Not `allow_responses`: whoever asks chooses where the answer goes.
        yield from (f"{inbox(asker)}.>" for asker in (*SERVICES, SETUP) if asker != "vault")
        yield from (CHANGED, ENDED)


def _consumed(consumer: flow.Consumer) -> Iterator[str]:
    stream = flow.route_of(consumer).stream.name
    yield f"{API}.CONSUMER.INFO.{stream}.{consumer.name}"
    yield f"{API}.CONSUMER.MSG.NEXT.{stream}.{consumer.name}"
    yield f"$JS.ACK.{stream}.{consumer.name}.>"


def _kept(bucket: flow.Bucket, identity: str) -> Iterator[str]:
    if identity in bucket.writers or identity in bucket.readers:
        yield f"{API}.STREAM.MSG.GET.{bucket_stream(bucket)}"
    yield from written(bucket, identity)


def _subscribes(identity: str) -> Iterator[str]:
    yield f"{inbox(identity)}.>"
    if identity in HEARS_CHANGES:
        yield CHANGED
    if identity == "vault":
        yield ENDED
        yield from (f"{PREFIX}.*.{verb.name} vault" for verb in VERBS)


def sent(route: flow.Route, identity: str) -> str:
    """The subjects on which `identity` sends by that route."""
    if route == flow.DEAD_LETTER:
        return f"{route.prefix}.{identity}.*.*.*"
    return ".".join((route.prefix, *("*" for _ in route.tokens.split("."))))


def written(bucket: flow.Bucket, identity: str) -> list[str]:
    """The subjects behind the keys that it may write."""
    kind = "$KV" if bucket.kind == "kv" else "$O"
    return [f"{kind}.{bucket.name}.{keys}" for keys in bucket.writers.get(identity, ())]


def _operator() -> Permissions:
    """People: everything but speaking for a service, and what is the vault's.

    They can delete streams, the vault's too; they cannot read a secret.
    """
    vault = bucket_stream(flow.PW_VAULT)
    return Permissions(
        publish=(">",),
        never_publish=(
            "pw.rpc.>",
            "pw.note.>",
            *(f"{inbox(identity)}.>" for identity in IDENTITIES if identity != OPERATOR),
            f"$KV.{flow.PW_VAULT.name}.>",
            f"{API}.STREAM.MSG.GET.{vault}",
            f"{API}.DIRECT.GET.{vault}",
            f"{API}.DIRECT.GET.{vault}.>",
            f"{API}.CONSUMER.*.{vault}",
            f"{API}.CONSUMER.*.{vault}.>",
            f"{API}.CONSUMER.DURABLE.CREATE.{vault}.>",
            f"{API}.STREAM.SNAPSHOT.{vault}",
        ),
        # `_INBOX` is the NATS CLI's own; the services' begin otherwise.
        subscribe=(
            "_INBOX.>",
            f"{inbox(OPERATOR)}.>",
            *(name for stream in flow.STREAMS for name in stream.subjects),
            f"$KV.{flow.PW_CLAIMS.name}.>",
            "$JS.EVENT.>",
        ),
    )


def render(public_keys: Mapping[str, str]) -> str:
    """The `users` of nats-server's configuration; `public_keys` by identity, or references."""
    blocks = "\n".join(_block(identity, public_keys[identity]) for identity in IDENTITIES)
    return f"users: [\n{blocks}\n]\n"


def variable(identity: str) -> str:
    """The environment variable from which the server reads the identity's public key."""
    return f"PATCHWRIGHT_NKEY_{identity.upper()}"


def _block(identity: str, public_key: str) -> str:
    found = of(identity)
    denied = f", deny: {_list(found.never_publish)}" if found.never_publish else ""
    return (
        f"  {{ # {identity}\n"
        f"    nkey: {public_key}\n"
        f"    permissions: {{\n"
        f"      publish: {{ allow: {_list(found.publish)}{denied} }}\n"
        f"      subscribe: {{ allow: {_list(found.subscribe)} }}\n"
        f"    }}\n"
        f"  }}"
    )


def _list(subjects: tuple[str, ...]) -> str:
    lines = "".join(f'        "{name}"\n' for name in subjects)
    return f"[\n{lines}      ]"


def main() -> None:
    """Print `deploy/nats/identities.conf`."""
    sys.stdout.write(
        "# Made from the map by `just nats-identities`: do not edit.\n"
        "# The public keys come from the server's environment.\n"
        + render({identity: f"${variable(identity)}" for identity in IDENTITIES})
    )


if __name__ == "__main__":
    main()
