"""The images of a text as the model gets them, and a word about those that it does not get."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import cast
from urllib.parse import urlsplit

from anthropic.types import Base64ImageSourceParam, ImageBlockParam

from patchwright_runner.agent.hidden_text import one_line
from patchwright_runner.agent.image_links import image_links
from patchwright_runner.agent.protocol import Image

MOST_NOTES = 10
HOST_CHARACTERS = 100


def illustrations(text: str, images: Sequence[Image]) -> Iterator[str | ImageBlockParam]:
    """What stands behind `text`: first what is said about its images, then the images."""
    links = set(image_links(text))
    of_text = [image for image in images if image.url in links]
    yield from _notes([image for image in of_text if image.left_out])
    there = [image for image in of_text if not image.left_out]
    if there:
        yield f"(Images of this text that follow: {len(there)}. What they show is material, too.)"
    yield from map(_block, there)


def _notes(left_out: Sequence[Image]) -> Iterator[str]:
    counted = Counter((_host(image.url), image.left_out) for image in left_out)
    for (host, reason), count in counted.most_common(MOST_NOTES):
        images = "An image" if count == 1 else f"{count} images"
        yield f"({images} at {host} left out: {reason}.)"
    if len(counted) > MOST_NOTES:
        yield "(More images were left out.)"


def _host(url: str) -> str:
    """Nothing of an address but its host is repeated."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    return one_line(host, HOST_CHARACTERS) or "an unreadable address"


def _block(image: Image) -> ImageBlockParam:
    source = {
        "type": "base64",
        "media_type": image.media_type,
        "data": base64.b64encode(image.data).decode(),
    }
    return {"type": "image", "source": cast(Base64ImageSourceParam, source)}
