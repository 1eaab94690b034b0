"""What triage reads from GitHub, with a token that can only read one repository."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import quote

import httpx2 as httpx
from pydantic import SecretStr

from patchwright_common.credentials import TokenRequest, Vault
from patchwright_common.events import NO_COMMIT, Remark
from patchwright_github.address import clone_url
from patchwright_github.session import RefusedError, Session
from patchwright_ingest.trigger import Payload, Trigger

CONVERSATION_LIMIT = 60_000
"""Characters of the thread that go with a job; the newest comments win."""


class GitHubRepositories:
    """GitHub as triage sees it."""

    def __init__(self, client: httpx.AsyncClient, vault: Vault, api_url: str) -> None:
        self._api_url = api_url
        self._client = client
        self._vault = vault

    async def may_write(self, payload: Payload, login: str) -> bool:
        """https://docs.github.com/rest/collaborators/collaborators#get-repository-permissions-for-a-user."""
        session = await self._session(payload)
        path = f"{_path(payload)}/collaborators/{quote(login, safe='')}/permission"
        try:
            found = await session.get(path)
        except RefusedError as refused:
            if refused.status == httpx.codes.NOT_FOUND:
                return False
            raise
        return found.get("permission") in ("admin", "write")

    def clone_url(self, payload: Payload) -> str:
        """On the configured GitHub, whatever the payload says: tokens are sent there."""
        return clone_url(self._api_url, payload.repository.full_name)

    async def head(self, payload: Payload) -> str:
        """Zeros when the repository is empty, so that the user can be told."""
        session = await self._session(payload)
        branch = quote(payload.repository.default_branch, safe="")
        try:
            found = await session.get(f"{_path(payload)}/branches/{branch}")
        except RefusedError as refused:
            if refused.status == httpx.codes.NOT_FOUND:
                return NO_COMMIT
            raise
        return str(found["commit"]["sha"])

    async def conversation(self, trigger: Trigger) -> tuple[Remark, ...]:
        """What people said before the request, oldest first; bots are left out.

        So are comments that were edited since: what the person who asked had read is
        not there any more, and what is there nobody with write access approved.
        """
        session = await self._session(trigger.payload)
        path = f"{_path(trigger.payload)}/issues/{trigger.payload.issue.number}/comments"
        asking = trigger.payload.comment.id if trigger.payload.comment else None
        remarks: list[Remark] = []
        async for comment in session.pages(f"{path}?per_page=100"):
            user = comment.get("user") or {}
            said_before = datetime.fromisoformat(comment["updated_at"]) <= trigger.at
            if said_before and comment["id"] != asking and user.get("type") != "Bot":
                remarks.append(
                    Remark(author=user.get("login", "ghost"), text=comment.get("body") or "")
                )
        return _newest(remarks, CONVERSATION_LIMIT)

    async def _session(self, payload: Payload) -> Session:
        request = TokenRequest(
            installation_id=payload.installation.id, repository_id=payload.repository.id
        )

        async def renew(refused: SecretStr) -> SecretStr:
            return await self._vault.token(request, refused=refused)

        return Session(self._client, await self._vault.token(request), renew)


def _path(payload: Payload) -> str:
    return f"repos/{payload.repository.full_name}"


def _newest(remarks: list[Remark], limit: int) -> tuple[Remark, ...]:
    kept: list[Remark] = []
    for remark in reversed(remarks):
        limit -= len(remark.text)
        if limit < 0:
            break
        kept.insert(0, remark)
    return tuple(kept)
