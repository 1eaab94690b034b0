"""Pages that make an App from a manifest, as GitHub's do: look, name it, create it."""

from __future__ import annotations

import secrets
import time
from urllib.parse import urlencode, urlsplit

from starlette.responses import RedirectResponse, Response

from standin_github import world
from standin_github.errors import ApiError
from standin_github.manifest import NAME_MAX, Conversion, Manifest, ManifestError, parse
from standin_github.pages.visit import Visit
from standin_github.records import Account


async def new_app(visit: Visit) -> Response:
    """The form that the manifest's sender posted to; nothing is made yet."""
    form = await visit.request.form()
    try:
        manifest = parse(str(form.get("manifest", "")))
    except ManifestError as error:
        return visit.render("bad_manifest.html", 422, problems=error.problems)
    if "org" in visit.path and _organization(visit) is None:
        return visit.missing()
    return _page(visit, manifest, visit.request.query_params.get("state", ""), manifest.name)


async def explain(visit: Visit) -> Response:
    """GitHub has a long form here for those who come without a manifest."""
    return visit.render("bad_manifest.html", 422, problems=['"manifest" wasn\'t supplied.'])


async def create(visit: Visit) -> Response:
    """Make the App and lead back to the manifest's sender with a code."""
    form = await visit.request.form()
    name, state = str(form.get("name", "")).strip(), str(form.get("state", ""))
    try:
        manifest = parse(str(form.get("manifest", "")))
    except ManifestError as error:
        return visit.render("bad_manifest.html", 422, problems=error.problems)
    owner = _organization(visit) or visit.hub.state.account(str(form.get("person", "")))
    if owner is None:
        return _page(visit, manifest, state, name, "Choose who you are.")
    if not name or len(name) > NAME_MAX:
        return _page(visit, manifest, state, name, f"Name has 1 to {NAME_MAX} characters")
    try:
        code = _register(visit, manifest, owner, name)
    except ApiError:
        return _page(visit, manifest, state, name, "Name has already been taken")
    return RedirectResponse(_return_address(manifest.redirect_url, code, state), 302)


def _register(visit: Visit, manifest: Manifest, owner: Account, name: str) -> str:
    made = world.create_app(
        visit.hub,
        name=name,
        owner=owner.login,
        webhook_url=manifest.webhook_url,
        permissions=manifest.permissions or {"metadata": "read"},
        events=manifest.events,
    )
    app = visit.hub.state.apps[made["id"]]
    app.setup_url, app.public = manifest.setup_url, manifest.public
    conversion = Conversion(
        app.id, made["private_key"], made["webhook_secret"], secrets.token_hex(20), time.time()
    )
    return visit.hub.manifest_codes.issue(conversion)


def _return_address(redirect_url: str, code: str, state: str) -> str:
    parts = urlsplit(redirect_url)
    added = urlencode({"code": code} | ({"state": state} if state else {}))
    return parts._replace(query=f"{parts.query}&{added}" if parts.query else added).geturl()


def _organization(visit: Visit) -> Account | None:
    found = visit.hub.state.account(visit.path.get("org", ""))
    return found if found is not None and found.kind == "Organization" else None


def _page(visit: Visit, manifest: Manifest, state: str, name: str, error: str = "") -> Response:
    people = [a.login for a in visit.hub.state.accounts.values() if a.kind == "User"]
    organization = _organization(visit)
    return visit.render(
        "new_app.html",
        422 if error else 200,
        manifest=manifest,
        state_value=state,
        app_name=name,
        error=error,
        people=people,
        organization=None if organization is None else organization.login,
        action=visit.hub.urls.html(
            f"/organizations/{organization.login}/settings/apps/manifests"
            if organization
            else "/settings/apps/manifests"
        ),
    )
