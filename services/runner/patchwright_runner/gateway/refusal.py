"""What the gateway answers when it says no, in the shape of the API's own errors.

Source: https://platform.claude.com/docs/en/api/errors. A client that gets one of these without
`again` must not ask the same again: `x-should-retry` tells Anthropic's clients so.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse, Response

INVALID = "invalid_request_error"
NOT_FOUND = "not_found_error"
TOO_LARGE = "request_too_large"
OVERLOADED = "overloaded_error"
API_ERROR = "api_error"
TIMEOUT = "timeout_error"


class RefusedError(Exception):
    """A request that does not go to the model's server, or came back from it without an answer."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = INVALID,
        again: bool = False,
        close: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.again = again
        self.close = close
        """Whether the connection ends with the answer, because a body was left unread."""


def response(refused: RefusedError) -> Response:
    """The answer to the client."""
    headers: Mapping[str, str] = {
        "x-should-retry": "true" if refused.again else "false",
        **({"connection": "close"} if refused.close else {}),
    }
    error = {"type": refused.kind, "message": refused.message}
    return JSONResponse({"type": "error", "error": error}, refused.status, headers)
