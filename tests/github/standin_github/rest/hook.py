"""The App's webhook: its configuration and its delivery log."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from standin_github import events
from standin_github.errors import ApiError, not_found
from standin_github.records import App, Delivery
from standin_github.rest.call import Call, answer, route
from standin_github.views.deliveries import delivery as delivery_view
from standin_github.views.deliveries import delivery_item

CURSOR = "v1_"


def _config(app: App) -> dict[str, Any]:
    config = {"content_type": "json", "insecure_ssl": "0", "url": app.webhook_url}
    return config | ({"secret": "********"} if app.webhook_secret else {})


async def get_config(call: Call) -> Response:
    return answer(_config(call.app()))


async def change_config(call: Call) -> Response:
    app, body = call.app(), await call.json()
    app.webhook_secret = str(body.get("secret", app.webhook_secret))
    address = str(body.get("url", app.webhook_url))
    if address != app.webhook_url:
        app.webhook_url = address
        events.ping(call.hub, app)
    return answer(_config(app))


async def list_deliveries(call: Call) -> Response:
    """Newest first; `cursor` is the oldest delivery already seen."""
    app = call.app()
    rows = [d for d in call.state.deliveries.values() if d.app_id == app.id and d.done]
    rows = [d for d in sorted(rows, key=lambda d: -d.id) if _wanted(call, d)]
    cursor = call.query("cursor")
    if cursor:
        rows = [d for d in rows if d.id < _cursor(cursor)]
    size = call.per_page()
    page = rows[:size]
    more = {"Link": call.link("next", cursor=f"{CURSOR}{page[-1].id}")} if rows[size:] else {}
    return answer([delivery_item(d) for d in page], headers=more)


def _cursor(text: str) -> int:
    digits = text.removeprefix(CURSOR)
    if not digits.isascii() or not digits.isdigit():
        raise ApiError(422, "Invalid cursor")
    return int(digits)


def _wanted(call: Call, delivery: Delivery) -> bool:
    """The filters `redelivery` (true or false) and `status` (success or failure)."""
    redelivery, status = call.query("redelivery"), call.query("status")
    if redelivery and (redelivery == "true") != delivery.redelivery:
        return False
    return not status or (status == "success") == (200 <= delivery.status_code < 400)


def _own_delivery(call: Call) -> Delivery:
    app = call.app()
    delivery = call.state.deliveries.get(call.number("delivery_id"))
    if delivery is None or delivery.app_id != app.id:
        raise not_found()
    return delivery


async def get_delivery(call: Call) -> Response:
    return answer(delivery_view(_own_delivery(call)))


async def redeliver(call: Call) -> Response:
    call.hub.webhooks.redeliver(call.app(), _own_delivery(call))
    return answer({}, 202)


ROUTES = [
    route("GET", "/app/hook/config", get_config),
    route("PATCH", "/app/hook/config", change_config),
    route("GET", "/app/hook/deliveries", list_deliveries),
    route("GET", "/app/hook/deliveries/{delivery_id}", get_delivery),
    route("POST", "/app/hook/deliveries/{delivery_id}/attempts", redeliver),
]
