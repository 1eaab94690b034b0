"""JSON from a stranger, read so strictly that no other parser finds something else in it.

What is sent on is written anew from what was read here: of two equal keys, of numbers that other
parsers round, and of bytes that are not UTF-8, nothing is left to interpretation.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NoReturn

from patchwright_runner.gateway.refusal import RefusedError

DEPTH = 100
"""Objects and lists within each other; a tool's JSON schema needs a dozen or two."""
MARKS = 200_000
"""Strings, brackets and commas of a body: a list of empty lists takes twenty times its own size in
memory, and each value its time. A turn with a tool has about 60, the tools of Claude Code some
thousands: so this is a conversation of more than two thousand turns."""
DIGITS = 20
"""Of a whole number."""
# An unfinished string reaches to the end: a match that fails would begin anew at each quote.
MARK = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{},]', re.DOTALL)
OPENING = b"[{"
CLOSING = b"]}"
SURROGATES = re.compile("[\ud800-\udfff]")


def read(body: bytes | bytearray) -> dict[str, Any]:
    """The object that the body holds. Raises RefusedError."""
    _check_size(body)
    try:
        found = json.loads(
            body.decode(),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
        )
    except UnicodeDecodeError:
        raise RefusedError("The request body is not valid UTF-8.") from None
    except ValueError as error:
        raise RefusedError(f"The request body is not valid JSON: {error}.") from None
    if not isinstance(found, dict):
        raise RefusedError("The request body is not a JSON object.")
    return found


def write(value: object) -> bytes:
    """Half a surrogate pair, as some programs cut it off, becomes a question mark."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def _check_size(body: bytes | bytearray) -> None:
    """What its values need in memory and on the stack, before anything is made of them."""
    depth = 0
    for number, mark in enumerate(MARK.finditer(body)):
        if number >= MARKS:
            raise RefusedError("The request body holds too many values.")
        first = body[mark.start()]
        depth += (first in OPENING) - (first in CLOSING)
        if depth > DEPTH:
            raise RefusedError(f"The request body is nested more than {DEPTH} deep.")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise RefusedError(f"The request body has a key twice: {twice[:60]!a}.")
    for key in found:
        # Two of them could be one after they were written anew.
        if SURROGATES.search(key):
            raise RefusedError("The request body has a key that is not valid Unicode.")
    return found


def _constant(name: str) -> NoReturn:
    raise RefusedError(f"The request body holds {name}, which is not JSON.")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise RefusedError("The request body holds a number that is too large.")
    return number


def _int(text: str) -> int:
    if len(text) > DIGITS:
        raise RefusedError("The request body holds a number that is too large.")
    return int(text)
