"""Making the world: Apps, people, repositories, and who is installed where."""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from standin_github import events
from standin_github.access import LEVELS, ROLES
from standin_github.errors import ApiError
from standin_github.git import Author
from standin_github.hub import Hub
from standin_github.records import Account, App, Installation, Label, PersonalToken, Repository
from standin_github.refs import refs_moved
from standin_github.views.accounts import noreply

Json = dict[str, Any]
APP_PERMISSIONS = {
    "checks": "write",
    "contents": "write",
    "issues": "write",
    "metadata": "read",
    "pull_requests": "write",
}
APP_EVENTS = ["issue_comment", "issues", "pull_request", "push"]
LABELS = {
    "bug": "d73a4a",
    "documentation": "0075ca",
    "duplicate": "cfd3d7",
    "enhancement": "a2eeef",
    "good first issue": "7057ff",
    "help wanted": "008672",
    "invalid": "e4e669",
    "question": "d876e3",
    "wontfix": "ffffff",
}
"""What a new repository has on GitHub."""
NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


def create_app(
    hub: Hub,
    *,
    name: str,
    owner: str = "patchwright-labs",
    webhook_url: str = "",
    webhook_secret: str | None = None,
    permissions: dict[str, str] | None = None,
    events: list[str] | None = None,
) -> Json:
    """The private key is answered once and not kept."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not slug or hub.state.account(f"{slug}[bot]") is not None:
        raise ApiError(422, f"an App of the name {name!r} exists or cannot")
    private_key, public_key = _key_pair()
    secret = secrets.token_hex(20) if webhook_secret is None else webhook_secret
    app = App(
        id=hub.state.new_id(),
        slug=slug,
        name=name,
        client_id=f"Iv23li{secrets.token_hex(7)}",
        owner_id=_account(hub, owner, "Organization").id,
        bot_id=hub.state.add_account(f"{slug}[bot]", "Bot").id,
        hook_id=hub.state.new_id(),
        public_keys=[public_key],
        webhook_url=webhook_url,
        webhook_secret=secret,
        permissions=_permissions(permissions or APP_PERMISSIONS),
        events=APP_EVENTS if events is None else events,
        created_at=time.time(),
    )
    hub.state.apps[app.id] = app
    _ping(hub, app)
    return _app_view(hub, app) | {"private_key": private_key, "webhook_secret": secret}


def _ping(hub: Hub, app: App) -> None:
    events.ping(hub, app)


def _key_pair() -> tuple[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private.decode(), public.decode()


def _app_view(hub: Hub, app: App) -> Json:
    return {
        "id": app.id,
        "slug": app.slug,
        "name": app.name,
        "client_id": app.client_id,
        "bot": hub.state.accounts[app.bot_id].login,
        "webhook_url": app.webhook_url,
        "permissions": app.permissions,
        "events": app.events,
    }


def _permissions(wanted: dict[str, str]) -> dict[str, str]:
    if any(level not in LEVELS for level in wanted.values()):
        raise ApiError(422, f"a permission is one of {', '.join(LEVELS)}")
    return {"metadata": "read", **wanted}


def _app(hub: Hub, app_id: int) -> App:
    app = hub.state.apps.get(app_id)
    if app is None:
        raise ApiError(404, f"no App {app_id}")
    return app


def change_app(
    hub: Hub,
    app_id: int,
    *,
    webhook_url: str | None = None,
    webhook_secret: str | None = None,
    events: list[str] | None = None,
    permissions: dict[str, str] | None = None,
) -> Json:
    """A new address is pinged. Installations take over new permissions at once."""
    app = _app(hub, app_id)
    app.webhook_secret = app.webhook_secret if webhook_secret is None else webhook_secret
    app.events = app.events if events is None else events
    if permissions is not None:
        app.permissions = _permissions(permissions)
        for installation in hub.state.installations.values():
            if installation.app_id == app.id:
                installation.permissions = app.permissions
                installation.updated_at = time.time()
                _accepted(hub, installation)
    if webhook_url is not None and webhook_url != app.webhook_url:
        app.webhook_url = webhook_url
        _ping(hub, app)
    return _app_view(hub, app)


def _accepted(hub: Hub, installation: Installation) -> None:
    owner = hub.state.accounts[installation.account_id]
    events.installation_changed(hub, installation, owner, "new_permissions_accepted")


def add_key(hub: Hub, app_id: int) -> Json:
    """A second key works beside the first, as when one is rotated."""
    app = _app(hub, app_id)
    private_key, public_key = _key_pair()
    app.public_keys.append(public_key)
    return {"id": app.id, "private_key": private_key}


def create_user(hub: Hub, login: str, token: str | None = None) -> Json:
    """A known login gets one more token, so that a demo can be run again."""
    account = _account(hub, login, "User")
    value = token or f"ghp_{secrets.token_hex(18)}"
    hub.state.personal_tokens[value] = PersonalToken(value, account.id)
    return {"id": account.id, "login": account.login, "token": value}


def _account(hub: Hub, login: str, kind: str) -> Account:
    if not NAME.fullmatch(login):
        raise ApiError(422, f"{login!r} is no login")
    return hub.state.account(login) or hub.state.add_account(login, kind)


async def create_repository(
    hub: Hub,
    *,
    full_name: str,
    files: dict[str, str] | None = None,
    collaborators: dict[str, str] | None = None,
    private: bool = False,
    default_branch: str = "main",
    description: str = "",
    message: str = "Initial commit",
) -> Json:
    """With files, there is a commit on the default branch. An unknown owner is an organization."""
    owner, _, name = full_name.partition("/")
    if not NAME.fullmatch(name) or hub.state.repository(owner, name) is not None:
        raise ApiError(422, f"{full_name!r} exists or cannot")
    account, now = _account(hub, owner, "Organization"), time.time()
    repository = Repository(
        hub.state.new_id(), account.id, name, private, default_branch, description, now, now
    )
    await hub.git.create(repository.id, default_branch)
    if files:
        who = Author(account.login, noreply(account))
        await hub.git.commit(repository.id, default_branch, message, files, who)
    hub.state.repositories[repository.id] = repository
    for label, color in LABELS.items():
        row = Label(hub.state.new_id(), repository.id, label, color, "")
        hub.state.labels[row.id] = row
    for login, role in (collaborators or {}).items():
        set_collaborator(hub, full_name, login, role)
    return {
        "id": repository.id,
        "full_name": full_name,
        "clone_url": hub.urls.html(f"/{full_name}.git"),
        "html_url": hub.urls.html(f"/{full_name}"),
    }


def _repository(hub: Hub, full_name: str) -> Repository:
    owner, _, name = full_name.partition("/")
    repository = hub.state.repository(owner, name)
    if repository is None:
        raise ApiError(404, f"no repository {full_name}")
    return repository


def set_collaborator(hub: Hub, full_name: str, login: str, role: str) -> Json:
    repository = _repository(hub, full_name)
    if role not in ROLES:
        raise ApiError(422, f"a role is one of {', '.join(ROLES)}")
    repository.collaborators[str(_account(hub, login, "User").id)] = role
    return {"login": login, "role": role}


async def commit_files(
    hub: Hub,
    full_name: str,
    *,
    files: dict[str, str | None],
    login: str,
    branch: str | None = None,
    message: str = "Change files",
) -> Json:
    """As if `login` had pushed one commit; the branch is made where it is absent."""
    repository = _repository(hub, full_name)
    account, target = _account(hub, login, "User"), branch or repository.default_branch
    async with hub.ref_locks[repository.id]:
        before = await hub.git.refs(repository.id)
        if branch is not None and f"refs/heads/{branch}" not in before:
            start = before.get(f"refs/heads/{repository.default_branch}")
            if start is not None:
                await hub.git.set_ref(repository.id, f"refs/heads/{branch}", start)
        who = Author(account.login, noreply(account))
        sha = await hub.git.commit(repository.id, target, message, files, who)
        after = await hub.git.refs(repository.id)
        await refs_moved(hub, repository, account, before, after)
    return {"sha": sha, "branch": target}


def install(
    hub: Hub,
    app_id: int,
    repositories: list[str],
    permissions: dict[str, str] | None = None,
) -> Json:
    """On chosen repositories of one owner; once more, it adds repositories."""
    app = _app(hub, app_id)
    rows = [_repository(hub, name) for name in repositories]
    owners = {row.owner_id for row in rows}
    if len(owners) != 1:
        raise ApiError(422, "an installation is on repositories of one owner")
    account = hub.state.accounts[owners.pop()]
    mine = (i for i in hub.state.installations.values() if i.app_id == app.id)
    known = next((i for i in mine if i.account_id == account.id), None)
    if known is not None:
        added = [row.id for row in rows if row.id not in known.repository_ids]
        known.repository_ids += added
        known.updated_at = time.time()
        events.repositories_changed(hub, known, account, added=added, removed=[])
        return {"id": known.id}
    granted = app.permissions if permissions is None else _permissions(permissions)
    ids = [row.id for row in rows]
    installation = Installation(hub.state.new_id(), app.id, account.id, ids, granted, time.time())
    hub.state.installations[installation.id] = installation
    events.installation_changed(hub, installation, account, "created")
    return {"id": installation.id}


def change_settings(
    hub: Hub, token_lifetime: float | None = None, rate_limit: int | None = None
) -> Json:
    """`token_lifetime` in seconds, for tokens to come. `rate_limit` an hour; quotas start anew."""
    settings = hub.settings
    settings.token_lifetime = settings.token_lifetime if token_lifetime is None else token_lifetime
    if rate_limit is not None:
        settings.rate_limit = rate_limit
        hub.limits.reset(rate_limit)
    return {"token_lifetime": settings.token_lifetime, "rate_limit": settings.rate_limit}
