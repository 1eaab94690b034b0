"""What becomes of an installation: its owner suspends it, shrinks it, removes it."""

from __future__ import annotations

import time
from typing import Any

from standin_github import events
from standin_github.errors import ApiError
from standin_github.hub import Hub
from standin_github.records import Installation

Json = dict[str, Any]


def uninstall(hub: Hub, installation_id: int) -> Json:
    """Its tokens end with it; another installation gets another id."""
    installation = _installation(hub, installation_id)
    installation.updated_at = time.time()
    tokens = hub.state.installation_tokens
    for token in [t for t in tokens.values() if t.installation_id == installation_id]:
        del tokens[token.id]
    _installation_changed(hub, installation, "deleted")
    del hub.state.installations[installation_id]
    return {"id": installation_id}


def suspend(hub: Hub, installation_id: int) -> Json:
    """By its owner: neither its tokens nor new ones are any good until that ends."""
    installation = _installation(hub, installation_id)
    installation.suspended_at = installation.updated_at = time.time()
    installation.suspended_by = installation.account_id
    _installation_changed(hub, installation, "suspend")
    return {"id": installation_id}


def unsuspend(hub: Hub, installation_id: int) -> Json:
    """Tokens from before that have not expired are good again."""
    installation = _installation(hub, installation_id)
    installation.suspended_at = installation.suspended_by = None
    installation.updated_at = time.time()
    _installation_changed(hub, installation, "unsuspend")
    return {"id": installation_id}


def remove_repositories(hub: Hub, installation_id: int, repositories: list[str]) -> Json:
    """As in the owner's settings of the installation."""
    installation = _installation(hub, installation_id)
    covered = {
        i: hub.state.full_name(hub.state.repositories[i]) for i in installation.repository_ids
    }
    removed = [i for i, name in covered.items() if name in repositories]
    installation.repository_ids = [i for i in installation.repository_ids if i not in removed]
    installation.updated_at = time.time()
    sender = hub.state.accounts[installation.account_id]
    events.repositories_changed(hub, installation, sender, added=[], removed=removed)
    return {"id": installation_id}


def _installation(hub: Hub, installation_id: int) -> Installation:
    installation = hub.state.installations.get(installation_id)
    if installation is None:
        raise ApiError(404, f"no installation {installation_id}")
    return installation


def _installation_changed(hub: Hub, installation: Installation, action: str) -> None:
    sender = hub.state.accounts[installation.account_id]
    events.installation_changed(hub, installation, sender, action)
