"""Findings that no stand-in can bring about."""

from __future__ import annotations

import pytest

from patchwright_vault.findings import (
    Delivery,
    HookConfig,
    Installation,
    installations_finding,
    listed,
    model_finding,
    token_finding,
    webhook_finding,
)
from patchwright_vault.grants import TOKEN_PERMISSIONS

ALL = dict.fromkeys((name for held in TOKEN_PERMISSIONS.values() for name in held), "write")


def installed(login: str, **other: object) -> Installation:
    facts = {"id": 3, "account": {"login": login}, "permissions": ALL} | other
    return Installation.model_validate(facts)


def test_webhook_in_another_content_type_is_told() -> None:
    config = HookConfig(url="https://hook.example", content_type="form")
    newest = Delivery(event="ping", status_code=202)
    found = webhook_finding(config, newest, "")
    assert not found.ok
    assert "application/json" in found.advice


def test_webhook_that_was_never_tried_is_not_yet_well() -> None:
    found = webhook_finding(HookConfig(url="https://hook.example"), None, "https://x/apps/a")
    assert not found.ok
    assert found.detail == "GitHub has sent nothing to https://hook.example yet."
    assert "ping" in found.advice
    assert "https://x/apps/a" in found.advice


def test_suspended_installation_counts_only_when_there_is_no_other() -> None:
    asleep = installed("ada", suspended_at="2026-11-01T00:00:00Z")
    found = installations_finding([asleep], "")
    assert found
    assert "suspended for ada" in found.detail
    assert installations_finding([asleep, installed("grace")], "") is None


def test_more_than_is_needed_covers_it() -> None:
    assert (
        installations_finding([installed("ada", permissions=ALL | {"issues": "admin"})], "") is None
    )


def test_level_that_nobody_knows_covers_nothing() -> None:
    found = installations_finding([installed("ada", permissions=ALL | {"issues": "most"})], "")
    assert found
    assert "issues: write" in found.detail


def test_installation_that_covers_nothing_is_told() -> None:
    found = token_finding({"ada": []}, 0)
    assert not found.ok
    assert "covers no repository" in found.detail
    assert token_finding({"ada": [], "grace": ["grace/doorbell"]}, 2).ok


def test_many_names_are_counted() -> None:
    assert listed(list("abcdefgh")) == "a, b, c, d, e and 3 more"
    assert listed(["a"]) == "a"
    assert "and 2 more accounts" in token_finding({"ada": ["ada/x"]}, 2).detail


@pytest.mark.parametrize(("status", "said"), [(402, "billing"), (403, "permission"), (404, "/v1")])
def test_models_refusals_are_told_apart(status: int, said: str) -> None:
    found = model_finding(status, "api.example", listing=False)
    assert not found.ok
    assert f"api.example answered {status}." == found.detail
    assert said in found.advice


def test_link_that_is_none_is_not_shown() -> None:
    found = installations_finding([], "javascript:alert(1)")
    assert found
    assert "javascript" not in found.advice
