"""A small ready-made world for tests: one App, one person, one repository, all connected."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import jwt

from standin_github.client import CreatedApp, CreatedRepository, CreatedUser, StandinGitHub

FILES = {
    "README.md": "# Calculator\n",
    "src/calculator.py": "def divide(a, b):\n    return a // b\n",
}


@dataclass(frozen=True, slots=True)
class Scene:
    """`person` may write to `repository`, on which `app` is installed."""

    github: StandinGitHub
    app: CreatedApp
    person: CreatedUser
    repository: CreatedRepository
    installation_id: int

    @property
    def name(self) -> str:
        """The repository's full name."""
        return self.repository.full_name

    @property
    def owner(self) -> str:
        return self.name.partition("/")[0]

    def app_jwt(self, key: str | None = None, **claims: Any) -> str:
        """Signed with the App's key unless another is given; a claim of None is left out."""
        now = int(time.time())
        said = {"iat": now - 30, "exp": now + 300, "iss": str(self.app.id)} | claims
        kept = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(kept, key or self.app.private_key, algorithm="RS256")

    async def token(
        self,
        permissions: Mapping[str, str] | None = None,
        repositories: Sequence[str] | None = None,
    ) -> str:
        """An installation token, unscoped unless asked otherwise."""
        body = {"permissions": permissions, "repositories": repositories}
        wanted = {name: value for name, value in body.items() if value is not None}
        path = f"/app/installations/{self.installation_id}/access_tokens"
        answer = await self.github.api("POST", path, wanted, token=self.app_jwt())
        return str(answer["token"])


async def make_scene(
    github: StandinGitHub,
    *,
    webhook_url: str = "",
    private: bool = True,
    files: Mapping[str, str] | None = None,
    permissions: Mapping[str, str] | None = None,
) -> Scene:
    """Names are new each time, so that scenes in one stand-in never meet."""
    mark = uuid4().hex[:8]
    app = await github.create_app(
        f"Patchwright {mark}", webhook_url=webhook_url, permissions=permissions
    )
    person = await github.create_user(f"ada-{mark}")
    repository = await github.create_repository(
        f"labs-{mark}/calculator",
        FILES if files is None else files,
        collaborators={person.login: "write"},
        private=private,
    )
    installation_id = await github.install(app.id, [repository.full_name])
    return Scene(github, app, person, repository, installation_id)
