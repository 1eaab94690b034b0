"""Users, bots, Apps and installations."""

from __future__ import annotations

import base64
from typing import Any

from standin_github.clock import iso
from standin_github.records import Account, App, Installation
from standin_github.state import State
from standin_github.urls import Urls

Json = dict[str, Any]
USER_LINKS = {
    "followers_url": "/followers",
    "following_url": "/following{/other_user}",
    "gists_url": "/gists{/gist_id}",
    "starred_url": "/starred{/owner}{/repo}",
    "subscriptions_url": "/subscriptions",
    "organizations_url": "/orgs",
    "repos_url": "/repos",
    "events_url": "/events{/privacy}",
    "received_events_url": "/received_events",
}


def node_id(kind: str, row_id: int) -> str:
    return base64.b64encode(f"{kind}{row_id}".encode()).decode()


def user(urls: Urls, account: Account) -> Json:
    address = urls.api(f"/users/{account.login}")
    app_page = f"/apps/{account.login.removesuffix('[bot]')}"
    return {
        "login": account.login,
        "id": account.id,
        "node_id": node_id(account.kind, account.id),
        "avatar_url": urls.html(f"/avatars/{account.login}.svg"),
        "gravatar_id": "",
        "url": address,
        "html_url": urls.html(app_page if account.kind == "Bot" else f"/{account.login}"),
        **{name: address + suffix for name, suffix in USER_LINKS.items()},
        "type": account.kind,
        "user_view_type": "public",
        "site_admin": False,
    }


def noreply(account: Account) -> str:
    """The address by which commits are matched to accounts, as on github.com."""
    return f"{account.id}+{account.login}@users.noreply.github.com"


def account_by_email(state: State, email: str) -> Account | None:
    return next((a for a in state.accounts.values() if noreply(a) == email), None)


def app(state: State, urls: Urls, row: App) -> Json:
    installations = [i for i in state.installations.values() if i.app_id == row.id]
    return {
        "id": row.id,
        "slug": row.slug,
        "client_id": row.client_id,
        "node_id": node_id("App", row.id),
        "owner": user(urls, state.accounts[row.owner_id]),
        "name": row.name,
        "description": "",
        "external_url": urls.html(f"/apps/{row.slug}"),
        "html_url": urls.html(f"/apps/{row.slug}"),
        "created_at": iso(row.created_at),
        "updated_at": iso(row.created_at),
        "permissions": row.permissions,
        "events": row.events,
        "installations_count": len(installations),
    }


def installation(state: State, urls: Urls, row: Installation) -> Json:
    account, owner = state.accounts[row.account_id], state.apps[row.app_id]
    return {
        "id": row.id,
        "client_id": owner.client_id,
        "account": user(urls, account),
        "repository_selection": "selected",
        "access_tokens_url": urls.api(f"/app/installations/{row.id}/access_tokens"),
        "repositories_url": urls.api("/installation/repositories"),
        "html_url": urls.html(f"/settings/installations/{row.id}"),
        "app_id": owner.id,
        "app_slug": owner.slug,
        "target_id": account.id,
        "target_type": account.kind,
        "permissions": row.permissions,
        "events": owner.events,
        "created_at": iso(row.created_at),
        "updated_at": iso(row.updated_at or row.created_at),
        "single_file_name": None,
        "has_multiple_single_files": False,
        "single_file_paths": [],
        "suspended_by": (
            None if row.suspended_by is None else user(urls, state.accounts[row.suspended_by])
        ),
        "suspended_at": None if row.suspended_at is None else iso(row.suspended_at),
    }
