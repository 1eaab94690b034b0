"""The App that GitHub is asked to make: the least that Patchwright can work with.

https://docs.github.com/apps/sharing-github-apps/registering-a-github-app-from-a-manifest
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import urlsplit

from patchwright_setup.forms import WantedApp


@dataclass(frozen=True)
class Scope:
    """A permission or an event, and why it is asked for."""

    name: str
    shown: str
    """As GitHub's pages call it."""
    level: str
    why: str


PERMISSIONS = (
    Scope("contents", "Contents", "write", "To read the code and push a branch for each change."),
    Scope("pull_requests", "Pull requests", "write", "To open the pull request."),
    Scope("issues", "Issues", "write", "To read the request and to answer below it."),
    Scope("checks", "Checks", "write", "To show on the pull request how it was verified."),
    Scope("actions", "Actions", "read", "To read why the repository's own CI failed."),
    Scope("metadata", "Metadata", "read", "To know the repository's name; every App has this."),
)
EVENTS = (
    Scope("issues", "Issues", "", "Somebody sets the label, or mentions the App in a new issue."),
    Scope("issue_comment", "Issue comment", "", "Somebody mentions the App in a comment."),
)
"""GitHub sends what concerns the installation by itself."""


def manifest(wanted: WantedApp, public_url: str) -> str:
    """The JSON that the browser carries to GitHub. Nothing in it is secret."""
    hook = urlsplit(wanted.webhook_url)
    return json.dumps(
        {
            "name": wanted.name,
            "url": f"{hook.scheme}://{hook.netloc}",
            "description": "Turns issues into pull requests with a sandboxed coding agent.",
            "hook_attributes": {"url": wanted.webhook_url, "active": True},
            "redirect_url": f"{public_url}/callback",
            "setup_url": f"{public_url}/installed",
            # These pages end with the set-up: who adds a repository later stays at GitHub.
            "setup_on_update": False,
            "public": False,
            "default_permissions": {scope.name: scope.level for scope in PERMISSIONS},
            "default_events": [scope.name for scope in EVENTS],
        }
    )
