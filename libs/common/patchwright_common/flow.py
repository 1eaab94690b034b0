"""The map of everything that crosses the bus: streams, routes, consumers, retry policies.

`just flow` prints it, README shows it, `just topology` makes the brokers match it,
and a test fails where they differ. Publishing takes a `Route`, so a subject that is
not declared here cannot be sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from patchwright_common import events

DAY = 24 * 3600.0
GIB = 2**30
BODY_REFERENCE = "Patchwright-Body-Sha256"
"""Header of a delivery whose body is in `PW_DELIVERIES`, by its SHA-256 in hex; ingest sets it."""
DELIVERY_BYTES = 25 * 2**20
"""GitHub sends no larger delivery.
https://docs.github.com/en/webhooks/webhook-events-and-payloads#payload-cap"""
TOKEN = re.compile(r"[A-Za-z0-9_-]+")
"""What may stand between two dots of a subject; GitHub's event names bring the underscore."""


@dataclass(frozen=True)
class Stream:
    """`max_age` in seconds, 0 for ever; `max_bytes` bounds the disk, -1 for none."""

    name: str
    subjects: tuple[str, ...]
    about: str
    max_age: float
    max_bytes: int
    readers: tuple[str, ...] = ()
    """Who may look single messages up, apart from its consumers."""
    watchers: tuple[str, ...] = ()
    """Who may ask how full it is."""
    duplicate_window: float = 3600.0


@dataclass(frozen=True)
class Bucket:
    """A key-value bucket (`kind="kv"`) or an object store (`kind="objects"`).

    `max_bytes` bounds the disk; who reads or writes may also ask how full it is.
    """

    name: str
    kind: str
    about: str
    max_bytes: int
    writers: dict[str, tuple[str, ...]]
    """By service, which keys: `claim.>`; `>` are all."""
    readers: tuple[str, ...]
    """Besides those that write."""
    max_age: float = 0.0
    history: int = 1
    watchers: tuple[str, ...] = ()
    """Who besides may ask how full it is."""

    @property
    def stream(self) -> str:
        """The name of the stream behind it."""
        return f"{'KV' if self.kind == 'kv' else 'OBJ'}_{self.name}"


@dataclass(frozen=True)
class RetryPolicy:
    """Delays in seconds before each retry; the last one repeats.

    `limit` counts every delivery, failed or crashed. None: retried for ever, for
    messages whose loss nobody could report.
    """

    name: str
    delays: tuple[float, ...]
    limit: int | None
    tells_user: bool = True
    """Whether giving up on a message ends its job."""

    def delay(self, delivered: int) -> float:
        """Seconds to wait after the `delivered`-th delivery (counted from 1) failed."""
        return self.delays[min(max(delivered, 1), len(self.delays)) - 1]


PATIENT = RetryPolicy("patient", (0.5, 1, 2, 5, 10, 30, 60), limit=60)
"""Outages of GitHub, the vault or the model: about an hour in all."""
ENDLESS = RetryPolicy("endless", (0.5, 1, 2, 5, 10, 30, 60), limit=None)
"""For what must never be dropped: deliveries that are not jobs yet, and failures to report."""
COURTEOUS = RetryPolicy("courteous", PATIENT.delays, limit=60, tells_user=False)
"""As patient, but the job goes on without it: an issue can be closed to comments."""
BACKGROUND = RetryPolicy("background", PATIENT.delays, limit=None, tells_user=False)
"""For house-keeping that no job waits for, and that must not be left undone either."""
FLEETING = RetryPolicy("fleeting", PATIENT.delays, limit=60, tells_user=False)
"""Progress is worth little a moment later, but an edit that came late has hidden the result: it
has to be shown again, through an outage as long as the result itself would wait for."""


@dataclass(frozen=True)
class Consumer:
    """A durable pull consumer named `<service>-<entity>-<verb>`.

    `ack_wait` in seconds is how long a silent handler keeps the message, `time_limit`
    in seconds how long it may take in all; `concurrency` is how many messages one
    process handles at once. `max_ack_pending` bounds what is in work or waits for its next
    try: at that many, a message that nobody tried yet would wait behind those that fail.
    """

    service: str
    subjects: tuple[str, ...]
    policy: RetryPolicy
    about: str
    name: str
    ack_wait: float = 15.0
    time_limit: float = 120.0
    concurrency: int = 8
    max_ack_pending: int = 65_536


@dataclass(frozen=True)
class Route:
    """One kind of message: where it is stored, what it holds, who sends and who receives it."""

    name: str
    stream: Stream
    prefix: str
    tokens: str
    payload: type[events.Event] | None
    producers: tuple[str, ...]
    consumers: tuple[Consumer, ...] = field(default=())

    @property
    def pattern(self) -> str:
        """The subject as people read it."""
        return f"{self.prefix}.{self.tokens}"

    def subject(self, *tokens: str) -> str:
        """The concrete subject; raises ValueError for tokens that NATS would misread."""
        if len(tokens) != len(self.tokens.split(".")):
            raise ValueError(f"{self.name} takes {self.tokens}, got {tokens}")
        for token in tokens:
            if not TOKEN.fullmatch(token):
                raise ValueError(f"not a subject token: {token!r}")
        return ".".join((self.prefix, *tokens))


# --- streams ---------------------------------------------------------------------------

PW_GITHUB = Stream(
    "PW_GITHUB",
    ("pw.github.>",),
    "raw deliveries, byte for byte",
    30 * DAY,
    4 * GIB,
    watchers=("ingest",),
)
PW_EVENTS = Stream(
    "PW_EVENTS",
    ("pw.evt.>",),
    "what happened to each job",
    365 * DAY,
    4 * GIB,
    readers=("triage", "runner", "publisher", "vault"),
    watchers=("triage",),
)
PW_DLQ = Stream(
    "PW_DLQ",
    ("pw.dlq.>",),
    "messages that no retry could cure",
    365 * DAY,
    GIB,
    readers=("triage", "runner", "publisher", "vault"),
    watchers=("triage",),
)

STREAMS = (PW_GITHUB, PW_EVENTS, PW_DLQ)

# --- buckets ---------------------------------------------------------------------------

PW_VAULT = Bucket("PW_VAULT", "kv", "secrets, as ciphertext only", GIB // 16, {"vault": (">",)}, ())
PW_CLAIMS = Bucket(
    "PW_CLAIMS",
    "kv",
    "claims, outcomes, queues: authoritative, kept for ever",
    GIB,
    {
        "triage": ("trigger.>", "queue.>", "stop.>", "cancel.>", "turns.>", "asked.>"),
        "runner": ("claim.>",),
        "publisher": ("outcome.>", "comment.>"),
    },
    ("vault",),
)
PW_DELIVERIES = Bucket(
    "PW_DELIVERIES",
    "objects",
    "delivery bodies too large for a message",
    2 * GIB,
    {"ingest": (">",)},
    ("triage", "vault"),
    PW_GITHUB.max_age,
)
PW_CHANGES = Bucket(
    "PW_CHANGES",
    "objects",
    "git bundles, named by digest",
    4 * GIB,
    {"runner": (">",)},
    ("publisher",),
    PW_EVENTS.max_age,
    watchers=("triage",),
)
PW_CHECKPOINTS = Bucket(
    "PW_CHECKPOINTS",
    "objects",
    "transcripts, named by digest",
    4 * GIB,
    {"runner": (">",)},
    (),
    PW_EVENTS.max_age,
    watchers=("triage",),
)
PW_RECOVERY = Bucket(
    "PW_RECOVERY",
    "kv",
    "how far GitHub's delivery log is known, and what of it never arrived",
    2**22,
    {"ingest": ("log",)},
    (),
)

BUCKETS = (PW_VAULT, PW_CLAIMS, PW_DELIVERIES, PW_CHANGES, PW_CHECKPOINTS, PW_RECOVERY)
STORE_BYTES = sum(store.max_bytes for store in (*STREAMS, *BUCKETS))
"""What everything together may take up; the server reserves it when it is made."""
JOB_STORES = (
    PW_EVENTS.name,
    *(bucket.stream for bucket in (PW_CLAIMS, PW_CHANGES, PW_CHECKPOINTS)),
)
"""What a job needs room in until its result is there."""

# --- consumers -------------------------------------------------------------------------


def _consumer(
    service: str, what: str, policy: RetryPolicy, about: str, **kwargs: float
) -> Consumer:
    name = f"{service}-{what.replace('.', '-')}"
    return Consumer(service, (f"pw.evt.{what}.*",), policy, about, name, **kwargs)  # type: ignore[arg-type]


TRIAGE_DELIVERY_RECEIVED = Consumer(
    "triage",
    ("pw.github.issues.>", "pw.github.issue_comment.>"),
    ENDLESS,
    "decides whether it is a job",
    "triage-delivery-received",
)
TRIAGE_STOP_RECEIVED = Consumer(
    "triage",
    (
        "pw.github.issue_comment.created.*",
        "pw.github.issue_comment.deleted.*",
        "pw.github.issues.closed.*",
        "pw.github.issues.deleted.*",
    ),
    ENDLESS,
    "stops the issue's jobs where it says so; requests do not queue before it",
    "triage-stop-received",
    ack_wait=5.0,
    concurrency=16,
)
TRIAGE_JOB_REQUESTED = _consumer("triage", "job.requested", ENDLESS, "queues it behind its issue's")
TRIAGE_JOB_FINISHED = _consumer("triage", "job.finished", ENDLESS, "readies the issue's next job")
RUNNER_JOB_READIED = _consumer(
    "runner",
    "job.readied",
    PATIENT,
    "lets the agent work on it",
    ack_wait=15.0,
    time_limit=7200.0,
    concurrency=4,
)
PUBLISHER_JOB_REQUESTED = _consumer("publisher", "job.requested", COURTEOUS, "acknowledges it")
PUBLISHER_JOB_STARTED = _consumer("publisher", "job.started", FLEETING, "shows that it runs")
PUBLISHER_JOB_PROGRESSED = _consumer("publisher", "job.progressed", FLEETING, "shows the turn")
PUBLISHER_CHANGE_PRODUCED = _consumer(
    "publisher",
    "change.produced",
    PATIENT,
    "opens the pull request",
    time_limit=600.0,
    concurrency=4,
)
PUBLISHER_ANSWER_PRODUCED = _consumer("publisher", "answer.produced", PATIENT, "posts the answer")
VAULT_DELIVERY_RECEIVED = Consumer(
    "vault",
    ("pw.github.installation.>", "pw.github.installation_repositories.>"),
    BACKGROUND,
    "keeps the register of installations",
    "vault-delivery-received",
)
VAULT_JOB_FINISHED = _consumer("vault", "job.finished", BACKGROUND, "revokes the job's tokens")
PUBLISHER_JOB_FAILED = _consumer("publisher", "job.failed", ENDLESS, "says what happened")
PUBLISHER_JOB_CANCELLED = _consumer(
    "publisher", "job.cancelled", ENDLESS, "says who stopped it, unless it has a result"
)

# --- routes ----------------------------------------------------------------------------


def _route(
    name: str,
    what: str,
    payload: type[events.Event],
    producers: tuple[str, ...],
    *consumers: Consumer,
) -> Route:
    return Route(name, PW_EVENTS, f"pw.evt.{what}", "<job_id>", payload, producers, consumers)


DELIVERY_RECEIVED = Route(
    "DELIVERY_RECEIVED",
    PW_GITHUB,
    "pw.github",
    "<event>.<action>.<repository_id>",
    None,
    ("ingest",),
    (TRIAGE_DELIVERY_RECEIVED, TRIAGE_STOP_RECEIVED, VAULT_DELIVERY_RECEIVED),
)
JOB_REQUESTED = _route(
    "JOB_REQUESTED",
    "job.requested",
    events.JobRequested,
    ("triage",),
    TRIAGE_JOB_REQUESTED,
    PUBLISHER_JOB_REQUESTED,
)
JOB_READIED = _route(
    "JOB_READIED", "job.readied", events.JobReadied, ("triage", "runner"), RUNNER_JOB_READIED
)
JOB_STARTED = _route(
    "JOB_STARTED", "job.started", events.JobStarted, ("runner",), PUBLISHER_JOB_STARTED
)
JOB_PROGRESSED = _route(
    "JOB_PROGRESSED", "job.progressed", events.JobProgressed, ("runner",), PUBLISHER_JOB_PROGRESSED
)
CHANGE_PRODUCED = _route(
    "CHANGE_PRODUCED",
    "change.produced",
    events.ChangeProduced,
    ("runner",),
    PUBLISHER_CHANGE_PRODUCED,
)
ANSWER_PRODUCED = _route(
    "ANSWER_PRODUCED",
    "answer.produced",
    events.AnswerProduced,
    ("runner",),
    PUBLISHER_ANSWER_PRODUCED,
)
JOB_FAILED = _route(
    "JOB_FAILED",
    "job.failed",
    events.JobFailed,
    ("runner", "publisher", "triage"),
    PUBLISHER_JOB_FAILED,
)
JOB_CANCELLED = _route(
    "JOB_CANCELLED",
    "job.cancelled",
    events.JobCancelled,
    ("triage",),
    PUBLISHER_JOB_CANCELLED,
)
JOB_FINISHED = _route(
    "JOB_FINISHED",
    "job.finished",
    events.JobFinished,
    ("publisher",),
    TRIAGE_JOB_FINISHED,
    VAULT_JOB_FINISHED,
)
GRANT_GIVEN = _route("GRANT_GIVEN", "grant.given", events.GrantGiven, ("vault",))
GRANT_REFUSED = _route("GRANT_REFUSED", "grant.refused", events.GrantRefused, ("vault",))
EGRESS_ALLOWED = _route("EGRESS_ALLOWED", "egress.allowed", events.EgressAllowed, ("runner",))
EGRESS_REFUSED = _route("EGRESS_REFUSED", "egress.refused", events.EgressRefused, ("runner",))
EGRESS_ENDED = _route("EGRESS_ENDED", "egress.ended", events.EgressEnded, ("runner",))
DEAD_LETTER = Route(
    "DEAD_LETTER",
    PW_DLQ,
    "pw.dlq",
    "<service>.<entity>.<verb>.<job_id>",
    None,
    ("triage", "runner", "publisher", "vault"),
)

ROUTES = (
    DELIVERY_RECEIVED,
    JOB_REQUESTED,
    JOB_READIED,
    JOB_STARTED,
    JOB_PROGRESSED,
    CHANGE_PRODUCED,
    ANSWER_PRODUCED,
    JOB_FAILED,
    JOB_CANCELLED,
    JOB_FINISHED,
    GRANT_GIVEN,
    GRANT_REFUSED,
    EGRESS_ALLOWED,
    EGRESS_REFUSED,
    EGRESS_ENDED,
    DEAD_LETTER,
)


def route_of(consumer: Consumer) -> Route:
    """The route that `consumer` listens to; its name is its identity."""
    return next(r for r in ROUTES for c in r.consumers if c.name == consumer.name)


def watched(service: str) -> tuple[str, ...]:
    """The streams, those behind buckets too, of which the service may ask how full they are."""
    streams = [stream.name for stream in STREAMS if service in stream.watchers]
    return (
        *streams,
        *(
            bucket.stream
            for bucket in BUCKETS
            if service in (*bucket.writers, *bucket.readers, *bucket.watchers)
        ),
    )


def writers(stream: Stream) -> frozenset[str]:
    """The services that publish to the stream.

    Where there are several, each of them must be a reader too: message ids are one space
    for all, so a writer looks whose message it is that its own is said to repeat.
    """
    return frozenset(p for route in ROUTES if route.stream == stream for p in route.producers)


def consumers(service: str | None = None) -> Iterator[Consumer]:
    """Every consumer, or those of one service."""
    for route in ROUTES:
        for consumer in route.consumers:
            if service in (None, consumer.service):
                yield consumer


def table() -> str:
    """The map as the Markdown table that README shows."""
    lines = [
        "| route | subject | payload | from | to (durable: what it does, retries) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for route in ROUTES:
        receivers = "<br>".join(f"`{c.name}`: {c.about}, {c.policy.name}" for c in route.consumers)
        payload = route.payload.__name__ if route.payload else "as received"
        lines.append(
            f"| {route.name} | `{route.pattern}` | {payload} "
            f"| {', '.join(route.producers)} | {receivers or '—'} |"
        )
    return "\n".join(lines)
