"""Doors: ports on the box's loopback whose connections are carried to the runner.

They are there for one command. Each direction of a connection has a window: nobody sends more
than the other side has room for, so that a stalled connection stalls nothing but itself.
Nothing in here is trusted by the runner, which has the same rules on its side.

The box numbers its connections from 1 and says `open` with a `port`. Then both sides say
`data`, `credit` (`bytes` that were passed on, so that as many may follow), `end` when no more
data will come, and as the last word `close`. A `close` before both have ended means that the
connection broke. A place is free again when both have said it.
"""

from __future__ import annotations

import selectors
import socket
import struct
from collections.abc import Callable
from typing import Any

from patchwright_runner.sandbox.inside import process

WINDOW = 256 * 1024
"""Bytes of one direction that may be under way or wait at the other side."""
STREAMS = 64
"""Connections of one command at once; a further one is closed at once."""
_CHUNK = 1 << 16
_WRITE = selectors.EVENT_WRITE
_RESET = struct.pack("ii", 1, 0)
"""struct linger of socket(7): on, no time."""

Send = Callable[[dict[str, Any], bytes], None]


class Beside(process.Company):
    """The doors and the live output of one command."""

    def __init__(self, ports: list[int], heard: bool, send: Send) -> None:
        self._doors = Doors(ports, send)
        self._heard = heard
        self._room = WINDOW
        self._send = send

    def attend(self, selector: selectors.BaseSelector) -> None:
        """See process.Company."""
        self._doors.attend(selector)

    def room(self) -> int:
        """See process.Company: what the runner has not heard yet fills a window."""
        return self._room if self._heard else super().room()

    def hear(self, data: bytes) -> None:
        """See process.Company."""
        if self._heard and data:
            self._room -= len(data)
            self._send({"output": len(data)}, data)

    def take(self, header: dict[str, Any], payload: bytes) -> None:
        """A frame from the runner."""
        if "output" in header:
            self._room += header["output"]
        else:
            self._doors.take(header, payload)

    def close(self) -> None:
        """After the command."""
        self._doors.close()


class Doors:
    """The listeners and connections of one command."""

    def __init__(self, ports: list[int], send: Send) -> None:
        self._send = send
        self._streams: dict[int, _Stream] = {}
        self._last = 0
        self._selector: Any = None
        self._listeners: dict[int, socket.socket] = {}
        try:
            for port in ports:
                self._listeners[port] = _listener(port)
        except OSError:
            self.close()
            raise

    def attend(self, selector: selectors.BaseSelector) -> None:
        """Take part in the loop that waits for the command; keys carry what is to be called."""
        self._selector = selector
        for port, listener in self._listeners.items():
            selector.register(listener, selectors.EVENT_READ, self._acceptor(port, listener))

    def take(self, header: dict[str, Any], payload: bytes) -> None:
        """A frame from the runner; what is meant for a connection that has gone is dropped."""
        stream = self._streams.get(header["stream"])
        if stream is not None:
            stream.take(header, payload)

    def close(self) -> None:
        """Whoever could use a connection has been killed, and the loop has ended."""
        for listener in self._listeners.values():
            listener.close()
        for stream in self._streams.values():
            stream.close()

    def _acceptor(self, port: int, listener: socket.socket) -> Callable[[int], None]:
        def accept(_mask: int) -> None:
            try:
                client, _ = listener.accept()
                client.setblocking(False)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                return  # it has gone again
            if len(self._streams) >= STREAMS:
                _reset(client)
                return
            self._last += 1
            self._send({"stream": self._last, "do": "open", "port": port}, b"")
            stream = _Stream(self._last, client, self._selector, self._send, self._streams)
            stream.watch()

        return accept


class _Stream:
    """One connection of a client in the box."""

    def __init__(
        self,
        number: int,
        client: socket.socket,
        selector: selectors.BaseSelector,
        send: Send,
        streams: dict[int, _Stream],
    ) -> None:
        self._number = number
        self._client = client
        self._selector = selector
        self._send = send
        self._streams = streams
        self._credit = WINDOW
        self._waiting = bytearray()
        self._written = 0
        self._client_ended = self._runner_ended = False
        self._closed = self._runner_closed = False
        self._watched = 0
        streams[number] = self

    def take(self, header: dict[str, Any], payload: bytes) -> None:
        what = header["do"]
        if what == "close":
            self._runner_closed = True
            if self._closed:
                del self._streams[self._number]
            elif not (self._client_ended and self._runner_ended):
                self._end(reset=True)
        elif self._closed:
            return  # said before the runner had our last word
        elif what == "credit":
            self._credit += header["bytes"]
            self.watch()
        elif what == "data":
            self._waiting += payload
            self._go_on(self._write)
        else:
            self._runner_ended = True
            self._go_on(self._write)

    def ready(self, mask: int) -> None:
        # An event of the same look may have closed it.
        for event, step in ((selectors.EVENT_READ, self._read), (_WRITE, self._write)):
            if mask & event and not self._closed:
                self._go_on(step)

    def watch(self) -> None:
        """Wait for what we can use: no reading without credit, no writing without data."""
        wanted = 0
        if self._credit > 0 and not self._client_ended:
            wanted |= selectors.EVENT_READ
        if self._waiting:
            wanted |= _WRITE
        self._watch(wanted)

    def close(self) -> None:
        """Without a word: the command's answer says it all."""
        if not self._closed:
            _reset(self._client)

    def _watch(self, wanted: int) -> None:
        if wanted == self._watched:
            return
        if not self._watched:
            self._selector.register(self._client, wanted, self.ready)
        elif not wanted:
            self._selector.unregister(self._client)
        else:
            self._selector.modify(self._client, wanted, self.ready)
        self._watched = wanted

    def _end(self, *, reset: bool) -> None:
        """Our last word; with a reset for a client whose connection did not end in order."""
        self._closed = True
        self._watch(0)
        if reset:
            _reset(self._client)
        else:
            self._client.close()
        self._tell("close")
        if self._runner_closed:
            del self._streams[self._number]

    def _go_on(self, step: Callable[[], None]) -> None:
        try:
            step()
        except BlockingIOError:
            pass
        except OSError:
            self._end(reset=True)
            return
        if self._client_ended and self._runner_ended and not self._waiting:
            self._end(reset=False)
        else:
            self.watch()

    def _read(self) -> None:
        data = self._client.recv(min(_CHUNK, self._credit))
        self._credit -= len(data)
        self._client_ended = not data
        self._tell("data" if data else "end", data)

    def _write(self) -> None:
        while self._waiting:
            written = self._client.send(self._waiting)
            del self._waiting[:written]
            self._count(written)
        if self._runner_ended:
            self._client.shutdown(socket.SHUT_WR)

    def _count(self, written: int) -> None:
        """Credit is given back in sums, not for every piece."""
        self._written += written
        if self._written >= WINDOW // 4:
            self._tell("credit", bytes=self._written)
            self._written = 0

    def _tell(self, what: str, data: bytes = b"", **more: int) -> None:
        self._send({"stream": self._number, "do": what, **more}, data)


def _reset(client: socket.socket) -> None:
    """Close it, drop what is queued, and have the other side know."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    client.close()


def _listener(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(STREAMS)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener
