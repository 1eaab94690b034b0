"""App manifests: what GitHub takes, and the codes that it gives for them.

https://docs.github.com/apps/sharing-github-apps/registering-a-github-app-from-a-manifest
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from standin_github.access import LEVELS

Json = dict[str, Any]
CODE_LIFETIME = 3600.0
"""Seconds: all three steps of the flow have to happen within an hour."""
NAME_MAX = 34
"""Characters."""
PERMISSIONS = frozenset(
    [
        "actions",
        "administration",
        "checks",
        "codespaces",
        "contents",
        "dependabot_secrets",
        "deployments",
        "discussions",
        "environments",
        "issues",
        "members",
        "merge_queues",
        "metadata",
        "organization_administration",
        "organization_hooks",
        "organization_projects",
        "packages",
        "pages",
        "pull_requests",
        "repository_hooks",
        "repository_projects",
        "secrets",
        "security_events",
        "single_file",
        "statuses",
        "variables",
        "vulnerability_alerts",
        "workflows",
    ]
)
EVENTS = {
    "check_run": {"checks"},
    "check_suite": {"checks"},
    "create": {"contents"},
    "delete": {"contents"},
    "issue_comment": {"issues", "pull_requests"},
    "issues": {"issues"},
    "label": {"metadata"},
    "pull_request": {"pull_requests"},
    "pull_request_review": {"pull_requests"},
    "pull_request_review_comment": {"pull_requests"},
    "push": {"contents"},
    "release": {"contents"},
    "repository": {"metadata"},
    "workflow_run": {"actions"},
}
"""Each can be had with one of these permissions. Not all that GitHub has."""
OWN_EVENTS = frozenset({"installation", "installation_repositories", "github_app_authorization"})
"""Every App gets them, so none may ask."""
URLS = ("url", "redirect_url", "setup_url")


class ManifestError(Exception):
    """`problems` in GitHub's manner, for the page."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Manifest:
    """A valid one. `raw` is what came, so that the page can carry it on."""

    name: str
    webhook_url: str
    redirect_url: str
    setup_url: str
    public: bool
    permissions: dict[str, str]
    events: list[str]
    raw: str


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a code stands for, once. The secrets are nowhere else."""

    app_id: int
    private_key: str = field(repr=False)
    webhook_secret: str = field(repr=False)
    client_secret: str = field(repr=False)
    made_at: float = 0.0
    """Seconds since the epoch."""


class Codes:
    """Single use, valid for an hour, forgotten at a restart."""

    def __init__(self) -> None:
        self._waiting: dict[str, Conversion] = {}

    def issue(self, conversion: Conversion) -> str:
        code = secrets.token_hex(20)
        self._waiting[code] = conversion
        return code

    def take(self, code: str, now: float | None = None) -> Conversion | None:
        """None for one that is unknown, used or too old."""
        found = self._waiting.pop(code, None)
        if found is None or found.made_at + CODE_LIFETIME < (now or time.time()):
            return None
        return found


def parse(raw: str) -> Manifest:
    """Raises ManifestError with everything that is wrong."""
    try:
        body = json.loads(raw)
    except ValueError:
        raise ManifestError(["The manifest is not valid JSON."]) from None
    if not isinstance(body, dict):
        raise ManifestError(["The manifest is not a JSON object."])
    problems = [*_url_problems(body), *_hook_problems(body), *_scope_problems(body)]
    if problems:
        raise ManifestError(problems)
    hook = body.get("hook_attributes") or {}
    return Manifest(
        name=str(body.get("name") or ""),
        webhook_url=hook.get("url", "") if hook.get("active", True) else "",
        redirect_url=body["redirect_url"],
        setup_url=body.get("setup_url") or "",
        public=bool(body.get("public", False)),
        permissions=body.get("default_permissions") or {},
        events=body.get("default_events") or [],
        raw=raw,
    )


def _url_problems(body: Json) -> list[str]:
    missing = [
        f'"{name}" wasn\'t supplied.' for name in ("url", "redirect_url") if not body.get(name)
    ]
    wrong = [
        f"{name} must be a valid URL" for name in URLS if body.get(name) and not _web(body[name])
    ]
    return missing + wrong


def _hook_problems(body: Json) -> list[str]:
    hook = body.get("hook_attributes")
    if hook is None:
        return []
    if not isinstance(hook, dict) or not hook.get("url"):
        return ['"hook_attributes.url" wasn\'t supplied.']
    return [] if _web(hook["url"]) else ["Hook url must be a valid URL"]


def _scope_problems(body: Json) -> list[str]:
    permissions = body.get("default_permissions") or {}
    events = body.get("default_events") or []
    if not isinstance(permissions, dict) or not isinstance(events, list):
        return ["default_permissions is an object and default_events a list."]
    problems = [f"Default permission records resource not included: {name}"
                for name in permissions if name not in PERMISSIONS]  # fmt: skip
    problems += [f"{name}: {level!r} is no access level"
                 for name, level in permissions.items() if level not in LEVELS]  # fmt: skip
    held = {"metadata", *permissions}
    unsupported = [e for e in events if e in OWN_EVENTS or not EVENTS.get(e, set()) & held]
    if unsupported:
        problems.append(f"Default events unsupported: {', '.join(map(str, unsupported))}")
    return problems


def _web(value: Any) -> bool:
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
    except ValueError:
        return False
    return parts is not None and parts.scheme in {"http", "https"} and bool(parts.hostname)
