"""A client for tests and demos: makes the world, acts in it as people, and looks at it.

    async with StandinGitHub("http://127.0.0.1:3000") as github:
        app = await github.create_app("Patchwright", webhook_url="http://127.0.0.1:8000/…")
        ada = await github.create_user("ada")
        await github.create_repository("ada/calculator", {"README.md": "# Calculator"})
        await github.install(app.id, ["ada/calculator"])
        issue = await github.open_issue("ada/calculator", "Division is wrong", token=ada.token)

Raises httpx.HTTPStatusError for every answer that is not a success.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx

Json = dict[str, Any]
TIMEOUT = 30.0
"""Seconds for one answer."""


@dataclass(frozen=True, slots=True)
class CreatedApp:
    id: int
    slug: str
    bot: str
    client_id: str
    private_key: str
    webhook_secret: str


@dataclass(frozen=True, slots=True)
class CreatedUser:
    id: int
    login: str
    token: str


@dataclass(frozen=True, slots=True)
class CreatedRepository:
    id: int
    full_name: str
    clone_url: str
    html_url: str


class StandinGitHub:
    """Use as a context, or call `aclose`."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url.rstrip("/")
        self.api_url = f"{self.base_url}/api/v3"
        # A connection for each request: one that is kept may be closed by the server as it is used.
        fresh = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.AsyncClient(timeout=TIMEOUT, trust_env=False, limits=fresh)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    # The world

    async def create_app(
        self,
        name: str,
        *,
        owner: str = "patchwright-labs",
        webhook_url: str = "",
        webhook_secret: str | None = None,
        permissions: Mapping[str, str] | None = None,
        events: Sequence[str] | None = None,
    ) -> CreatedApp:
        body = {"name": name, "owner": owner, "webhook_url": webhook_url}
        made = await self.admin(
            "POST",
            "/apps",
            body | _given(webhook_secret=webhook_secret, permissions=permissions, events=events),
        )
        return CreatedApp(**{field: made[field] for field in CreatedApp.__slots__})

    async def change_app(
        self,
        app_id: int,
        *,
        webhook_url: str | None = None,
        webhook_secret: str | None = None,
        events: Sequence[str] | None = None,
        permissions: Mapping[str, str] | None = None,
    ) -> Json:
        body = _given(
            webhook_url=webhook_url,
            webhook_secret=webhook_secret,
            events=events,
            permissions=permissions,
        )
        changed: Json = await self.admin("PATCH", f"/apps/{app_id}", body)
        return changed

    async def add_key(self, app_id: int) -> str:
        """A further private key of the App, in PEM."""
        made = await self.admin("POST", f"/apps/{app_id}/keys")
        return str(made["private_key"])

    async def create_user(self, login: str, *, token: str | None = None) -> CreatedUser:
        made = await self.admin("POST", "/users", {"login": login} | _given(token=token))
        return CreatedUser(**made)

    async def create_repository(
        self,
        full_name: str,
        files: Mapping[str, str] | None = None,
        *,
        collaborators: Mapping[str, str] | None = None,
        private: bool = False,
        default_branch: str = "main",
        description: str = "",
    ) -> CreatedRepository:
        """`collaborators` maps logins to roles: read, triage, write, maintain, admin."""
        body = {
            "full_name": full_name,
            "files": dict(files or {}),
            "collaborators": dict(collaborators or {}),
            "private": private,
            "default_branch": default_branch,
            "description": description,
        }
        return CreatedRepository(**await self.admin("POST", "/repositories", body))

    async def set_collaborator(self, full_name: str, login: str, role: str) -> None:
        body = {"login": login, "role": role}
        await self.admin("PUT", f"/repositories/{full_name}/collaborators", body)

    async def commit(
        self,
        full_name: str,
        files: Mapping[str, str | None],
        *,
        login: str,
        branch: str | None = None,
        message: str = "Change files",
    ) -> str:
        """As if that person had pushed one commit, which is answered; None deletes a file."""
        body = {"files": dict(files), "login": login, "message": message} | _given(branch=branch)
        made = await self.admin("POST", f"/repositories/{full_name}/commits", body)
        return str(made["sha"])

    async def install(
        self,
        app_id: int,
        repositories: Sequence[str],
        *,
        permissions: Mapping[str, str] | None = None,
    ) -> int:
        """The installation's id. Repositories must have one owner."""
        body = {"repositories": list(repositories)} | _given(permissions=permissions)
        made = await self.admin("POST", f"/apps/{app_id}/installations", body)
        return int(made["id"])

    async def uninstall(self, installation_id: int) -> None:
        await self.admin("DELETE", f"/installations/{installation_id}")

    async def suspend(self, installation_id: int) -> None:
        await self.admin("PUT", f"/installations/{installation_id}/suspended")

    async def unsuspend(self, installation_id: int) -> None:
        await self.admin("DELETE", f"/installations/{installation_id}/suspended")

    async def remove_repositories(self, installation_id: int, repositories: Sequence[str]) -> None:
        """The installation covers these no more."""
        body = {"repositories": list(repositories)}
        await self.admin("DELETE", f"/installations/{installation_id}/repositories", body)

    async def change_settings(
        self, *, token_lifetime: float | None = None, rate_limit: int | None = None
    ) -> None:
        """Seconds, and requests an hour."""
        body = _given(token_lifetime=token_lifetime, rate_limit=rate_limit)
        await self.admin("PATCH", "/settings", body)

    # Faults

    async def fault(
        self,
        method: str = ".*",
        path: str = ".*",
        *,
        times: int = 1,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        delay: float = 0.0,
        drop: bool = False,
        after: bool = False,
        truncate: bool = False,
        echo: bool = False,
    ) -> int:
        """Disturb the next requests that match; see `faults.Fault` for what the fields do."""
        wanted = {
            "method": method,
            "path": path,
            "times": times,
            "delay": delay,
            "drop": drop,
            "after": after,
            "truncate": truncate,
            "echo": echo,
        } | _given(status=status, headers=headers, body=body)
        return int((await self.admin("POST", "/faults", wanted))["id"])

    async def clear_faults(self) -> None:
        await self.admin("DELETE", "/faults")

    # Looking

    async def state(self) -> Json:
        state: Json = await self.admin("GET", "/state")
        return state

    async def credentials(self) -> list[str]:
        """Every token that was minted and every App's assertion that was shown, since the start."""
        found: list[str] = await self.admin("GET", "/credentials")
        return found

    async def issues(self, full_name: str) -> list[Json]:
        return await self._of("issues", full_name)

    async def pulls(self, full_name: str) -> list[Json]:
        return await self._of("pulls", full_name)

    async def comments(self, full_name: str, number: int) -> list[Json]:
        """Oldest first."""
        return [c for c in await self._of("comments", full_name) if c["number"] == number]

    async def requests(self, method: str = "", containing: str = "") -> list[Json]:
        """The request log, oldest first."""
        rows: list[Json] = (await self.state())["requests"]
        return [r for r in rows if method in {"", r["method"]} and containing in r["path"]]

    async def settled(self, timeout: float = TIMEOUT) -> list[Json]:
        """All deliveries, once none is under way any more. Raises TimeoutError."""
        deadline = time.monotonic() + timeout
        while (state := await self.state())["deliveries_pending"]:
            if time.monotonic() > deadline:
                raise TimeoutError("webhook deliveries are still under way")
            await asyncio.sleep(0.02)
        deliveries: list[Json] = state["deliveries"]
        return deliveries

    async def _of(self, table: str, full_name: str) -> list[Json]:
        rows: list[Json] = (await self.state())[table]
        return [row for row in rows if row["repository"] == full_name]

    # Acting as somebody

    async def open_issue(
        self,
        full_name: str,
        title: str,
        body: str | None = None,
        *,
        token: str,
        labels: Sequence[str] = (),
    ) -> Json:
        wanted = {"title": title, "body": body, "labels": list(labels)}
        opened: Json = await self.api("POST", f"/repos/{full_name}/issues", wanted, token=token)
        return opened

    async def comment(self, full_name: str, number: int, body: str, *, token: str) -> Json:
        path = f"/repos/{full_name}/issues/{number}/comments"
        written: Json = await self.api("POST", path, {"body": body}, token=token)
        return written

    async def label(self, full_name: str, number: int, *names: str, token: str) -> list[Json]:
        path = f"/repos/{full_name}/issues/{number}/labels"
        added: list[Json] = await self.api("POST", path, {"labels": names}, token=token)
        return added

    async def unlabel(self, full_name: str, number: int, name: str, *, token: str) -> None:
        await self.api("DELETE", f"/repos/{full_name}/issues/{number}/labels/{name}", token=token)

    async def close(self, full_name: str, number: int, *, token: str) -> Json:
        path = f"/repos/{full_name}/issues/{number}"
        closed: Json = await self.api("PATCH", path, {"state": "closed"}, token=token)
        return closed

    async def api(self, method: str, path: str, body: Any = None, *, token: str) -> Any:
        """Any REST call; None for an answer without a body."""
        response = await self._http.request(
            method,
            self.api_url + path,
            json=body,
            headers={"Authorization": f"Bearer {token}", "Accept": "application/vnd.github+json"},
        )
        response.raise_for_status()
        return response.json() if response.content else None

    async def admin(self, method: str, path: str, body: Json | None = None) -> Any:
        """Any call below /_standin."""
        response = await self._http.request(method, f"{self.base_url}/_standin{path}", json=body)
        if response.is_client_error:
            message = f"{method} {path}: {response.status_code} {response.text}"
            raise httpx.HTTPStatusError(message, request=response.request, response=response)
        response.raise_for_status()
        return response.json()


def _given(**fields: Any) -> Json:
    """Leave out what was not said, so that the server's own defaults hold."""
    return {name: value for name, value in fields.items() if value is not None}
