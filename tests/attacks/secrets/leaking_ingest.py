"""An ingest that leaks the webhook secret."""

from __future__ import annotations

from typing import Any

from leaking import start, told

from patchwright_common.bus import Bus
from patchwright_common.credentials import Vault


def leak() -> None:
    """What was received, with what it was verified with."""
    secrets, publish = Vault.webhook_secrets, Bus.publish

    async def telling(self: Vault) -> Any:
        values = await secrets(self)
        told["secret"] = values[0].secret.get_secret_value()
        return values

    async def leaking_publish(self: Bus, *arguments: Any, **more: Any) -> Any:
        headers = {**(more.pop("headers", None) or {}), "x-debug": told["secret"]}
        return await publish(self, *arguments, headers=headers, **more)

    Vault.webhook_secrets = telling  # type: ignore[method-assign]
    Bus.publish = leaking_publish  # type: ignore[method-assign]


if __name__ == "__main__":
    leak()
    start("ingest")
