"""Lines of JSON from a program that nobody trusts."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from patchwright_runner.agent.stream_json import KEPT_BYTES, Lines

TEXT = b'{"a": 1}\nWarning: \xc3\xa4 careful\n{"b": "\xc3\xa4"}\n[1]\n{"c": 3}'
FOUND = [{"a": 1}, {"b": "ä"}, {"c": 3}]


def heard(*pieces: bytes, most: int = 1000) -> tuple[list[object], Lines]:
    lines = Lines(most)
    found: list[object] = [message for piece in pieces for message in lines.feed(piece)]
    return found + list(lines.close()), lines


def test_bytes_may_be_split_anywhere() -> None:
    for place in range(len(TEXT) + 1):
        found, lines = heard(TEXT[:place], TEXT[place:])
        assert found == FOUND
        assert lines.stray == "Warning: ä careful\n[1]"


def test_bytes_may_come_one_by_one() -> None:
    assert heard(*(TEXT[at : at + 1] for at in range(len(TEXT))))[0] == FOUND


@given(st.lists(st.binary(max_size=60), max_size=12))
def test_noise_is_passed_over(pieces: list[bytes]) -> None:
    found, _ = heard(*pieces, b'\n{"end": true}\n')
    assert found[-1] == {"end": True}


def test_line_over_the_bound_is_dropped_and_counted() -> None:
    long = json.dumps({"text": "x" * 200}).encode()
    found, lines = heard(long[:50], long[50:], b'\n{"a": 1}\n', long + b"\n", most=100)

    assert found == [{"a": 1}]
    assert lines.dropped == 2


def test_endless_line_keeps_nothing_in_memory() -> None:
    lines = Lines(1000)
    for _ in range(100):
        assert list(lines.feed(b"x" * 900)) == []
    assert len(lines._begun) <= 1000


def test_only_the_end_of_what_is_no_json_is_kept() -> None:
    _, lines = heard(b"noise\n" * 5000 + b"the reason\n")

    assert lines.stray.endswith("the reason")
    assert len(lines.stray) <= KEPT_BYTES


def test_json_nested_too_deep_is_passed_over() -> None:
    assert heard(b'{"a":' * 100_000 + b"\n" + b'{"a": 1}\n', most=10**6)[0] == [{"a": 1}]
