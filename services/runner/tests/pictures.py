"""The smallest images of each kind, or just their headers."""

from __future__ import annotations

import struct
import zlib


def png(width: int = 2, height: int = 3, *, comment: bytes = b"") -> bytes:
    """One that decodes, unless it is too large to be written here."""
    rows = b"".join(b"\0" + b"\x7f" * 3 * width for _ in range(height)) if width < 100 else b""
    parts = [
        _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        _chunk(b"tEXt", b"Comment\0" + comment),
        _chunk(b"IDAT", zlib.compress(rows)),
        _chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def gif(width: int = 2, height: int = 3) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0;"


def jpeg(width: int = 2, height: int = 3) -> bytes:
    application = b"\xff\xe0" + struct.pack(">H", 16) + b"JFIF\0" + b"\0" * 9
    table = b"\xff\xc4" + struct.pack(">H", 6) + b"\1\2\3\4"
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\1\x11\0"
    return b"\xff\xd8" + application + b"\xff" + table + frame + b"\xff\xd9"


def webp(kind: bytes, width: int = 2, height: int = 3) -> bytes:
    """`kind`: `VP8 ` (lossy), `VP8L` (lossless), `VP8X` (extended)."""
    body = _webp_body(kind, width, height)
    chunk = kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


def _webp_body(kind: bytes, width: int, height: int) -> bytes:
    match kind:
        case b"VP8 ":
            return b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height)
        case b"VP8L":
            return b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14)
        case _:
            sides = [(side - 1).to_bytes(3, "little") for side in (width, height)]
            return b"\0\0\0\0" + b"".join(sides)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
