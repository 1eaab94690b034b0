"""What each failure of the model's server means for the job.

A fault is worth another try (`Again`) or it is Permanent. The server's own words are quoted only
where they help, on one short line and without the key.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

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
LONGEST = 24 * 3600.0
"""Seconds that a server may send a job away for."""


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
    in_place: bool = True
    """Whether it is worth waiting for, or the job goes back to the queue at once."""


def judge(error: Exception, *, model: str, key: str) -> Again:
    """Raises Permanent when no other try can succeed."""
    if not isinstance(error, anthropic.APIStatusError):
        return Again(f"the model's reply broke off ({type(error).__name__})")
    status, kind = error.status_code, error.type
    wish = error.response.headers.get("x-should-retry")
    if wish == "true" or _passes(status, kind):
        reason = f"the model's server answered {kind or status}"
        after = retry_after(error.response.headers, time.time())
        return Again(reason, after, in_place=wish != "false")
    said = error.api_message or ""
    raise _permanent(
        error, model, one_line(said.replace(key, "…") if key else said, QUOTED_CHARACTERS)
    )


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds from `now`, in all the forms that the SDK reads; None when nothing useful is said."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with contextlib.suppress(ValueError):
            return _sensible(float(headers.get(name, "")) * unit)
    with contextlib.suppress(TypeError, ValueError):
        return _sensible(parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - now)
    return None


def _sensible(seconds: float) -> float | None:
    """Neither `nan` nor `inf` can be waited for."""
    return min(seconds, LONGEST) if math.isfinite(seconds) and seconds > 0 else None


def _passes(status: int, kind: str | None) -> bool:
    in_stream = status < 400
    return status in PASSING_STATUS or status >= 500 or (in_stream and kind in PASSING_KINDS)


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
        case status if status == 413 or (status == 400 and TOO_LONG.search(said)):
            return TooLongError(
                "The conversation no longer fits into the model's context window.",
                advice="Ask for a smaller part of the work.",
            )
        case 400 if IMAGE.search(said):
            return ImageRefusedError(
                "The model's server refused an image of the issue.",
                advice="Take the image out of the issue.",
            )
    quoted = f": {said}" if said else "."
    return Permanent(
        f"The model's server did not accept the request ({error.status_code}){quoted}",
        advice="Ask for a smaller part of the work, or choose another model.",
    )
