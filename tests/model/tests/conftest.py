"""A running stand-in for each test, and the real SDK pointed at it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import httpx2
import pytest
from anthropic import AsyncAnthropic

from standin_model.app import create_app
from standin_model.server import running


@pytest.fixture
def key() -> str:
    return f"sk-{secrets.token_urlsafe(16)}"


@pytest.fixture
async def url(key: str) -> AsyncIterator[str]:
    async with running(create_app(key)) as url:
        yield url


@pytest.fixture
async def client(url: str, key: str) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(api_key=key, base_url=url, max_retries=0, timeout=10) as client:
        yield client


@pytest.fixture
async def http(url: str, key: str) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"x-api-key": key, "anthropic-version": "2026-10-21"}
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=10) as http:
        yield http
