"""The set-up's composition root: the only file here that reads the environment."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys

import uvicorn
from pydantic import Field

from patchwright_common.credentials import Vault
from patchwright_common.errors import Permanent
from patchwright_common.listening import Server, bound
from patchwright_common.service import Service, ServiceSettings, connected, run, until_stopped
from patchwright_setup import hosts
from patchwright_setup.app import create_app
from patchwright_setup.door import LINK_LIFETIME, Door
from patchwright_setup.page import Site, environment
from patchwright_setup.terminal import Terminal
from patchwright_setup.vault import SetupVault

log = logging.getLogger(__name__)

WHERE = "PATCHWRIGHT_SETUP_HOST and PATCHWRIGHT_SETUP_PORT say where; port 0 takes a free one."
LINGER = 3.0
"""Seconds from the last page to the end, for its style sheet and a reload."""


class SetupSettings(ServiceSettings):
    """Where the pages are, and what their forms begin with."""

    setup_host: str = Field(default="127.0.0.1", description="Address to listen on.")
    setup_port: int = Field(default=8083, ge=0, le=65535, description="Port; 0 takes a free one.")
    setup_public_url: str = Field(
        default="", description="How the browser reaches the pages, if not by host and port."
    )
    setup_stay: bool = Field(default=False, description="Go on after the last page.")
    webhook_url: str = Field(default="", description="Where GitHub shall deliver to.")
    github_url: str = Field(
        default=hosts.CLOUD, description="GitHub's web address; another one for Enterprise."
    )


async def serve() -> None:
    """Run until the last page was delivered, or until told to stop."""
    settings = SetupSettings()
    with bound(settings.setup_host, settings.setup_port, advice=WHERE) as listener:
        public_url = address(settings, listener.getsockname()[1])
        github_url = _checked(settings.github_url, "PATCHWRIGHT_GITHUB_URL")
        async with connected("setup", settings) as service:
            # It tells what it reads, and what it reads are forms.
            logging.getLogger("python_multipart").setLevel(logging.WARNING)
            ended = asyncio.Event()
            site = _site(settings, service, public_url, github_url, ended)
            await _serve(site, listener, ended)


def _site(
    settings: SetupSettings,
    service: Service,
    public_url: str,
    github_url: str,
    ended: asyncio.Event,
) -> Site:
    async def finish() -> None:
        log.info("set-up is finished")
        if not settings.setup_stay:
            asyncio.get_running_loop().call_later(LINGER, ended.set)

    return Site(
        public_url=public_url,
        github_url=github_url,
        webhook_url=settings.webhook_url,
        stays=settings.setup_stay,
        door=Door(),
        vault=SetupVault(Vault(service.bus, "setup")),
        templates=environment(),
        finish=finish,
    )


async def _serve(site: Site, listener: socket.socket, ended: asyncio.Event) -> None:
    host, port = listener.getsockname()[:2]
    config = uvicorn.Config(
        create_app(site, listening=f"[{host}]:{port}" if ":" in host else f"{host}:{port}"),
        log_config=None,
        # Addresses hold the link's token and GitHub's code.
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        timeout_graceful_shutdown=5,
    )
    server = Server(config)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve([listener]))
        await server.listening.wait()
        with Terminal(lambda: print_link(site)):
            print_link(site)
            log.info("ready")
            await _either(ended)
        server.should_exit = True


async def _either(ended: asyncio.Event) -> None:
    waiting = {asyncio.create_task(ended.wait()), asyncio.create_task(until_stopped())}
    _, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()


def print_link(site: Site) -> None:
    """To the terminal alone: the log may be kept and read by others."""
    link = f"{site.public_url}/start?token={site.door.new_link()}"
    minutes = f"{LINK_LIFETIME / 60:.0f}"
    sys.stdout.write(f"Set Patchwright up in a browser (once, within {minutes} minutes): {link}\n")
    sys.stdout.flush()


def address(settings: SetupSettings, port: int) -> str:
    """How the browser reaches the pages. Raises `Permanent` for a way that would be open."""
    if settings.setup_public_url:
        return _checked(settings.setup_public_url, "PATCHWRIGHT_SETUP_PUBLIC_URL")
    host = settings.setup_host
    if not hosts.is_loopback(host):
        raise Permanent(
            f"Set-up listens on {host}, which others can reach.",
            advice="PATCHWRIGHT_SETUP_PUBLIC_URL must say how the browser comes here: an https:// "
            "address, or one on this machine.",
        )
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _checked(url: str, variable: str) -> str:
    try:
        return hosts.web_address(url)
    except ValueError as error:
        raise Permanent(f"{variable} does not fit.", advice=str(error)) from None


def main() -> None:
    """Entry point of `patchwright-setup`."""
    run(serve)
