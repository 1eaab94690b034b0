"""Who hears of what: payloads for every App that is installed and has subscribed."""

from __future__ import annotations

from typing import Any

from standin_github.diff import Commit
from standin_github.git import ZERO
from standin_github.hub import Hub
from standin_github.records import (
    Account,
    App,
    Comment,
    Installation,
    Issue,
    Pull,
    Push,
    Repository,
)
from standin_github.views.accounts import installation as installation_view
from standin_github.views.accounts import node_id, noreply, user
from standin_github.views.issues import comment as comment_view
from standin_github.views.issues import issue as issue_view
from standin_github.views.pulls import pull as pull_view
from standin_github.views.repository import repository as repository_view
from standin_github.webhooks import Event

Json = dict[str, Any]
ZEN = "Keep it logically awesome."


def announce(hub: Hub, repository: Repository, sender: Account, event: str, payload: Json) -> None:
    """Adds what every repository event carries."""
    state = hub.state
    common = {
        "repository": repository_view(state, hub.urls, repository),
        "sender": user(hub.urls, sender),
    }
    for app in state.apps.values():
        installation = state.installation_of(app, repository)
        if installation is None or event not in app.events:
            continue
        if installation.suspended_at is not None:
            continue  # until that ends, the App hears of nothing else
        reference = {
            "id": installation.id,
            "node_id": node_id("Installation", installation.id),
        }
        whole = common | payload | {"installation": reference}
        hub.webhooks.send(app, Event(event, whole, installation.id, repository.id))


def issue_changed(hub: Hub, issue: Issue, sender: Account, action: str, **more: Any) -> None:
    """The `issues` event; a pull request's issue side speaks as `pull_request`."""
    repository = hub.state.repositories[issue.repository_id]
    if issue.is_pull:
        pull_changed(hub, issue, hub.state.pull_of(issue), sender, action, **more)
        return
    payload = {"action": action, "issue": issue_view(hub.state, hub.urls, issue), **more}
    announce(hub, repository, sender, "issues", payload)


def comment_changed(hub: Hub, comment: Comment, sender: Account, action: str, **more: Any) -> None:
    issue = hub.state.issues[comment.issue_id]
    payload = {
        "action": action,
        "issue": issue_view(hub.state, hub.urls, issue),
        "comment": comment_view(hub.state, hub.urls, comment),
        **more,
    }
    announce(hub, hub.state.repositories[issue.repository_id], sender, "issue_comment", payload)


def pull_changed(
    hub: Hub, issue: Issue, pull: Pull, sender: Account, action: str, **more: Any
) -> None:
    payload = {
        "action": action,
        "number": issue.number,
        "pull_request": pull_view(hub.state, hub.urls, issue, pull),
        **more,
    }
    announce(hub, hub.state.repositories[issue.repository_id], sender, "pull_request", payload)


def pushed(hub: Hub, push: Push, commits: list[Commit], forced: bool) -> None:
    repository = hub.state.repositories[push.repository_id]
    sender = hub.state.accounts[push.account_id]
    full_name = hub.state.full_name(repository)
    listed = [_push_commit(hub, full_name, commit) for commit in commits]
    view = repository_view(hub.state, hub.urls, repository)
    owner = hub.state.accounts[repository.owner_id]
    # A push names its repository's owner twice and its dates as numbers, as GitHub's does.
    view["owner"] |= {"name": owner.login, "email": noreply(owner)}
    view |= {"created_at": int(repository.created_at), "pushed_at": int(repository.pushed_at)}
    payload = {
        "ref": push.ref,
        "before": push.before,
        "after": push.after,
        "base_ref": None,
        "created": push.before == ZERO,
        "deleted": push.after == ZERO,
        "forced": forced,
        "compare": hub.urls.html(f"/{full_name}/compare/{push.before[:12]}...{push.after[:12]}"),
        "commits": listed,
        "head_commit": listed[-1] if listed else None,
        "pusher": {"name": sender.login, "email": noreply(sender)},
        "repository": view,
    }
    announce(hub, repository, sender, "push", payload)


def _push_commit(hub: Hub, full_name: str, commit: Commit) -> Json:
    return {
        "id": commit.sha,
        "tree_id": commit.tree,
        "distinct": True,
        "message": commit.message,
        "timestamp": commit.authored_at,
        "url": hub.urls.html(f"/{full_name}/commit/{commit.sha}"),
        "author": {"name": commit.author_name, "email": commit.author_email},
        "committer": {"name": commit.committer_name, "email": commit.committer_email},
        "added": [],
        "removed": [],
        "modified": [],
    }


def ping(hub: Hub, app: App) -> None:
    hook = {
        "type": "App",
        "id": app.hook_id,
        "name": "web",
        "active": True,
        "events": app.events,
        "app_id": app.id,
        "config": {"content_type": "json", "insecure_ssl": "0", "url": app.webhook_url},
        "updated_at": "2024-01-01T00:00:00Z",
        "created_at": "2024-01-01T00:00:00Z",
        "deliveries_url": hub.urls.api("/app/hook/deliveries"),
    }
    hub.webhooks.send(app, Event("ping", {"zen": ZEN, "hook_id": app.hook_id, "hook": hook}))


def installation_changed(
    hub: Hub, installation: Installation, sender: Account, action: str
) -> None:
    """Every App hears of its own installation, subscribed or not.

    `action`: created, deleted, suspend, unsuspend or new_permissions_accepted.
    """
    payload: Json = {
        "action": action,
        "installation": installation_view(hub.state, hub.urls, installation),
        "repositories": [_short(hub, i) for i in installation.repository_ids],
        "sender": user(hub.urls, sender),
    }
    if action == "created":
        payload["requester"] = None
    app = hub.state.apps[installation.app_id]
    hub.webhooks.send(app, Event("installation", payload, installation.id))


def repositories_changed(
    hub: Hub, installation: Installation, sender: Account, *, added: list[int], removed: list[int]
) -> None:
    app = hub.state.apps[installation.app_id]
    payload = {
        "action": "removed" if removed else "added",
        "installation": installation_view(hub.state, hub.urls, installation),
        "repository_selection": "selected",
        "repositories_added": [_short(hub, i) for i in added],
        "repositories_removed": [_short(hub, i) for i in removed],
        "requester": None,
        "sender": user(hub.urls, sender),
    }
    hub.webhooks.send(app, Event("installation_repositories", payload, installation.id))


def _short(hub: Hub, repository_id: int) -> Json:
    repository = hub.state.repositories[repository_id]
    return {
        "id": repository.id,
        "node_id": node_id("Repository", repository.id),
        "name": repository.name,
        "full_name": hub.state.full_name(repository),
        "private": repository.private,
    }
