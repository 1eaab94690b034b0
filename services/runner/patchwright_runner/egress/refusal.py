"""Why a connection is not made or not continued."""

from __future__ import annotations

from http import HTTPStatus


class Refusal(Exception):
    """What the program in the sandbox is told, and the audit too.

    `reason` is one sentence in printable ASCII; `advice` says what can be done about it.
    """

    def __init__(self, status: HTTPStatus, reason: str, advice: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.advice = advice


def answer(refusal: Refusal) -> bytes:
    """The whole response.

    The reason stands in the status line as well, because that is all that many clients show
    of a proxy's refusal.
    """
    body = f"{refusal.reason}\n{refusal.advice}".strip() + "\n"
    head = (
        f"HTTP/1.1 {refusal.status.value} {refusal.reason}",
        "Content-Type: text/plain; charset=us-ascii",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return ("\r\n".join(head) + f"\r\n\r\n{body}").encode("ascii", "replace")
