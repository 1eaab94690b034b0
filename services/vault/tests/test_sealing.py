"""What is sealed opens under its own name and key alone, and as it was or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchwright_common.errors import Permanent
from patchwright_vault.sealing import KEY_BYTES, Sealer

KEYS = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)
NAMES = st.text(min_size=1, max_size=30)
SEALER = Sealer(bytes(range(KEY_BYTES)))


@given(KEYS, NAMES, st.binary(max_size=5000))
def test_secret_comes_back_as_it_was(key: bytes, name: str, secret: bytes) -> None:
    assert Sealer(key).open(name, Sealer(key).seal(name, secret)) == secret


@given(NAMES, st.binary(min_size=8, max_size=200))
def test_record_shows_nothing_of_the_secret_and_is_new_each_time(name: str, secret: bytes) -> None:
    first, second = SEALER.seal(name, secret), SEALER.seal(name, secret)
    assert secret not in first
    assert first[1:] != second[1:]
    assert first[1:13] != second[1:13]  # a nonce that comes twice breaks GCM


@settings(max_examples=20)
@given(st.binary(max_size=40))
def test_every_flipped_bit_is_refused(secret: bytes) -> None:
    record = SEALER.seal("name", secret)
    for bit in range(8 * len(record)):
        flipped = bytearray(record)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Permanent):
            SEALER.open("name", bytes(flipped))


@given(st.binary(max_size=40), st.binary(min_size=1, max_size=5))
def test_record_of_another_length_is_refused(secret: bytes, more: bytes) -> None:
    record = SEALER.seal("name", secret)
    for changed in (*(record[:end] for end in range(len(record))), record + more, more + record):
        with pytest.raises(Permanent):
            SEALER.open("name", changed)


@given(NAMES, NAMES, st.binary(max_size=40))
def test_record_that_was_moved_to_another_name_is_refused(
    name: str, other: str, secret: bytes
) -> None:
    if name == other:
        return
    with pytest.raises(Permanent):
        SEALER.open(other, SEALER.seal(name, secret))


@given(KEYS, KEYS, st.binary(max_size=40))
def test_other_key_is_refused(key: bytes, other: bytes, secret: bytes) -> None:
    if key == other:
        return
    with pytest.raises(Permanent) as refused:
        Sealer(other).open("name", Sealer(key).seal("name", secret))
    assert "Nothing was overwritten" in refused.value.reason


@given(st.binary(max_size=100))
def test_nonsense_is_refused(record: bytes) -> None:
    with pytest.raises(Permanent):
        SEALER.open("name", record)


@given(st.binary(max_size=64).filter(lambda key: len(key) != KEY_BYTES))
def test_key_of_another_length_is_refused(key: bytes) -> None:
    with pytest.raises(Permanent):
        Sealer(key)


@given(KEYS, NAMES, NAMES)
def test_mark_belongs_to_one_job_and_one_key(key: bytes, job: str, other: str) -> None:
    mark = Sealer(key).mark(job)
    assert mark == Sealer(key).mark(job)
    assert len(bytes.fromhex(mark)) == 16
    assert (mark == Sealer(key).mark(other)) == (job == other)
    assert mark != Sealer(bytes(KEY_BYTES - 1) + b"x").mark(job)
