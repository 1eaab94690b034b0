"""The command `standin-model`: a scripted Messages API on a port."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from standin_model.app import create_app
from standin_model.playbook import load_playbook
from standin_model.scenario import ScenarioError
from standin_model.server import running


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    try:
        asyncio.run(_serve(options))
    except (OSError, ScenarioError) as error:
        sys.exit(f"standin-model: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="standin-model", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    key = parser.add_mutually_exclusive_group()
    key.add_argument("--key", help="the only API key that is accepted; without one, one is made")
    key.add_argument("--key-file", type=Path, help="file that holds the key")
    parser.add_argument(
        "--scenarios", type=Path, action="append", default=[], help="folder with more *.json"
    )
    parser.add_argument(
        "--delay", type=float, default=0.0, help="seconds that each reply takes at least"
    )
    return parser


async def _serve(options: argparse.Namespace) -> None:
    key = options.key_file.read_text().strip() if options.key_file else options.key
    made = "" if key else f"sk-standin-{secrets.token_urlsafe(24)}"
    playbook = load_playbook(options.scenarios)
    app = create_app(key or made, playbook=playbook, least_delay=options.delay)
    async with running(app, host=options.host, port=options.port) as url:
        print(f"standin-model ready at {url}" + (f" with key {made}" if made else ""), flush=True)
        await _asked_to_stop().wait()


def _asked_to_stop() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
