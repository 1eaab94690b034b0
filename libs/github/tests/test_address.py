"""Tokens are sent to the configured GitHub and nowhere else."""

from __future__ import annotations

import pytest

from patchwright_github.address import clone_url, lies_on, origin


@pytest.mark.parametrize(
    ("api_url", "expected"),
    [
        ("https://api.github.com", "https://github.com"),
        ("https://github.example.com/api/v3", "https://github.example.com"),
        ("http://127.0.0.1:8081/api/v3", "http://127.0.0.1:8081"),
    ],
)
def test_repositories_lie_where_the_api_belongs(api_url: str, expected: str) -> None:
    assert origin(api_url) == expected
    assert clone_url(api_url, "ada/doorbell") == f"{expected}/ada/doorbell.git"


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com.evil.example/a/b.git",
        "https://evil.example/a/b.git",
        "http://github.com/a/b.git",
        "https://github.com:8443/a/b.git",
        "https://github.com@evil.example/a/b.git",
        "file:///etc/passwd",
        "https://[broken",
        "",
    ],
)
def test_foreign_address_is_none_of_ours(url: str) -> None:
    assert not lies_on(url, "https://github.com")
