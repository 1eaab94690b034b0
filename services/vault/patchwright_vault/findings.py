"""What the answers of GitHub and of the model mean to an operator, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict

from patchwright_vault.accepting import page_address
from patchwright_vault.grants import TOKEN_PERMISSIONS

SHOWN = 5
"""Names in one sentence; the rest are counted."""
LEVELS = ("none", "read", "write", "admin")
NO_APP = "The vault holds no GitHub App."
CREATE_APP = "Create it in the set-up pages (`just setup`), or enter its id and private key there."


class Finding(BaseModel):
    """How one part does. `advice` says what to do next, and is empty where nothing is."""

    model_config = ConfigDict(frozen=True)

    ok: bool
    detail: str
    advice: str = ""


class HookConfig(BaseModel):
    """Where GitHub sends what happens, and how.

    https://docs.github.com/rest/apps/webhooks#get-a-webhook-configuration-for-an-app
    """

    url: str = ""
    content_type: str = "json"


class Delivery(BaseModel):
    """An entry of the App's delivery log; `status_code` 0: there was no answer."""

    event: str
    status: str = ""
    status_code: int = 0
    delivered_at: str = ""


class _Account(BaseModel):
    login: str = ""


class Installation(BaseModel):
    """Where the App is installed, and what it may do there."""

    id: int
    account: _Account | None = None
    permissions: dict[str, str] = {}
    suspended_at: str | None = None
    html_url: str = ""

    @property
    def owner(self) -> str:
        """Whose repositories they are."""
        return (self.account.login if self.account else "") or f"installation {self.id}"


def webhook_finding(config: HookConfig, newest: Delivery | None, app_url: str) -> Finding:
    """By the newest entry of the delivery log: it shows what GitHub sees of us."""
    settings = _at(app_url, "on the App's settings page at GitHub")
    if not config.url:
        return Finding(
            ok=False,
            detail="The App has no webhook address, or its webhook is switched off.",
            advice=f"Switch it on and set its address {settings}.",
        )
    if config.content_type != "json":
        return Finding(
            ok=False,
            detail=f"The App sends its webhooks as {config.content_type}, which is not read here.",
            advice=f"Set the content type to application/json {settings}.",
        )
    if newest is None:
        return Finding(
            ok=False,
            detail=f"GitHub has sent nothing to {config.url} yet.",
            advice="GitHub sends a ping when the App is created or its webhook is changed: wait a "
            "few seconds and check again. If nothing comes, switch the webhook off and on again "
            f"{settings}.",
        )
    what = f"The newest delivery ({newest.event}, {newest.delivered_at}) to {config.url}"
    if 200 <= newest.status_code < 300:
        return Finding(ok=True, detail=f"{what} was taken with {newest.status_code}.")
    if not newest.status_code:
        return Finding(
            ok=False,
            detail=f"{what} got no answer: {newest.status or 'nothing is known'}.",
            advice="GitHub cannot reach this address. Check that it is public, that its name and "
            "certificate are right, that the proxy or relay runs, and that ingest runs behind "
            "it; then let GitHub send the delivery again from the App's Advanced page.",
        )
    return Finding(
        ok=False,
        detail=f"{what} was answered with {newest.status_code}.",
        advice=_webhook_advice(newest.status_code),
    )


def _webhook_advice(status: int) -> str:
    if status in (401, 403):
        return (
            "The webhook secret at GitHub is not the one in the vault (or a proxy wants a "
            "password): set the same on both sides, or let `just secrets rotate webhook-secret` "
            "do it. GitHub can send the delivery again from the App's Advanced page."
        )
    if status == 404 or 300 <= status < 400:
        return "The address must lead to ingest, with the path /webhooks/github and no redirect."
    if status == 413:
        return "A proxy in front of ingest takes too small bodies: GitHub sends up to 25 MB."
    if status >= 500:
        return (
            "What stands at this address does not reach ingest, or ingest cannot store: look at "
            "the proxy or relay, and at `just logs ingest`."
        )
    return "Something else than ingest answers at this address: check it."


def installations_finding(installations: Sequence[Installation], app_url: str) -> Finding | None:
    """What is wrong with them, or None."""
    install = _at(f"{app_url}/installations/new" if app_url else "", "from the App's public page")
    if not installations:
        return Finding(
            ok=False,
            detail="GitHub accepts the App's key, but the App is not installed anywhere.",
            advice=f"Install it on the repositories that it shall work on, {install}.",
        )
    active = [found for found in installations if not found.suspended_at]
    if not active:
        return Finding(
            ok=False,
            detail=f"The App is suspended for {listed(i.owner for i in installations)}.",
            advice="The owner can end that in their settings under Installed GitHub Apps.",
        )
    for found in active:
        lacking = _lacking(found.permissions)
        if lacking:
            return Finding(
                ok=False,
                detail=f"For {found.owner} the App lacks permissions: {listed(lacking, limit=10)}.",
                advice="Give them to the App on its settings page (Permissions & events), and then "
                f"accept the request {_at(found.html_url, 'as the owner of the installation')}.",
            )
    return None


def _lacking(held: dict[str, str]) -> list[str]:
    """What the services' tokens need and the installation does not have."""
    needed: dict[str, str] = {}
    for permissions in TOKEN_PERMISSIONS.values():
        for name, level in permissions.items():
            needed[name] = max(needed.get(name, "none"), level, key=LEVELS.index)
    return [
        f"{name}: {level}"
        for name, level in sorted(needed.items())
        if not _covers(held.get(name, "none"), level)
    ]


def _covers(held: str, needed: str) -> bool:
    return held in LEVELS and LEVELS.index(held) >= LEVELS.index(needed)


def token_finding(covered: dict[str, Sequence[str]], more: int) -> Finding:
    """Tokens could be minted: repositories by account; `more` accounts were not tried."""
    empty = [owner for owner, names in covered.items() if not names]
    where = "; ".join(f"{owner}: {listed(names)}" for owner, names in covered.items() if names)
    others = f"; and {more} more accounts" if more else ""
    if len(empty) == len(covered):
        return Finding(
            ok=False,
            detail=f"The App is installed for {listed(empty)}, but covers no repository there.",
            advice="Select repositories in the owner's settings under Installed GitHub Apps.",
        )
    return Finding(ok=True, detail=f"A token can be had for {where}{others}.")


def model_finding(status: int, host: str, *, listing: bool) -> Finding:
    """By the status of the model's list of models; `listing`: the body was such a list."""
    if status == 200 and listing:
        return Finding(ok=True, detail=f"{host} takes the model's key.")
    detail = f"{host} answered {status}."
    if status == 200:
        detail = f"{host} answers, but not as the model's API does."
    return Finding(ok=False, detail=detail, advice=_model_advice(status))


def _model_advice(status: int) -> str:
    if status == 401:
        return "The key is not accepted: paste it again, or make a new one in the console."
    if status == 402:
        return "The key works, but there is a problem with the account's billing."
    if status == 403:
        return "The key may not use this: check its workspace and its permissions."
    if status == 429:
        return "The key is over its limit at the moment: check again later."
    if status >= 500:
        return "The model's API is not itself at the moment: check again later."
    return (
        "Check ANTHROPIC_BASE_URL: it is the address without /v1. A gateway without a list of "
        "models may still work; the first job will tell."
    )


def listed(names: Iterable[str], *, limit: int = SHOWN) -> str:
    """A few names and how many more there are."""
    found = list(names)
    more = f" and {len(found) - limit} more" if len(found) > limit else ""
    return ", ".join(found[:limit]) + more


def _at(url: str, otherwise: str) -> str:
    return f"at {url}" if page_address(url) else otherwise
