"""The App's delivery log, for ingest: what GitHub could not hand over is found there.

Only the App's own JWT opens it, so the vault reads it itself. A page has facts and no
payloads; what was missed is recovered by having GitHub send it again.

https://docs.github.com/rest/apps/webhooks#list-deliveries-for-an-app-webhook
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from patchwright_common.errors import Permanent, Retry
from patchwright_vault.audit import Ask, Grant
from patchwright_vault.handlers import Answer, parsed

if TYPE_CHECKING:
    from patchwright_vault.app import AppClient

PAGE = 100
"""Entries, at most as GitHub has it."""
_NEXT = re.compile(r'<([^>]*)>\s*;\s*rel="next"')


class DeliveriesRequest(BaseModel):
    """A page, newest first: the first one, or the one that the last page's `next` names."""

    model_config = ConfigDict(hide_input_in_errors=True)

    cursor: str = Field(default="", max_length=200, pattern=r"^[!-~]*$")
    per_page: int = Field(default=PAGE, ge=1, le=PAGE)


class RedeliverRequest(BaseModel):
    """One entry of the log, by its id."""

    model_config = ConfigDict(hide_input_in_errors=True)

    id: int = Field(ge=0, lt=2**63)


class Logged(BaseModel):
    """One try to hand over a webhook. `guid` is the same for each try of one webhook."""

    id: int
    guid: str
    event: str
    action: str | None = None
    status_code: int
    """0 where nobody answered."""
    delivered_at: str
    redelivery: bool
    installation_id: int | None = None
    repository_id: int | None = None


class DeliveryLog:
    """Answers `deliveries` and `redeliver`."""

    def __init__(self, app: AppClient) -> None:
        self._app = app

    def answers(self) -> dict[str, Answer]:
        """By verb."""
        return {"deliveries": self._page, "redeliver": self._redeliver}

    async def _page(self, ask: Ask) -> Grant:
        """JSON: `deliveries`, and `next`, which is empty on the last page."""
        request = parsed(DeliveriesRequest, ask)
        query = {"per_page": str(request.per_page)}
        if request.cursor:
            query["cursor"] = request.cursor
        answer = await self._app.request("GET", f"app/hook/deliveries?{urlencode(query)}")
        if answer.status in (400, 422):
            raise Permanent("GitHub does not know this page of the delivery log any more.")
        if answer.status != 200:
            raise Permanent(f"GitHub answered {answer.status} when asked for the delivery log.")
        try:
            found = TypeAdapter(list[Logged]).validate_json(answer.body)
        except ValidationError:
            raise Retry("GitHub's delivery log could not be read") from None
        return Grant(
            json.dumps(
                {
                    "deliveries": [entry.model_dump() for entry in found],
                    "next": next_cursor(answer.headers.get("link", "")),
                }
            )
        )

    async def _redeliver(self, ask: Ask) -> Grant:
        """JSON: the `id`. The new try is another entry of the log."""
        request = parsed(RedeliverRequest, ask)
        answer = await self._app.request("POST", f"app/hook/deliveries/{request.id}/attempts")
        if answer.status == 404:
            raise Permanent("GitHub's delivery log does not hold this delivery any more.")
        if answer.status != 202:
            raise Permanent(f"GitHub answered {answer.status} and does not deliver it again.")
        return Grant(json.dumps({"id": request.id}))


def next_cursor(link: str) -> str:
    """The cursor of the page that follows, by the header `Link`; empty for none."""
    found = _NEXT.search(link)
    if found is None:
        return ""
    return parse_qs(urlsplit(found[1]).query).get("cursor", [""])[0]
