"""The model gateway: the Messages API for a program in the sandbox, with our key and our limits."""

from __future__ import annotations

from patchwright_runner.gateway.gateway import Gateway
from patchwright_runner.gateway.settings import Exchange, GatewaySettings

__all__ = ["Exchange", "Gateway", "GatewaySettings"]
