"""What a caller may do with a repository."""

from __future__ import annotations

from dataclasses import dataclass

from standin_github.auth import AppCaller, Caller, InstallationCaller, UserCaller
from standin_github.errors import ApiError, not_accessible, not_found
from standin_github.records import Issue, Repository
from standin_github.state import State

LEVELS = ("read", "write", "admin")
ROLES = ("none", "read", "triage", "write", "maintain", "admin")


@dataclass(frozen=True, slots=True)
class Need:
    """An App needs `level` on any of `permissions`; a person needs at least `role`.

    Without a role only Apps may.
    """

    permissions: tuple[str, ...]
    level: str
    role: str | None


METADATA = Need(("metadata",), "read", "read")
READ_CONTENTS = Need(("contents",), "read", "read")
WRITE_CONTENTS = Need(("contents",), "write", "write")
READ_PULLS = Need(("pull_requests",), "read", "read")
WRITE_PULLS = Need(("pull_requests",), "write", "write")
READ_CHECKS = Need(("checks",), "read", "read")
WRITE_CHECKS = Need(("checks",), "write", None)
READ_ISSUES = Need(("issues",), "read", "read")
OPEN_ISSUE = Need(("issues",), "write", "read")


def on_issue(issue: Issue, level: str, role: str) -> Need:
    """A pull request's issue side is open to either permission."""
    permissions = ("issues", "pull_requests") if issue.is_pull else ("issues",)
    return Need(permissions, level, role)


def grants(permissions: dict[str, str], need: Need) -> bool:
    held = [permissions.get(name) for name in need.permissions]
    return any(h is not None and LEVELS.index(h) >= LEVELS.index(need.level) for h in held)


def at_least(role: str, wanted: str) -> bool:
    return ROLES.index(role) >= ROLES.index(wanted)


def require(state: State, caller: Caller, repository: Repository, need: Need) -> None:
    """Raises ApiError: 404 when the repository is hidden from the caller, 403 when forbidden."""
    if isinstance(caller, AppCaller):
        raise not_accessible()
    if isinstance(caller, InstallationCaller):
        _require_installation(caller, repository, need)
    elif isinstance(caller, UserCaller):
        _require_role(state.role(caller.account, repository), need)
    elif repository.private:
        raise not_found()
    elif need.level != "read":
        raise ApiError(401, "Requires authentication")


def _require_installation(caller: InstallationCaller, repository: Repository, need: Need) -> None:
    if repository.id not in caller.repository_ids():
        if repository.private:
            raise not_found()
        if need.level == "read":
            return
        raise not_accessible()
    if not grants(caller.token.permissions, need):
        raise not_accessible()


def _require_role(role: str, need: Need) -> None:
    if role == "none":
        raise not_found()
    if need.role is None:
        raise ApiError(403, "You must authenticate via a GitHub App.")
    if not at_least(role, need.role):
        raise ApiError(403, "Must have admin rights to Repository.")
