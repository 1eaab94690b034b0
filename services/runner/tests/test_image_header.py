"""An image's type and size are read from its first bytes, and from nothing else."""

from __future__ import annotations

import pytest

from patchwright_runner.agent.image_header import Header, read_header

from .pictures import gif, jpeg, png, webp

KINDS = {
    "png": ("image/png", png),
    "gif": ("image/gif", gif),
    "jpeg": ("image/jpeg", jpeg),
    "webp lossy": ("image/webp", lambda w, h: webp(b"VP8 ", w, h)),
    "webp lossless": ("image/webp", lambda w, h: webp(b"VP8L", w, h)),
    "webp extended": ("image/webp", lambda w, h: webp(b"VP8X", w, h)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_known_with_its_size(kind: str) -> None:
    media_type, make = KINDS[kind]

    assert read_header(make(640, 481)) == Header(media_type, 640, 481)


@pytest.mark.parametrize("kind", KINDS)
def test_image_that_is_cut_off_is_none_at_any_byte(kind: str) -> None:
    media_type, make = KINDS[kind]
    data = make(640, 481)

    for length in range(len(data)):
        header = read_header(data[:length])
        assert header in (None, Header(media_type, 640, 481))
    assert read_header(data[:9]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<!DOCTYPE html><img src=x onerror=alert(1)>",
        b"BM\0\0\0\0",
        b"%PDF-1.7",
        b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rJUNK" + b"\0" * 20,
        b"RIFF\0\0\0\0WEBPJUNK" + b"\0" * 30,
        b"\xff\xd8\xff\xe0\0\0" + b"\xff" * 30,
        b"\xff\xd8" + b"\xff" * 3000,
    ],
)
def test_anything_else_is_no_image(data: bytes) -> None:
    assert read_header(data) is None
