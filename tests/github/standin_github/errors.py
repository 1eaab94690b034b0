"""GitHub's error answers.

ApiError is raised anywhere below a REST handler and becomes one JSON answer in `rest/call.py`.
Messages are GitHub's own words, because clients match on them.
"""

from __future__ import annotations

from typing import Any

DOCUMENTATION = "https://docs.github.com/rest"


class ApiError(Exception):
    """An answer that is not a success."""

    def __init__(
        self,
        status: int,
        message: str,
        errors: list[dict[str, Any]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {message}")
        self.status = status
        self.message = message
        self.errors = errors
        self.headers = headers or {}

    def body(self) -> dict[str, Any]:
        answer: dict[str, Any] = {"message": self.message}
        if self.errors is not None:
            answer["errors"] = self.errors
        return answer | {"documentation_url": DOCUMENTATION, "status": str(self.status)}


def bad_credentials() -> ApiError:
    return ApiError(401, "Bad credentials")


def not_found() -> ApiError:
    return ApiError(404, "Not Found")


def not_accessible() -> ApiError:
    return ApiError(403, "Resource not accessible by integration")


def suspended() -> ApiError:
    return ApiError(403, "This installation has been suspended")


def invalid(resource: str, field: str, code: str = "invalid") -> ApiError:
    return ApiError(
        422, "Validation Failed", [{"resource": resource, "field": field, "code": code}]
    )


def refused(resource: str, message: str, field: str | None = None) -> ApiError:
    """A validation failure that GitHub explains in words."""
    error = {"resource": resource, "code": "custom", "message": message}
    if field is not None:
        error["field"] = field
    return ApiError(422, "Validation Failed", [error])
