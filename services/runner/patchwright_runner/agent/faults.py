"""What each failure of the model's server means for the job.

A fault is worth another try (`Again`) or it is Permanent. The server's own words are quoted only
where they help, on one short line and without the key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import anthropic
import httpx2

from patchwright_common.errors import Permanent
from patchwright_runner.agent.hidden_text import one_line

PASSING_STATUS = frozenset({408, 409, 429})
"""Besides all from 500 on; the same that the SDK retries by itself."""
PASSING_KINDS = frozenset({"rate_limit_error", "overloaded_error", "api_error", "timeout_error"})
"""They decide for an error event inside of a stream, whose status is 200."""
BROKEN_REPLY = (anthropic.APIError, httpx2.HTTPError, TimeoutError, ValueError)
"""All that a request can raise: ValueError is the SDK's for a tool input that is not JSON."""
QUOTED_CHARACTERS = 300


TOO_LONG = re.compile(r"prompt is too long|exceeds? (the )?context (limit|window)", re.IGNORECASE)
"""The API's words in a 400; neither a code nor a type of its own tells these cases apart."""

IMAGE = re.compile(r"\bimage\b", re.IGNORECASE)
"""As in "Could not process image" and "messages.0.content.1.image.source.base64: …"."""


class TooLongError(Permanent):
    """The conversation is too long: a shorter one may succeed."""


class ImageRefusedError(Permanent):
    """An image is not what it seemed to be: without images the request may succeed."""


@dataclass(frozen=True, slots=True)
class Again:
    """Another try may succeed, not before `after` seconds if the server said so."""

    reason: str
    after: float | None = None


def judge(error: Exception, *, model: str, key: str) -> Again:
    """Raises Permanent when no other try can succeed."""
    if not isinstance(error, anthropic.APIStatusError):
        return Again(f"the model's reply broke off ({type(error).__name__})")
    status, kind = error.status_code, error.type
    in_stream = status < 400
    if status in PASSING_STATUS or status >= 500 or (in_stream and kind in PASSING_KINDS):
        reason = f"the model's server answered {kind or status}"
        return Again(reason, retry_after(error.response.headers))
    said = error.api_message or ""
    if status == 413 or (status == 400 and TOO_LONG.search(said)):
        raise TooLongError(
            "The conversation no longer fits into the model's context window.",
            advice="Ask for a smaller part of the work.",
        )
    if status == 400 and IMAGE.search(said):
        raise ImageRefusedError(
            "The model's server refused an image of the issue.",
            advice="Take the image out of the issue.",
        )
    raise _permanent(
        error, model, one_line(said.replace(key, "…") if key else said, QUOTED_CHARACTERS)
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds; the form with a date is not used by this API."""
    try:
        return max(float(headers.get("retry-after", "")), 0.0)
    except ValueError:
        return None


def _permanent(error: anthropic.APIStatusError, model: str, said: str) -> Permanent:
    match error.status_code:
        case 401 | 403:
            return Permanent(
                "The model key was refused.",
                advice="Whoever runs this Patchwright must store a valid model key.",
            )
        case 402:
            return Permanent(
                "The model's account cannot be charged.",
                advice="Whoever runs this Patchwright must look at the account's billing.",
            )
        case 404:
            return Permanent(
                f"There is no model {model} for this key.",
                advice="Operators: PATCHWRIGHT_MODEL names the model.",
            )
    quoted = f": {said}" if said else "."
    return Permanent(
        f"The model's server did not accept the request ({error.status_code}){quoted}",
        advice="Ask for a smaller part of the work, or choose another model.",
    )
