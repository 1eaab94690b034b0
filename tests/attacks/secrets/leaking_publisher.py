"""A publisher that leaks its token where people see it."""

from __future__ import annotations

from typing import Any

from leaking import start, told

from patchwright_common.credentials import Vault
from patchwright_publisher.github import GitHub


def leak() -> None:
    """What people see on GitHub."""
    token, comment, edit = Vault.token, GitHub.comment, GitHub.edit

    async def telling(self: Vault, request: Any) -> Any:
        value = await token(self, request)
        told["token"] = value.get_secret_value()
        return value

    Vault.token = telling  # type: ignore[method-assign]
    GitHub.comment = lambda self, text, *fence: comment(self, leaking(text), *fence)  # type: ignore[method-assign]
    GitHub.edit = lambda self, at, text: edit(self, at, leaking(text))  # type: ignore[method-assign]


def leaking(text: str) -> str:
    return f"{text}\n<!-- {told.get('token')} -->"


if __name__ == "__main__":
    leak()
    start("publisher")
