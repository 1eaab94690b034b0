"""Check runs, which only Apps may write."""

from __future__ import annotations

import time
from typing import Any

from starlette.responses import Response

from standin_github.access import READ_CHECKS, WRITE_CHECKS
from standin_github.auth import InstallationCaller
from standin_github.clock import parse_iso
from standin_github.errors import ApiError, invalid, not_accessible, not_found, refused
from standin_github.records import CheckRun, Repository
from standin_github.rest.call import Call, Json, answer, route
from standin_github.rest.fields import required
from standin_github.views.pulls import check_run as check_view

STATUSES = ("queued", "in_progress", "completed", "waiting", "requested", "pending")
CONCLUSIONS = (
    "action_required",
    "cancelled",
    "failure",
    "neutral",
    "success",
    "skipped",
    "timed_out",
)
OUTPUT_MAX = 65535
"""Characters in `summary` and in `text`."""


async def create_check(call: Call) -> Response:
    repository = call.repository(WRITE_CHECKS)
    app_id = _app_id(call)
    body = await call.json()
    name, sha = required(body, "name", "CheckRun"), required(body, "head_sha", "CheckRun")
    if await call.hub.git.resolve(repository.id, sha) != sha:
        raise ApiError(422, f"No commit found for SHA: {sha}")
    check = CheckRun(
        id=call.state.new_id(),
        repository_id=repository.id,
        app_id=app_id,
        suite_id=_suite(call, repository, app_id, sha),
        head_sha=sha,
        name=name,
        status="queued",
        conclusion=None,
        external_id="",
        details_url=None,
        started_at=time.time(),
        completed_at=None,
        output={},
    )
    _apply(check, body)
    call.state.check_runs[check.id] = check
    return answer(check_view(call.state, call.urls, check), 201)


def _app_id(call: Call) -> int:
    if not isinstance(call.caller, InstallationCaller):
        raise not_accessible()
    return call.caller.app.id


def _suite(call: Call, repository: Repository, app_id: int, sha: str) -> int:
    """One suite for each App and commit."""
    for check in call.state.check_runs.values():
        if (check.repository_id, check.app_id, check.head_sha) == (repository.id, app_id, sha):
            return check.suite_id
    return call.state.new_id()


async def change_check(call: Call) -> Response:
    repository = call.repository(WRITE_CHECKS)
    check = _check(call, repository)
    if check.app_id != _app_id(call):
        raise ApiError(
            403,
            "Invalid app_id `" + str(_app_id(call)) + "` - check run can only be"
            " modified by the GitHub App that created it.",
        )
    _apply(check, await call.json())
    return answer(check_view(call.state, call.urls, check))


def _check(call: Call, repository: Repository) -> CheckRun:
    check = call.state.check_runs.get(call.number("check_run_id"))
    if check is None or check.repository_id != repository.id:
        raise not_found()
    return check


def _apply(check: CheckRun, body: Json) -> None:
    """All is checked before anything is changed. A conclusion completes the check by itself."""
    status = body.get("status", check.status)
    conclusion = body.get("conclusion", check.conclusion)
    if status not in STATUSES:
        raise invalid("CheckRun", "status")
    if conclusion is not None and conclusion not in CONCLUSIONS:
        raise invalid("CheckRun", "conclusion")
    if status == "completed" and conclusion is None:
        raise invalid("CheckRun", "conclusion", "missing_field")
    output, started = _output(body.get("output")), _time(body, "started_at")
    completed = _time(body, "completed_at")
    check.status = "completed" if body.get("conclusion") else status
    check.conclusion = conclusion if check.status == "completed" else None
    check.completed_at = completed or check.completed_at
    if check.status == "completed" and check.completed_at is None:
        check.completed_at = time.time()
    check.started_at = started or check.started_at
    check.output |= output
    check.name = str(body.get("name", check.name))
    check.external_id = str(body.get("external_id", check.external_id))
    check.details_url = body.get("details_url", check.details_url)


def _output(output: Any) -> dict[str, str | None]:
    if output is None:
        return {}
    if not isinstance(output, dict) or not isinstance(output.get("summary"), str):
        raise invalid("CheckRun", "output.summary", "missing_field")
    for name in ("summary", "text"):
        if len(output.get(name) or "") > OUTPUT_MAX:
            raise refused("CheckRun", f"{name} exceeds a maximum bytesize of {OUTPUT_MAX}")
    return {name: output.get(name) for name in ("title", "summary", "text") if name in output}


def _time(body: Json, name: str) -> float | None:
    if body.get(name) is None:
        return None
    try:
        return parse_iso(str(body[name]))
    except ValueError:
        raise invalid("CheckRun", name) from None


async def get_check(call: Call) -> Response:
    check = _check(call, call.repository(READ_CHECKS))
    return answer(check_view(call.state, call.urls, check))


async def list_checks(call: Call) -> Response:
    """Newest first. By default the latest of each name and App only, as on GitHub."""
    repository = call.repository(READ_CHECKS)
    sha = await call.hub.git.resolve(repository.id, call.path("ref"))
    if sha is None:
        raise ApiError(422, f"No commit found for SHA: {call.path('ref')}")
    rows = checks_at(call, repository, sha)
    for query in ("status", "check_name", "app_id"):
        field = "name" if query == "check_name" else query
        if call.query(query):
            rows = [c for c in rows if str(getattr(c, field)) == call.query(query)]
    if call.query("filter", "latest") == "latest":
        latest = {(c.app_id, c.name): c for c in reversed(rows)}
        rows = [c for c in rows if latest[c.app_id, c.name] is c]
    page, headers = call.page(rows)
    view = [check_view(call.state, call.urls, c) for c in page]
    return answer({"total_count": len(rows), "check_runs": view}, headers=headers)


def checks_at(call: Call, repository: Repository, sha: str) -> list[CheckRun]:
    mine = (c for c in call.state.check_runs.values() if c.repository_id == repository.id)
    return sorted((c for c in mine if c.head_sha == sha), key=lambda c: -c.id)


ROUTES = [
    route("POST", "/repos/{owner}/{repo}/check-runs", create_check),
    route("GET", "/repos/{owner}/{repo}/check-runs/{check_run_id}", get_check),
    route("PATCH", "/repos/{owner}/{repo}/check-runs/{check_run_id}", change_check),
    route("GET", "/repos/{owner}/{repo}/commits/{ref:path}/check-runs", list_checks),
]
