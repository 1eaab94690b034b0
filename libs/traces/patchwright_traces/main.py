"""The command `patchwright-traces`."""

from __future__ import annotations

import argparse
import asyncio
import socket
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from patchwright_traces.app import Settings, create_app
from patchwright_traces.database import connect
from patchwright_traces.recording import Limits

DEFAULT_PORT = 16686
"""Where Jaeger's UI listens too."""

_SHUTDOWN_SECONDS = 3


class AnnouncingServer(uvicorn.Server):
    """Says where it listens as soon as it does, on one line that a supervisor can wait for."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn with the sockets that it was given."""
        await super().startup(sockets)
        if self.started and sockets:
            sys.stdout.write(f"patchwright-traces ready on {_address(sockets[0])}\n")
            sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted; exits with 1 and one line where it cannot start."""
    options = _parser().parse_args(arguments)
    try:
        listener = _listen(options.host, options.port)
    except OSError as error:
        sys.exit(
            f"patchwright-traces: cannot listen on {options.host}:{options.port}: {error.strerror}"
            " (choose another --port; 0 takes a free one)"
        )
    try:
        options.database.parent.mkdir(parents=True, exist_ok=True)
        connect(options.database).close()
    except (OSError, sqlite3.Error) as error:
        sys.exit(
            f"patchwright-traces: cannot use {options.database}: {error}"
            " (it holds only traces: delete it, or choose another --database)"
        )
    app = create_app(Settings(options.database, Limits(traces=options.keep)))
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    asyncio.run(AnnouncingServer(config).serve([listener]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="patchwright-traces",
        description="Takes traces over OTLP/HTTP and shows them.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes a free one")
    parser.add_argument("--database", type=Path, default=Path("traces.db"), help="SQLite file")
    parser.add_argument("--keep", type=_positive, default=1_000, help="how many traces to keep")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _listen(host: str, port: int) -> socket.socket:
    """Bound here and not by uvicorn, for a port that is known and an error on one line."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def _address(listener: socket.socket) -> str:
    host, port, *_ = listener.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


if __name__ == "__main__":
    main()
