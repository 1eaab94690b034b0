"""What is searched: places by the kind of reader who gets to see them."""

from __future__ import annotations

from dataclasses import dataclass, field

STREAMS = "streams"
BUCKETS = "key-value buckets"
OBJECTS = "object stores"
STORE_FILES = "files of JetStream"
LOGS = "log lines"
TERMINAL = "the terminal"
SPANS = "spans"
PAGES = "issues, comments and pull requests"
HISTORY = "git objects on GitHub"
MODEL = "requests to the model"
BOX_ENVIRONMENT = "environment in the sandbox"
BOX_PROC = "proc as seen from the sandbox"
BOX_FILES = "files as seen from the sandbox"
GIT_CONFIGURATION = "git configuration"
MIRRORS = "mirrors"
INSPECT = "docker inspect"
ARGUMENTS = "arguments of processes"
ENVIRONMENTS = "environments of processes"
TEMPORARY = "TMPDIR"
FILES = "other files"
CORES = "core dumps"


@dataclass(frozen=True)
class Place:
    """Something that somebody could read, and what is in it."""

    kind: str
    name: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, order=True)
class Finding:
    """Which secret is where; never its value."""

    kind: str
    name: str
    secret: str
