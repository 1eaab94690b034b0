"""GitHub's delivery log behind a scripted vault: pages newest first, and what is sent again."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from harness.vault import ScriptedVault
from patchwright_common.credentials import Reply

PAGE = 3
"""Entries on a page, whatever was asked for."""


@dataclass
class DeliveryLog:
    """`outcome` is the status of every redelivery; `refusal` an answer instead of one."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    outcome: int = 202
    refusal: Reply | None = None
    pages: list[str] = field(default_factory=list)
    """The cursors that were asked for."""
    sent_again: list[str] = field(default_factory=list)
    """GUIDs, in the order in which they were asked for."""

    def serve(self, vault: ScriptedVault) -> None:
        vault.replies["deliveries"] = self.page
        vault.replies["redeliver"] = self.redeliver

    def add(self, guid: str, status: int, *, ago: float = 0.0, event: str = "issues") -> None:
        """One more attempt, made so many seconds ago."""
        number = len(self.entries) + 1
        moment = datetime.fromtimestamp(time.time() - ago, UTC)
        self.entries.append(
            {
                "id": number,
                "guid": guid,
                "event": event,
                "action": "opened",
                "status_code": status,
                "delivered_at": moment.isoformat(),
                "redelivery": any(entry["guid"] == guid for entry in self.entries),
                "installation_id": 1,
                "repository_id": 7,
            }
        )

    def page(self, body: str) -> Reply:
        cursor = json.loads(body)["cursor"]
        self.pages.append(cursor)
        older = [e for e in self.entries if not cursor or e["id"] < int(cursor)]
        found = older[::-1][:PAGE]
        following = str(found[-1]["id"]) if len(older) > PAGE else ""
        return Reply(value=json.dumps({"deliveries": found, "next": following}))

    def redeliver(self, body: str) -> Reply:
        number = json.loads(body)["id"]
        guid = next(e["guid"] for e in self.entries if e["id"] == number)
        self.sent_again.append(guid)
        if self.refusal is not None:
            return self.refusal
        self.add(guid, self.outcome)
        return Reply(value=json.dumps({"id": number}))
