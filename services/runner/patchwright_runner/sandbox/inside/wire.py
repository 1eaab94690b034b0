"""Frames between runner and box: two lengths, a JSON object, a binary payload.

The runner sends `{"id": n, "op": name, …}` or `{"cancel": n}`; the box answers any number
of `{"id": n, "item": {…}}`, then one `{"id": n, "result": {…}}` or
`{"id": n, "error": text, "kind": "tool" | "box"}`. To an item `{"want": true}` the runner
sends one more frame `{"id": n}` with the next piece as its payload, an empty one at the end.

While a command runs, frames about it go both ways: `{"stream": s, "do": …}` for a connection
through a door (see `doors.py`), and `{"output": …}` for what it writes. The box's carry the
request's `id`; the runner's carry it as `beside`.
"""

from __future__ import annotations

import json
import os
import select
import struct
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

HEADER_LIMIT = 256 * 1024
PAYLOAD_LIMIT = 8 * 1024 * 1024
LENGTHS = struct.Struct("!II")


class Frame(NamedTuple):
    """One message in either direction."""

    header: dict[str, Any]
    payload: bytes = b""


class Closed(Exception):
    """The other side is gone."""


def pack(header: dict[str, Any], payload: bytes = b"") -> bytes:
    """The frame's bytes. Names that are not UTF-8 travel as lone surrogates, escaped."""
    text = json.dumps(header).encode()
    return LENGTHS.pack(len(text), len(payload)) + text + payload


class Channel:
    """The box's end, on two file descriptors; reading never blocks unless asked to."""

    def __init__(self, source: int, sink: int) -> None:
        self.source = source
        self._sink = sink
        self._buffer = bytearray()
        self._frames: deque[Frame] = deque()
        self._cancelled: dict[int, bool] = {}
        self._beside: deque[Frame] = deque()

    def receive(self) -> Frame:
        """The next request; raises Closed when the runner has gone."""
        while not self._frames:
            self.pump(None)
        self._beside.clear()
        return self._frames.popleft()

    def receive_for(self, request: int) -> Frame | None:
        """The next frame, which belongs to `request`; None when the runner has given that up."""
        while not self.cancelled(request):
            if self._frames:
                return self._frames.popleft()
            self.pump(None)
        return None

    def beside(self, request: int) -> Iterator[Frame]:
        """What has arrived about the running request; what is about an earlier one is dropped."""
        while self._beside:
            frame = self._beside.popleft()
            if frame.header["beside"] == request:
                yield frame

    def pump(self, timeout: float | None) -> None:
        """Take in what has arrived, waiting for `timeout` seconds (None: for ever)."""
        ready, _, _ = select.select([self.source], [], [], timeout)
        if not ready:
            return
        data = os.read(self.source, 1 << 16)
        if not data:
            raise Closed
        self._buffer += data
        self._parse()

    def cancelled(self, request: int) -> bool:
        """Whether the runner no longer wants this answer."""
        return self._cancelled.pop(request, False)

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        """Write one frame; blocks until the runner takes it."""
        left = memoryview(pack(header, payload))
        while left:
            try:
                left = left[os.write(self._sink, left) :]
            except BrokenPipeError as error:
                raise Closed from error

    def _parse(self) -> None:
        while len(self._buffer) >= LENGTHS.size:
            header, payload = LENGTHS.unpack_from(self._buffer)
            end = LENGTHS.size + header + payload
            if len(self._buffer) < end:
                return
            text = self._buffer[LENGTHS.size : LENGTHS.size + header]
            frame = Frame(json.loads(text), bytes(self._buffer[LENGTHS.size + header : end]))
            del self._buffer[:end]
            if "cancel" in frame.header:
                self._cancelled[frame.header["cancel"]] = True
            elif "beside" in frame.header:
                self._beside.append(frame)
            else:
                self._frames.append(frame)
