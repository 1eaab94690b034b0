"""The steps after the App: install it, bring the model's key, try everything, done."""

from __future__ import annotations

import asyncio
import logging
from typing import get_args

from starlette.responses import Response

from patchwright_common.errors import Permanent
from patchwright_github.address import origin
from patchwright_setup import forms, hosts
from patchwright_setup.page import Visit, afterwards, see
from patchwright_setup.vault import Held, Part

log = logging.getLogger(__name__)

REQUESTED = (
    "GitHub has asked an owner of the organisation to approve the installation. "
    "Check again when they have."
)


async def home(visit: Visit) -> Response:
    """On to the first step that is missing."""
    if visit.session.code is not None:
        return see("/app/again")
    held = await visit.held()
    if held.has_app and "token" not in visit.session.findings:
        await _check(visit, "token")
    return see(visit.progress(held).next_step().path)


async def show_install(visit: Visit) -> Response:
    """Where the App is installed, and the way to GitHub's page for it."""
    held = await visit.held()
    if not held.has_app:
        return see("/app")
    await _check(visit, "token")
    return await visit.render(
        "install.html",
        held=held,
        install_url=f"{_app_page(held)}/installations/new",
        finding=visit.session.findings["token"],
    )


async def installed(visit: Visit) -> Response:
    """GitHub leads back here. What it says is not believed: the next page asks it."""
    if visit.request.query_params.get("setup_action") == "request":
        visit.session.notice = REQUESTED
    return see("/install")


async def show_model(visit: Visit) -> Response:
    """The form for the model's key; never the key."""
    return await visit.render("model.html", problems={})


async def keep_model(visit: Visit) -> Response:
    """Seal the key to the vault."""
    try:
        key = forms.model_key(visit.form)
        await visit.site.vault.put_model_key(key.get_secret_value())
    except forms.FormError as error:
        return await visit.render("model.html", 422, problems=error.problems)
    except Permanent as error:
        return await visit.render("model.html", 422, problems={"key": error.reason})
    log.info("the model's key is stored")
    visit.session.findings.pop("model", None)
    visit.session.notice = "The model's key is stored."
    return see("/")


async def show_check(visit: Visit) -> Response:
    """Each part is tried for real, every time that this page is opened."""
    held = await visit.held()
    if not held.has_app:
        return see("/app")
    await asyncio.gather(*(_check(visit, part) for part in get_args(Part)))
    return await visit.render("check.html", held=held, findings=visit.session.findings)


async def finish(visit: Visit) -> Response:
    """The last button, on the page with the checks."""
    visit.session.finished = all(part in visit.session.findings for part in get_args(Part))
    return see("/done")


async def show_done(visit: Visit) -> Response:
    """What is set up and what to do now. The process ends once this was delivered."""
    if not visit.session.finished:
        return see("/check")
    held = await visit.held()
    findings = {part: visit.session.findings[part] for part in get_args(Part)}
    response = await visit.render(
        "done.html", held=held, findings=findings, app_page=_app_page(held)
    )
    return afterwards(response, visit.site.finish)


async def _check(visit: Visit, part: Part) -> None:
    visit.session.findings[part] = await visit.site.vault.check(part)


def _app_page(held: Held) -> str:
    """The App's public page; derived where GitHub did not tell it."""
    if held.app is None:
        return ""
    return held.app.html_url or hosts.app_url(origin(held.app.api_url), held.app.slug)
