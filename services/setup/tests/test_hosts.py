"""Addresses at every kind of GitHub."""

from __future__ import annotations

import pytest

from patchwright_github.address import origin
from patchwright_setup import hosts


@pytest.mark.parametrize(
    ("entered", "web", "api", "app"),
    [
        ("github.com", "https://github.com", "https://api.github.com", "/apps/x"),
        ("https://www.github.com/", "https://github.com", "https://api.github.com", "/apps/x"),
        ("https://GitHub.com:443", "https://github.com", "https://api.github.com", "/apps/x"),
        ("acme.ghe.com", "https://acme.ghe.com", "https://api.acme.ghe.com", "/apps/x"),
        (
            "https://ghe.example.com:8443",
            "https://ghe.example.com:8443",
            "https://ghe.example.com:8443/api/v3",
            "/github-apps/x",
        ),
        ("http://[::1]:80", "http://[::1]", "http://[::1]/api/v3", "/github-apps/x"),
        (
            "http://localhost:9",
            "http://localhost:9",
            "http://localhost:9/api/v3",
            "/github-apps/x",
        ),
    ],
)
def test_each_github_has_its_addresses(entered: str, web: str, api: str, app: str) -> None:
    assert hosts.web_address(entered) == web
    assert hosts.api_url(web) == api
    assert origin(api) == web
    assert hosts.app_url(web, "x") == web + app


@pytest.mark.parametrize(
    "entered",
    ["", "http://github.com", "https://", "https://a b", "https://x:y@z", "https://x:99999"],
)
def test_what_is_no_address_is_refused(entered: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        hosts.web_address(entered)


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("nas", True),
        ("x.local", True),
        ("8.8.8.8", False),
        ("smee.io", False),
    ],
)
def test_private_hosts_are_known(host: str, private: bool) -> None:
    assert hosts.is_private(host) == private
