"""What the first bytes of an image say: its type and size. Nothing is decoded.

Formats: PNG (RFC 2083), GIF89a, JPEG (ITU T.81, annex B), WebP (RFC 9649).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Header:
    """Pixels, as the file claims."""

    media_type: str
    width: int
    height: int


def read_header(data: bytes) -> Header | None:
    """None for anything but a PNG, JPEG, GIF or WebP whose size can be read."""
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
            return Header("image/png", *struct.unpack(">II", data[16:24]))
        if data[:6] in (b"GIF87a", b"GIF89a"):
            return Header("image/gif", *struct.unpack("<HH", data[6:10]))
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return Header("image/webp", *_webp(data))
        if data.startswith(b"\xff\xd8\xff"):
            return Header("image/jpeg", *_jpeg(data))
    except (struct.error, IndexError, ValueError):
        pass
    return None


def _webp(data: bytes) -> tuple[int, int]:
    match data[12:16]:
        case b"VP8 ":
            width, height = struct.unpack("<HH", data[26:30])
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            (bits,) = struct.unpack("<I", data[21:25])
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            width, height = data[24:27], data[27:30]
            if len(height) == 3:
                return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1
    raise ValueError("no WebP")


def _jpeg(data: bytes) -> tuple[int, int]:
    """From the frame's header, which stands behind segments that say how long they are."""
    place = 2
    while data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        # SOF0 to SOF15 begin a frame; DHT, JPG and DAC lie between them.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[place + 5 : place + 9])
            return width, height
        (length,) = struct.unpack(">H", data[place + 2 : place + 4])
        if length < 2:
            break
        place += 2 + length
    raise ValueError("no frame")
