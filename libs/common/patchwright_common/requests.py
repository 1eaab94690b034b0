"""The other half of the map: what is asked of the vault, and by whom.

Requests are core messages on `pw.rpc.vault.<caller>.<verb>`; no stream stores them.
NATS does not tell a responder who asks, so the caller is in the subject and only that
identity may publish there (`permissions.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

SERVICES = ("ingest", "triage", "runner", "publisher", "vault")
"""Each is an identity at NATS."""
SETUP = "setup"
"""The set-up pages and the operator's secret commands: an identity too, used by hand."""
OPERATOR = "operator"
"""`just topology`, replays, the NATS CLI."""
IDENTITIES = (*SERVICES, SETUP, OPERATOR)

PREFIX = "pw.rpc.vault"


@dataclass(frozen=True)
class Verb:
    """One kind of request and the identities that may make it."""

    name: str
    callers: tuple[str, ...]
    about: str
    public: bool = False
    """No secret is handed out, so no grant is recorded. Refusals always are."""
    changes: bool = False
    """Its grant is recorded before it takes effect: what cannot be recorded does not happen."""


VERBS = (
    Verb("token", ("triage", "runner", "publisher"), "a token for one repository and one job"),
    Verb("webhook-secret", ("ingest",), "the webhook secrets that verify at the moment"),
    Verb("model-key", ("runner",), "the model's key"),
    Verb("mark", ("publisher",), "the signature of a comment's marker"),
    Verb("app", ("triage", "runner", "publisher", SETUP), "the App's public facts", public=True),
    Verb("deliveries", ("ingest",), "a page of the App's delivery log", public=True),
    Verb("redeliver", ("ingest",), "GitHub sends one delivery again"),
    Verb("key", (SETUP,), "the key to seal secrets to, on their way in"),
    Verb("list", (SETUP,), "which records there are; never a value"),
    Verb("put", (SETUP,), "store a secret", changes=True),
    Verb("delete", (SETUP,), "forget a secret", changes=True),
    Verb("rotate", (SETUP,), "a new webhook secret, or a new key-encryption key", changes=True),
    Verb("retire", (SETUP,), "forget what a rotation left valid", changes=True),
    Verb(
        "convert",
        (SETUP,),
        "turn a manifest's code into the App's credentials, and keep them",
        changes=True,
    ),
    Verb("check", (SETUP,), "try one part for real: webhook, token or model"),
)

CHANGED = "pw.note.vault.changed"
"""The vault says, without a value, that a record is another one now; the body is its name."""
ENDED = "pw.note.vault.ended"
"""Among vaults: forget the tokens of the job in the body."""


def subject(caller: str, verb: str) -> str:
    """Where `caller` asks for `verb`."""
    return f"{PREFIX}.{caller}.{verb}"


def allowed(caller: str, verb: str) -> bool:
    """Whether `caller` may use `verb` at all."""
    return any(found.name == verb and caller in found.callers for found in VERBS)


def table() -> str:
    """The map of requests as the Markdown table that README shows."""
    lines = ["| verb | asked by | for |", "| --- | --- | --- |"]
    lines += [f"| `{verb.name}` | {', '.join(verb.callers)} | {verb.about} |" for verb in VERBS]
    return "\n".join(lines)
