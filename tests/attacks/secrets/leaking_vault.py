"""A vault that leaks a record."""

from __future__ import annotations

from typing import Any

from leaking import start

from patchwright_vault import main


def leak() -> None:
    """A record that nobody encrypted."""
    serve = main._serve

    async def leaking_serve(settings: Any, connected: Any, *rest: Any) -> None:
        secret = settings.webhook_secret.get_secret_value()
        await connected.bus.js.publish("$KV.PW_VAULT.leak", secret.encode())
        await serve(settings, connected, *rest)

    main._serve = leaking_serve


if __name__ == "__main__":
    leak()
    start("vault")
