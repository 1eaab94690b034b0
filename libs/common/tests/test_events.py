"""Payloads change by addition, and never repeat what did not fit."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from patchwright_common.events import JobFailed, JobReadied, JobRequested, Repository

from .handling import JOB, requested


def test_field_of_a_newer_version_is_ignored() -> None:
    newer = json.loads(requested().model_dump_json()) | {"mood": "good"}
    newer["repository"]["stars"] = 5
    assert JobRequested.model_validate_json(json.dumps(newer)) == requested()


def test_field_that_an_older_version_did_not_send_has_a_default() -> None:
    older = b'{"job_id": "7-1-i-1", "stage": "agent", "reason": "No."}'
    failed = JobFailed.model_validate_json(older)
    assert (failed.advice, failed.trace_id, failed.epoch, failed.sequence) == ("", "", None, None)


@given(st.from_regex(r"[A-Za-z0-9-]{1,64}", fullmatch=True))
def test_job_id_is_letters_digits_and_dashes(job_id: str) -> None:
    assert JobReadied(job_id=job_id).job_id == job_id


@pytest.mark.parametrize(
    "job_id",
    ["", "a.b", "a b", "a*", ">", "a_b", "é", "\uff17", "x" * 65, "a\n", "\na", "a/b", "a\x00"],
)
def test_job_id_that_is_no_subject_token_is_refused(job_id: str) -> None:
    with pytest.raises(ValidationError):
        JobReadied(job_id=job_id)


@pytest.mark.parametrize(
    "name", ["greeter", "octo/", "octo/greeter/x", "oc to/x", "octo/x\n", "../x/y"]
)
def test_repository_name_that_could_be_a_path_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        Repository(
            id=1, full_name=name, clone_url="", default_branch="main", installation_id=1
        )  # fmt: skip


@pytest.mark.parametrize("base", ["main", "A" * 40, "a" * 39, "a" * 41, "--upload-pack=x"])
def test_base_that_is_no_commit_is_refused(base: str) -> None:
    with pytest.raises(ValidationError):
        JobRequested.model_validate(requested().model_dump() | {"base": base})


def test_refusal_does_not_quote_what_was_refused() -> None:
    with pytest.raises(ValidationError) as caught:
        JobReadied.model_validate_json('{"job_id": "ghp_Zq7 secret"}')
    assert "ghp_Zq7" not in str(caught.value)


def test_event_does_not_change() -> None:
    event = JobReadied(job_id=JOB)
    with pytest.raises(ValidationError):
        event.job_id = "8-1-i-1"  # type: ignore[misc]
