"""Other paths, hosts, credentials and headers than the ones that are meant."""

from __future__ import annotations

import json
import logging

import pytest

from .gateway_at_work import (
    KEY,
    MODEL,
    Received,
    asking,
    error_of,
    opened,
    reply,
    served,
    server,
    stage,
)

BODY = json.dumps(asking()).encode()


def request(target: str, method: str = "POST", host: str = "model") -> bytes:
    head = (
        f"{method} {target} HTTP/1.1\r\nhost: {host}\r\nanthropic-version: 2023-06-01\r\n"
        f"content-length: {len(BODY)}\r\n\r\n"
    )
    return head.encode() + BODY


@pytest.mark.parametrize(
    "target",
    [
        "/v1/files",
        "/v1/messages/batches",
        "/v1/organizations/me",
        "/v1/complete",
        "/V1/MESSAGES",
        "/v1/messages/",
        "//v1/messages",
        "//attacker.example/v1/messages",
        "/v1//messages",
        "/v1/./messages",
        "/v1/messages/../files",
        "/../v1/messages",
        "/v1%2fmessages",
        "/v1/messages%2f..%2ffiles",
        "/v1/%6dessages",
        "/v1/messages;a=b",
        "/v1/messages\\",
        "http://attacker.example/v1/messages",
        "https://attacker.example:443/v1/messages",
        "file:///v1/messages",
        "*",
    ],
)
async def test_foreign_path_is_refused(target: str) -> None:
    async with stage() as acting:
        refused = await acting.raw(request(target))
        assert acting.received == []
        passed = await acting.raw(request("/v1/messages"))

    assert refused.startswith(b"HTTP/1.1 404 ")
    assert b'"not_found_error"' in refused
    assert b"POST /v1/messages" in refused
    assert b"location" not in refused.lower()
    assert passed.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "TRACE", "CONNECT"])
async def test_other_method_is_refused(method: str) -> None:
    async with stage() as acting:
        refused = await acting.raw(request("/v1/messages", method))

    assert refused.startswith(b"HTTP/1.1 405 ")
    assert acting.received == []


@pytest.mark.parametrize(
    "host", ["attacker.example", "api.anthropic.com@attacker.example", "[::1]"]
)
async def test_foreign_host_header_changes_nothing(host: str) -> None:
    async with stage() as acting:
        passed = await acting.raw(request("/v1/messages", host=host))

    assert passed.startswith(b"HTTP/1.1 200 ")
    assert acting.received[0].headers["host"].startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        ("?beta=true", "?beta=true"),
        ("?beta=true&key=1&url=https://attacker.example", "?beta=true"),
        ("?model=other", ""),
        ("?beta=false", ""),
        ("?beta=true%00", ""),
        ("?/../../files", ""),
        ("#/v1/files", None),
    ],
)
async def test_query_string_other_than_the_known_one_is_dropped(
    query: str, sent: str | None
) -> None:
    async with stage() as acting:
        answer = await acting.raw(request(f"/v1/messages{query}"))

    paths = [received.path for received in acting.received]
    assert paths == ([f"/v1/messages{sent}"] if sent is not None else [])
    assert answer.startswith(b"HTTP/1.1 200 " if paths else b"HTTP/1.1 404 ")


async def test_servers_own_path_stays_in_front() -> None:
    received: list[Received] = []
    async with (
        served(server(reply, received)) as url,
        opened(f"{url}/anthropic/", received) as acting,
    ):
        await acting.post()

    assert received[0].path == "/anthropic/v1/messages"


@pytest.mark.parametrize(
    ("version", "name", "value"),
    [
        ("2023-06-01", "x-api-key", KEY),
        ("2026-10-21", "authorization", f"Bearer {KEY}"),
    ],
)
async def test_clients_credentials_are_replaced_by_the_key(
    version: str, name: str, value: str
) -> None:
    async with stage() as acting:
        await acting.post(
            anthropic_version=version,
            x_api_key="from the sandbox",
            authorization="Bearer from the sandbox",
            cookie="a=from the sandbox",
            proxy_authorization="from the sandbox",
        )

    headers = acting.received[0].headers
    assert headers[name] == value
    assert "from the sandbox" not in json.dumps(headers)
    assert not {"x-api-key", "authorization"} - {name} & set(headers)


async def test_beta_tokens_are_not_smuggled(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tokens = "claude-code-20250219, mcp-client-2025-11-20,files-api-2025-04-14,,effort-2025-11-24"
    async with stage() as acting:
        for _ in range(3):
            await acting.client.post(
                "/v1/messages",
                content=BODY,
                headers=[
                    ("anthropic-version", "2023-06-01"),
                    ("anthropic-beta", tokens),
                    ("anthropic-beta", "skills-2025-10-02"),
                    ("Anthropic-Beta", "fast-mode-2026-02-01,\tcontext-1m-2025-08-07"),
                ],
            )

    sent = [received.headers["anthropic-beta"] for received in acting.received]
    assert sent == ["claude-code-20250219,effort-2025-11-24"] * 3
    said = [text for text in caplog.messages if "beta token was left out" in text]
    assert len(said) == 5
    assert "a beta token was left out: skills-2025-10-02" in said


async def test_only_known_headers_reach_the_models_server() -> None:
    async with stage() as acting:
        await acting.post(
            x_forwarded_host="attacker.example",
            anthropic_workspace_id="wrkspc_1",
            x_stainless_os="Linux",
            accept_encoding="gzip",
            traceparent="00-1-1-01",
        )

    assert set(acting.received[0].headers) == {
        "accept",
        "accept-encoding",
        "anthropic-version",
        "connection",
        "content-length",
        "content-type",
        "host",
        "user-agent",
        "x-api-key",
    }
    assert acting.received[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("version", ["", "2099-01-01", "2023-06-01, 2026-10-21"])
async def test_unknown_version_of_the_api_is_refused(version: str) -> None:
    async with stage() as acting:
        refused = await acting.post(anthropic_version=version)

    assert refused.status_code == 400
    assert acting.received == []


async def test_compressed_body_is_refused() -> None:
    async with stage() as acting:
        refused = await acting.post(content_encoding="gzip")

    assert error_of(refused)["message"] == "content-encoding: the body must not be compressed"


async def test_models_are_the_jobs_own() -> None:
    async with stage(more_models=("claude-haiku-5-5",)) as acting:
        listed = (await acting.client.get("/v1/models?limit=1000")).json()
        one = await acting.client.get("/v1/models/claude-haiku-5-5")
        other = await acting.client.get("/v1/models/claude-mythos-5-1")

    assert [model["id"] for model in listed["data"]] == [MODEL, "claude-haiku-5-5"]
    assert one.json()["type"] == "model"
    assert other.status_code == 404
    assert error_of(other)["type"] == "not_found_error"
    assert acting.received == []


async def test_somebody_is_there() -> None:
    async with stage() as acting:
        assert (await acting.client.head("/")).status_code == 200
