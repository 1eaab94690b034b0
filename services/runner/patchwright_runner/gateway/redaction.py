"""Takes the key out of whatever goes into the sandbox, wherever the pieces of a stream are cut."""

from __future__ import annotations

MARK = b"[redacted]"


class Redactor:
    """For one stream. Holds back no more than what may be the beginning of the key."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What can be passed on now."""
        if not self._key:
            return data
        cleaned = (self._held + data).replace(self._key, MARK)
        begun = self._begun(cleaned)
        self._held = cleaned[len(cleaned) - begun :]
        return cleaned[: len(cleaned) - begun]

    def end(self) -> bytes:
        """The rest, at the end of the stream."""
        rest, self._held = self._held, b""
        return rest

    def _begun(self, cleaned: bytes) -> int:
        """How many of the last bytes could become the key."""
        longest = min(len(self._key) - 1, len(cleaned))
        return next((n for n in range(longest, 0, -1) if cleaned.endswith(self._key[:n])), 0)


def redacted(body: bytes, key: str) -> bytes:
    """A whole body without the key."""
    redactor = Redactor(key)
    return redactor.feed(body) + redactor.end()
