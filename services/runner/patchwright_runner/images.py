"""The images that an issue shows, fetched for the agent from GitHub's own hosts and nowhere else.

The addresses were written by strangers: each one and each redirect is held against an allowlist,
is connected to at the very address that was checked, carries no credential of ours, and may bring
only so much for so long. What a private repository shows needs its reader's session and stays out.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import SplitResult, urljoin, urlsplit

import httpx2

from patchwright_github.address import lies_on
from patchwright_runner.agent.image_header import read_header
from patchwright_runner.agent.image_links import image_links
from patchwright_runner.agent.protocol import Image, Task

USER_CONTENT: Final = frozenset(
    {"user-images.githubusercontent.com", "private-user-images.githubusercontent.com"}
)
STORES: Final = frozenset({"github-production-user-asset-6210df.s3.amazonaws.com"})
"""Where github.com/user-attachments redirects to."""
ATTACHMENT = re.compile(
    r"/user-attachments/assets/[\w-]+"
    r"|/[\w-][\w.-]*/[\w-][\w.-]*/assets/\d+/[\w-]+"
    r"|/storage/user/\d+/files/[\w-]+",
    re.ASCII,
)
"""Paths of uploads on GitHub itself: today's, those until 2024, and an Enterprise Server's."""
REDIRECTS: Final = (301, 302, 303, 307, 308)


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What an issue may make us fetch.

    The API takes 8,000 pixels a side, 5 MB an image and 32 MB a request, by
    https://platform.claude.com/docs/en/build-with-claude/vision, and counts them in base64. The
    images go with every request and are in every checkpoint, so that all of them together stay
    far below.
    """

    images: int = 5
    bytes: int = 5 * 1000 * 1000 * 3 // 4
    total_bytes: int = 8 * 1000 * 1000
    pixels: int = 8_000
    """A side."""
    redirects: int = 3
    seconds: float = 10.0
    """For one image, redirects included."""


class LeftOutError(Exception):
    """Why an image is not shown: the end of a sentence."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """The IP addresses of a host. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


@dataclass(frozen=True)
class Images:
    """Fetches what may be fetched."""

    github: str = "https://github.com"
    """The pages of the GitHub that we work for: may be http, and on a private network."""
    more_hosts: frozenset[str] = frozenset()
    """An Enterprise Server's media host, for example."""
    limits: ImageLimits = ImageLimits()
    resolve: Callable[[str, int], Awaitable[Sequence[str]]] = resolve

    async def illustrate(self, task: Task) -> Task:
        """The task with the images that its texts show, or with why it goes without them."""
        links = _links(task)
        wanted = links[: self.limits.images]
        rest = f"only {self.limits.images} are looked at"
        images, total = [], 0
        for url in wanted:
            image = await self._image(url, self.limits.total_bytes - total)
            total += len(image.data)
            images.append(image)
        images += [Image(url, left_out=rest) for url in links[self.limits.images :]]
        return replace(task, images=tuple(images))

    async def _image(self, url: str, budget: int) -> Image:
        try:
            async with asyncio.timeout(self.limits.seconds):
                data = await self._fetch(url, min(budget, self.limits.bytes))
            return _checked(url, data, self.limits.pixels)
        except LeftOutError as reason:
            return Image(url, left_out=str(reason))
        except TimeoutError:
            return Image(url, left_out="its host took too long")
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError):
            return Image(url, left_out="it could not be fetched")

    async def _fetch(self, url: str, limit: int) -> bytes:
        async with httpx2.AsyncClient(trust_env=False, follow_redirects=False) as client:
            for hop in range(self.limits.redirects + 1):
                answer = await self._get(client, self._allowed(url, redirected=hop > 0), limit)
                if isinstance(answer, bytes):
                    return answer
                url = urljoin(url, answer)
        raise LeftOutError("it was redirected too often")

    def _allowed(self, url: str, *, redirected: bool) -> SplitResult:
        """Raises LeftOutError for an address that is not one of GitHub's images."""
        parts = urlsplit(url)
        if parts.username is not None or parts.password is not None:
            raise LeftOutError("its address holds a user name")
        if lies_on(url, self.github):
            if not ATTACHMENT.fullmatch(parts.path):
                raise LeftOutError("it is no upload")
            return parts
        if parts.scheme != "https" or parts.port not in (None, 443):
            raise LeftOutError("its address is not a plain https one")
        hosts = USER_CONTENT | self.more_hosts | (STORES if redirected else frozenset())
        if parts.hostname not in hosts:
            raise LeftOutError("only GitHub's own hosts are asked")
        return parts

    async def _get(self, client: httpx2.AsyncClient, parts: SplitResult, limit: int) -> bytes | str:
        """The body, or where it is said to be."""
        host = parts.hostname or ""
        address = await self._address(parts)
        # The connection goes to the address that was checked: a second look-up may say otherwise.
        request = client.build_request(
            "GET",
            httpx2.URL(parts.geturl()).copy_with(host=address, fragment=None),
            headers={"host": parts.netloc, "accept": "image/*", "accept-encoding": "identity"},
            extensions={"sni_hostname": host},
        )
        answer = await client.send(request, stream=True)
        try:
            if answer.status_code in REDIRECTS:
                return answer.headers.get("location", "")
            return await _body(answer, limit)
        finally:
            await answer.aclose()

    async def _address(self, parts: SplitResult) -> str:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        addresses = await self.resolve(parts.hostname or "", port)
        if not addresses:
            raise LeftOutError("its host was not found")
        at_home = lies_on(parts.geturl(), self.github)
        if not at_home and not all(map(_is_public, addresses)):
            raise LeftOutError("its host lies in a private network")
        return addresses[0]


async def _body(answer: httpx2.Response, limit: int) -> bytes:
    """Raises LeftOutError as soon as it is known to be too large or compressed."""
    if answer.status_code != 200:
        raise LeftOutError(f"its host answered {answer.status_code}")
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise LeftOutError("its host sent it compressed")
    data = bytearray()
    async for piece in answer.aiter_raw():
        data += piece
        if len(data) > limit:
            raise LeftOutError("it is too large")
    return bytes(data)


def _checked(url: str, data: bytes, pixels: int) -> Image:
    header = read_header(data)
    if header is None:
        raise LeftOutError("it is no PNG, JPEG, GIF or WebP")
    if not (0 < header.width <= pixels and 0 < header.height <= pixels):
        raise LeftOutError(f"it has {header.width} x {header.height} pixels")
    return Image(url, header.media_type, data)


def _links(task: Task) -> tuple[str, ...]:
    """In the order of their worth: what asks for the work before what was said about it."""
    texts = [task.request, task.body, *(remark.text for remark in task.conversation)]
    return tuple(dict.fromkeys(link for text in texts for link in image_links(text)))


def _is_public(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_global and not found.is_multicast
