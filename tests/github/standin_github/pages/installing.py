"""An App's page, and the one where somebody installs it on repositories."""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

from starlette.responses import RedirectResponse, Response

from standin_github import world
from standin_github.pages.visit import Visit
from standin_github.records import Account, App, Repository


async def app_page(visit: Visit) -> Response:
    app = _app(visit)
    if app is None:
        return visit.missing()
    owner = visit.hub.state.accounts[app.owner_id].login
    return visit.render("app.html", app=app, owner=owner)


async def choose(visit: Visit) -> Response:
    """A private App is for its owner's repositories alone."""
    app = _app(visit)
    return visit.missing() if app is None else _page(visit, app)


async def install(visit: Visit) -> Response:
    app = _app(visit)
    if app is None:
        return visit.missing()
    form = await visit.request.form()
    possible = {r.id: r for _, rows in _choices(visit, app) for r in rows}
    chosen = [possible[i] for i in possible if str(i) in form.getlist("repository")]
    if len({row.owner_id for row in chosen}) != 1:
        return _page(visit, app, "Choose repositories of one account.")
    known = {i.id for i in visit.hub.state.installations.values()}
    made = world.install(visit.hub, app.id, [visit.hub.state.full_name(row) for row in chosen])
    if not app.setup_url:
        return RedirectResponse(visit.hub.urls.html(f"/apps/{app.slug}"), 302)
    action = "update" if made["id"] in known else "install"
    added = urlencode({"installation_id": made["id"], "setup_action": action})
    parts = urlsplit(app.setup_url)
    query = f"{parts.query}&{added}" if parts.query else added
    return RedirectResponse(parts._replace(query=query).geturl(), 302)


def _app(visit: Visit) -> App | None:
    slug = visit.path["slug"]
    return next((a for a in visit.hub.state.apps.values() if a.slug == slug), None)


def _choices(visit: Visit, app: App) -> list[tuple[Account, list[Repository]]]:
    state = visit.hub.state
    owners = [state.accounts[app.owner_id]] if not app.public else list(state.accounts.values())
    rows = [(o, [r for r in state.repositories.values() if r.owner_id == o.id]) for o in owners]
    return [(owner, repositories) for owner, repositories in rows if repositories]


def _page(visit: Visit, app: App, error: str = "") -> Response:
    choices = _choices(visit, app)
    status = 422 if error else 200
    owner = visit.hub.state.accounts[app.owner_id].login
    return visit.render("install.html", status, app=app, choices=choices, error=error, owner=owner)
