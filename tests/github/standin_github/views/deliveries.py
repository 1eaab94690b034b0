"""The delivery log as GET /app/hook/deliveries shows it."""

from __future__ import annotations

import json
from typing import Any

from standin_github.clock import iso
from standin_github.records import Delivery

Json = dict[str, Any]


def delivery_item(row: Delivery) -> Json:
    return {
        "id": row.id,
        "guid": row.guid,
        "delivered_at": iso(row.delivered_at),
        "redelivery": row.redelivery,
        "duration": row.duration,
        "status": row.status,
        "status_code": row.status_code,
        "event": row.event,
        "action": row.action,
        "installation_id": row.installation_id,
        "repository_id": row.repository_id,
        "throttled_at": None,
    }


def delivery(row: Delivery) -> Json:
    """With request and response. The payload comes parsed: the bytes are not in the log."""
    return delivery_item(row) | {
        "url": row.url,
        "request": {"headers": row.request_headers, "payload": json.loads(row.body)},
        "response": {"headers": row.response_headers, "payload": row.response_body},
    }
