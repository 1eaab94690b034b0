"""Error answers in Anthropic's shape.

Source: https://platform.claude.com/docs/en/api/errors
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

KINDS = {
    400: ("invalid_request_error", "The request is not valid."),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "There is a problem with your billing information."),
    403: ("permission_error", "Your API key does not have permission to use this resource."),
    404: ("not_found_error", "The requested resource could not be found."),
    413: ("request_too_large", "Request exceeds the maximum allowed number of bytes."),
    429: ("rate_limit_error", "This request would exceed your organization's rate limit."),
    500: ("api_error", "Internal server error"),
    504: ("timeout_error", "The request timed out."),
    529: ("overloaded_error", "Overloaded"),
}


class InvalidRequestError(ValueError):
    """Answered with 400 `invalid_request_error` and this text."""


def error_body(status: int, message: str = "", code: str = "") -> dict[str, Any]:
    kind, usual = KINDS.get(status) or KINDS[500 if status >= 500 else 400]
    error: dict[str, Any] = {"type": kind, "message": message or usual}
    if code:
        error["details"] = {"error_code": code}
    return {"type": "error", "error": error}


def error_response(
    status: int, message: str = "", *, code: str = "", headers: Mapping[str, str] | None = None
) -> JSONResponse:
    body = error_body(status, message, code)
    return JSONResponse(body, status_code=status, headers=dict(headers or {}))
