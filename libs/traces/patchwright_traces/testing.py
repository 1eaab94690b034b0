"""A viewer for tests: a real server on a free port, for the time of a `with`."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from patchwright_traces.app import Settings, create_app

_PATIENCE_SECONDS = 10.0


@contextmanager
def running_viewer(settings: Settings) -> Iterator[str]:
    """Serve from a thread; yields the address, `http://127.0.0.1:PORT`.

    Spans go to its `/v1/traces`, and `/api/traces/{id}` tells what arrived.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(settings), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        _await_start(server, thread)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(_PATIENCE_SECONDS)
        listener.close()


def _await_start(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("the trace viewer did not start")
        time.sleep(0.01)
