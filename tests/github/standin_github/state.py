"""Every row in memory, the look-ups over them, and the snapshot that survives a restart."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from standin_github.records import (
    Account,
    App,
    CheckRun,
    Comment,
    Delivery,
    Installation,
    InstallationToken,
    Issue,
    Label,
    PersonalToken,
    Pull,
    Push,
    Reaction,
    Repository,
    TimelineEvent,
)

DELIVERIES_KEPT = 5000
FIRST_ID = 1001
Row = TypeVar("Row")


class State:
    """The rows are public on purpose: whoever handles a request edits them, on one event loop."""

    def __init__(self) -> None:
        self.next_id = FIRST_ID
        self.accounts: dict[int, Account] = {}
        self.personal_tokens: dict[str, PersonalToken] = {}
        self.apps: dict[int, App] = {}
        self.installations: dict[int, Installation] = {}
        self.installation_tokens: dict[str, InstallationToken] = {}
        self.repositories: dict[int, Repository] = {}
        self.labels: dict[int, Label] = {}
        self.issues: dict[int, Issue] = {}
        self.pulls: dict[int, Pull] = {}
        self.comments: dict[int, Comment] = {}
        self.reactions: dict[int, Reaction] = {}
        self.timeline: dict[int, TimelineEvent] = {}
        self.check_runs: dict[int, CheckRun] = {}
        self.deliveries: dict[int, Delivery] = {}
        self.pushes: dict[int, Push] = {}
        self.credentials: set[str] = set()
        """Tokens that were minted and assertions that were shown: for tests that look for leaks."""

    def new_id(self) -> int:
        self.next_id += 1
        return self.next_id - 1

    def account(self, login: str) -> Account | None:
        return _first(a for a in self.accounts.values() if a.login.lower() == login.lower())

    def add_account(self, login: str, kind: str) -> Account:
        account = Account(self.new_id(), login, kind, time.time())
        self.accounts[account.id] = account
        return account

    def repository(self, owner: str, name: str) -> Repository | None:
        wanted = f"{owner}/{name}".lower()
        return _first(r for r in self.repositories.values() if self.full_name(r).lower() == wanted)

    def full_name(self, repository: Repository) -> str:
        return f"{self.accounts[repository.owner_id].login}/{repository.name}"

    def role(self, account: Account, repository: Repository) -> str:
        """admin, maintain, write, triage, read or none, public repositories being readable."""
        if account.id == repository.owner_id:
            return "admin"
        fallback = "none" if repository.private else "read"
        return repository.collaborators.get(str(account.id), fallback)

    def label(self, repository: Repository, name: str) -> Label | None:
        mine = (x for x in self.labels.values() if x.repository_id == repository.id)
        return _first(x for x in mine if x.name.lower() == name.lower())

    def issue(self, repository: Repository, number: int) -> Issue | None:
        mine = (i for i in self.issues.values() if i.repository_id == repository.id)
        return _first(i for i in mine if i.number == number)

    def pull_of(self, issue: Issue) -> Pull:
        """Raises KeyError for a plain issue."""
        found = _first(p for p in self.pulls.values() if p.issue_id == issue.id)
        if found is None:
            raise KeyError(issue.number)
        return found

    def pulls_of(self, repository: Repository) -> list[tuple[Issue, Pull]]:
        pairs = ((self.issues[p.issue_id], p) for p in self.pulls.values())
        return [(i, p) for i, p in pairs if i.repository_id == repository.id]

    def comments_of(self, issue: Issue) -> list[Comment]:
        return [c for c in self.comments.values() if c.issue_id == issue.id]

    def reactions_on(self, subject: str, subject_id: int) -> list[Reaction]:
        mine = (r for r in self.reactions.values() if r.subject == subject)
        return [r for r in mine if r.subject_id == subject_id]

    def installation_of(self, app: App, repository: Repository) -> Installation | None:
        mine = (i for i in self.installations.values() if i.app_id == app.id)
        return _first(i for i in mine if repository.id in i.repository_ids)

    def note(self, issue: Issue, account: Account, kind: str, detail: str = "") -> None:
        """Add a line to the issue's page."""
        event = TimelineEvent(self.new_id(), issue.id, account.id, kind, detail, time.time())
        self.timeline[event.id] = event

    def add_delivery(self, delivery: Delivery) -> None:
        self.deliveries[delivery.id] = delivery
        while len(self.deliveries) > DELIVERIES_KEPT:
            del self.deliveries[next(iter(self.deliveries))]

    def save(self, path: Path) -> None:
        """Replace the snapshot in one step; it holds tokens, so only its owner may read it."""
        draft = path.with_suffix(".draft")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(self._dump(), file)
        draft.replace(path)

    @classmethod
    def load(cls, path: Path) -> State:
        """An absent snapshot is an empty GitHub."""
        state = cls()
        if path.exists():
            state._restore(json.loads(path.read_text(encoding="utf-8")))
        return state

    def _dump(self) -> dict[str, Any]:
        tables = {name: [asdict(row) for row in getattr(self, name).values()] for name in TABLES}
        return {"next_id": self.next_id, "tables": tables}

    def _restore(self, snapshot: dict[str, Any]) -> None:
        self.next_id = snapshot["next_id"]
        for name, row_type in TABLES.items():
            known = {f.name for f in fields(row_type)}
            rows = snapshot["tables"].get(name, [])
            table = getattr(self, name)
            for row in rows:
                table[row["id"]] = row_type(**{k: v for k, v in row.items() if k in known})
        for delivery in self.deliveries.values():
            if not delivery.done:
                delivery.done, delivery.status = True, "cut off by a restart"


TABLES: dict[str, Any] = {
    "accounts": Account,
    "personal_tokens": PersonalToken,
    "apps": App,
    "installations": Installation,
    "installation_tokens": InstallationToken,
    "repositories": Repository,
    "labels": Label,
    "issues": Issue,
    "pulls": Pull,
    "comments": Comment,
    "reactions": Reaction,
    "timeline": TimelineEvent,
    "check_runs": CheckRun,
    "deliveries": Delivery,
    "pushes": Push,
}


def _first(rows: Iterable[Row]) -> Row | None:
    return next(iter(rows), None)
