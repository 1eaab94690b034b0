"""`GET /v1/models`: a few models that a client may ask for; any name is answered."""

from __future__ import annotations

from typing import Any

WINDOW = 1_000_000
"""Tokens of the context window."""
MODELS = {
    "claude-opus-5-5": "Claude Opus 5.5",
    "claude-sonnet-5-5": "Claude Sonnet 5.5",
    "claude-haiku-5-5": "Claude Haiku 5.5",
}


def model_info(name: str) -> dict[str, Any]:
    return {
        "type": "model",
        "id": name,
        "display_name": f"{MODELS.get(name, name)} (scripted)",
        "created_at": "2026-09-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": WINDOW,
        "max_tokens": 128_000,
    }


def model_list() -> dict[str, Any]:
    data = [model_info(name) for name in MODELS]
    return {
        "data": data,
        "has_more": False,
        "first_id": data[0]["id"],
        "last_id": data[-1]["id"],
    }
