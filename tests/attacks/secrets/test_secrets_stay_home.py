"""A canary for each secret, searched wherever anybody can read after everything went wrong."""

from __future__ import annotations

import pytest

from harness.stack import RunningStack
from patchwright_common import flow
from patchwright_common.permissions import bucket_stream
from patchwright_common.requests import SERVICES

from . import places
from .canaries import KINDS
from .looking import LOOKS
from .searching import Searched

EVERYWHERE = (
    places.STREAMS,
    places.BUCKETS,
    places.OBJECTS,
    places.STORE_FILES,
    places.LOGS,
    places.TERMINAL,
    places.SPANS,
    places.PAGES,
    places.HISTORY,
    places.MODEL,
    places.BOX_ENVIRONMENT,
    places.BOX_PROC,
    places.BOX_FILES,
    places.GIT_CONFIGURATION,
    places.MIRRORS,
    places.ARGUMENTS,
    places.ENVIRONMENTS,
    places.TEMPORARY,
    places.FILES,
)


@pytest.mark.parametrize("place", EVERYWHERE)
def test_reader_finds_no_secret_in(searched: Searched, place: str) -> None:
    assert not searched.in_kind(place), searched.told(place)
    assert searched.read[place] > 0


def test_reader_finds_no_secret_in_docker_inspect(searched: Searched, stack: RunningStack) -> None:
    """Bubblewrap has no such thing: its arguments are searched with those of all processes."""
    assert not searched.in_kind(places.INSPECT), searched.told(places.INSPECT)
    if stack.at.sandbox == "docker":
        assert searched.read[places.INSPECT] > 0
    else:
        assert "bwrap" in searched.services


def test_no_secret_is_missing_from_the_search(searched: Searched) -> None:
    for kind in KINDS:
        assert any(name.startswith(kind) for name in searched.secrets), kind
    assert searched.secrets["a webhook secret"] >= 2, "the rotated one and its successor"
    assert searched.secrets["a token or assertion of the App"] >= 40


def test_no_place_is_missing_from_the_search(searched: Searched) -> None:
    named = {name.split(" ")[0].rstrip(":") for _, name in searched.names}
    streams = [stream.name for stream in flow.STREAMS]
    assert {*streams, *map(bucket_stream, flow.BUCKETS)} <= named
    for stream in streams:
        assert any(name.startswith(f"{stream} pw.") for _, name in searched.names), stream
    logs = {name for kind, name in searched.names if kind == places.LOGS}
    for service in SERVICES:
        assert f"home/logs/{service}.log" in logs
        assert f"patchwright-{service}" in searched.services
    assert set(LOOKS) <= {name for _, name in searched.names}
