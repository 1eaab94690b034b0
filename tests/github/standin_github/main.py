"""Starts the stand-in: `standin-github --data DIR [--host H] [--port P] [--public-url URL]`."""

from __future__ import annotations

import argparse
import socket
from pathlib import Path

import uvicorn

from standin_github.application import build
from standin_github.hub import Hub, Settings

READY = "standin-github listening on "
"""What stands before the address in the one line that says it is ready."""


class Server(uvicorn.Server):
    """Tells its address once it answers, which a caller with port 0 cannot know before."""

    def __init__(self, config: uvicorn.Config, address: str) -> None:
        super().__init__(config)
        self._address = address

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            print(f"{READY}{self._address}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="standin-github", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--data", type=Path, required=True, help="repositories and state")
    parser.add_argument("--public-url", help="how others reach it; default: host and port")
    parser.add_argument("--token-lifetime", type=float, default=3600.0, metavar="SECONDS")
    parser.add_argument("--rate-limit", type=int, default=5000, metavar="REQUESTS_AN_HOUR")
    parser.add_argument("--delivery-timeout", type=float, default=10.0, metavar="SECONDS")
    return parser.parse_args()


def main() -> None:
    arguments = _arguments()
    listener = socket.create_server((arguments.host, arguments.port), backlog=512)
    # asyncio does this only for sockets that were made with an explicit protocol; without it each
    # answer waits 40 ms for the client's delayed acknowledgement. Connections inherit it.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    address = f"http://{arguments.host}:{listener.getsockname()[1]}"
    settings = Settings(
        public_url=arguments.public_url or address,
        data=arguments.data,
        token_lifetime=arguments.token_lifetime,
        rate_limit=arguments.rate_limit,
        delivery_timeout=arguments.delivery_timeout,
    )
    config = uvicorn.Config(
        build(Hub(settings)),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
    )
    Server(config, address).run(sockets=[listener])


if __name__ == "__main__":
    main()
