"""The first step: a GitHub App, made by manifest or brought along."""

from __future__ import annotations

import logging
import re

from starlette.responses import Response

from patchwright_common.errors import Permanent, Retry
from patchwright_setup import forms, hosts
from patchwright_setup.door import Code
from patchwright_setup.guard import policy_with_form_target
from patchwright_setup.manifest import EVENTS, PERMISSIONS, manifest
from patchwright_setup.page import Visit, see

log = logging.getLogger(__name__)

ENTERED = ("owner", "organization", "name", "github", "webhook_url")
"""The fields of the first form; a form that was not made by its page may lack any of them."""
_CODE = re.compile(r"[A-Za-z0-9_-]{1,200}")


async def show(visit: Visit) -> Response:
    """The form, with what is known filled in."""
    wanted = visit.session.wanted
    entered = {
        "owner": "organization" if wanted and wanted.organization else "personal",
        "organization": wanted.organization if wanted else "",
        "name": wanted.name if wanted else visit.session.suggested_name,
        "github": wanted.github if wanted else visit.site.github_url,
        "webhook_url": wanted.webhook_url if wanted else visit.site.webhook_url,
    }
    return await visit.render("app.html", entered=entered, problems={})


async def ask(visit: Visit) -> Response:
    """The form was sent: back to it with what is wrong, or on to the review."""
    try:
        wanted = forms.wanted_app(visit.form)
    except forms.FormError as error:
        entered = {name: visit.form.get(name, "") for name in ENTERED}
        return await visit.render("app.html", 422, entered=entered, problems=error.problems)
    visit.session.begin_registration(wanted)
    return see("/app/review")


async def review(visit: Visit) -> Response:
    """What GitHub will be asked for, and the form that carries it there."""
    session = visit.session
    if session.wanted is None:
        return see("/app")
    if not session.state:
        session.begin_registration(session.wanted)
    wanted = session.wanted
    response = await visit.render(
        "review.html",
        wanted=wanted,
        action=hosts.new_app_url(wanted.github, wanted.organization, session.state),
        manifest=manifest(wanted, visit.site.public_url),
        permissions=PERMISSIONS,
        events=EVENTS,
    )
    response.headers["Content-Security-Policy"] = policy_with_form_target(wanted.github)
    return response


async def callback(visit: Visit) -> Response:
    """GitHub made the App and brings a code. Without the state that we gave it, it is not ours."""
    query, session = visit.request.query_params, visit.session
    if not session.take_state(query.get("state", "")):
        return visit.site.message(
            "This answer does not belong to a question of ours",
            "GitHub's answer was used already, or somebody else sent your browser here. "
            "Nothing was taken over.",
            "If you have just created an App: it is on GitHub, but its key was not fetched. "
            "Delete it there (Settings, Developer settings, GitHub Apps) and create it again.",
            status=403,
            link=("/", "Go on with the set-up"),
        )
    code = query.get("code", "")
    if session.wanted is None or not _CODE.fullmatch(code):
        session.notice = "GitHub brought no usable code, so nothing was stored. Create it again."
        return see("/app")
    session.code = Code(code, session.wanted.api_url)
    return await convert(visit)


async def convert(visit: Visit) -> Response:
    """Let the vault fetch and keep the App's key; the same again after a failure."""
    code = visit.session.code
    if code is None:
        return see("/")
    try:
        app = await visit.site.vault.convert(code.value, code.api_url)
    except Retry as error:
        log.warning("the App is not stored yet")
        return await _again(visit, error.reason, refused=False)
    except Permanent as error:
        log.error("the App's code was refused")
        visit.session.code = None
        return await _again(visit, f"{error.reason} {error.advice}".strip(), refused=True)
    log.info("the App is stored")
    visit.session.code = None
    visit.session.findings.clear()
    visit.session.notice = f"The App {app.slug or app.app_id} was created, and its key is stored."
    return see("/install")


async def again(visit: Visit) -> Response:
    """For whoever reloads, or comes back while a code waits."""
    if visit.session.code is None:
        return see("/")
    return await _again(visit, "", refused=False)


async def _again(visit: Visit, reason: str, *, refused: bool) -> Response:
    """Not through the vault's list: the vault may be what does not answer."""
    return visit.site.render(
        "again.html",
        (502 if refused else 503) if reason else 200,
        reason=reason,
        refused=refused,
        csrf=visit.session.csrf,
    )


async def show_existing(visit: Visit) -> Response:
    """The form for an App that is there already."""
    entered = {"github": visit.site.github_url, "app_id": "", "slug": ""}
    return await visit.render("existing.html", entered=entered, problems={})


async def bring(visit: Visit) -> Response:
    """Seal its credentials to the vault. What is secret is never shown again."""
    try:
        app = forms.existing_app(visit.form)
        await visit.site.vault.put_app(app)
    except forms.FormError as error:
        return await _existing_again(visit, error.problems)
    except Permanent as error:
        return await _existing_again(visit, {"app_id": error.reason})
    log.info("an existing App is stored")
    visit.session.findings.clear()
    visit.session.notice = f"The App {app.slug} is stored."
    return see("/install")


async def _existing_again(visit: Visit, problems: dict[str, str]) -> Response:
    shown = {name: visit.form.get(name, "") for name in ("github", "app_id", "slug")}
    return await visit.render("existing.html", 422, entered=shown, problems=problems)
