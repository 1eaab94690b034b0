"""Git LFS objects, fetched into the mirror where git-lfs itself would keep them.

https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md, transfer `basic`. The token goes
to the repository's own host alone; whoever that host names for a download gets the headers that
it gives and nothing of ours.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from patchwright_common.errors import Permanent, Retry
from patchwright_git.remote import TokenRefusedError
from patchwright_github.address import lies_on

BATCH = 100
"""Objects that are asked for at once, at most as GitHub takes them."""
_SECONDS = 600.0
_SILENCE_SECONDS = 30.0
_JSON = "application/vnd.git-lfs+json"


@dataclass(frozen=True, slots=True)
class LargeObject:
    """By the SHA-256 of its content, in hex, and its size in bytes."""

    oid: str
    size: int

    def place(self, mirror: Path) -> Path:
        """Where it lies in the mirror, fetched or not."""
        return mirror / "lfs" / "objects" / self.oid[:2] / self.oid[2:4] / self.oid


class _Action(BaseModel):
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    href: str
    header: dict[str, str] = {}


class _Answered(BaseModel):
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    oid: str
    actions: dict[str, _Action] = {}
    error: dict[str, Any] | None = None


class _Batch(BaseModel):
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    objects: list[_Answered]


async def fetch(
    mirror: Path, clone_url: str, token: SecretStr, objects: Sequence[LargeObject]
) -> None:
    """Bring those that are not there yet. The mirror must be held; two may do it at once.

    Raises Retry for what time may cure, Permanent for what the server does not have.
    """
    missing = [one for one in objects if not one.place(mirror).exists()]
    timeout = httpx2.Timeout(_SILENCE_SECONDS)
    try:
        async with asyncio.timeout(_SECONDS), httpx2.AsyncClient(timeout=timeout) as client:
            for at in range(0, len(missing), BATCH):
                some = missing[at : at + BATCH]
                downloads = await _asked(client, clone_url, token, some)
                for one in some:
                    await _download(client, clone_url, downloads[one.oid], one, mirror)
    except TimeoutError as error:
        raise Retry(f"Fetching the LFS files took over {_SECONDS:.0f} s.") from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise Retry(f"Fetching the LFS files failed: {type(error).__name__}.") from error


async def _asked(
    client: httpx2.AsyncClient,
    clone_url: str,
    token: SecretStr,
    objects: Sequence[LargeObject],
) -> dict[str, _Action]:
    answer = await client.post(
        f"{clone_url.rstrip('/')}/info/lfs/objects/batch",
        headers={"accept": _JSON, "content-type": _JSON},
        auth=("x-access-token", token.get_secret_value()),
        json={
            "operation": "download",
            "transfers": ["basic"],
            "objects": [{"oid": one.oid, "size": one.size} for one in objects],
        },
    )
    if answer.status_code == httpx2.codes.UNAUTHORIZED:
        raise TokenRefusedError("The LFS server did not accept the token.")
    if answer.status_code in (403, 404, 410, 422, 501):
        raise Permanent(
            f"The repository's LFS server answered {answer.status_code}.",
            advice="Check that the repository has LFS files, or take `lfs` out of its "
            "`.github/patchwright.yml`.",
        )
    if not answer.is_success:
        raise Retry(f"The LFS server answered {answer.status_code}.")
    try:
        found = {one.oid: one for one in _Batch.model_validate_json(answer.content).objects}
    except ValidationError as error:
        raise Retry("The LFS server's answer could not be read.") from error
    return {one.oid: _download_of(found.get(one.oid), one) for one in objects}


def _download_of(answered: _Answered | None, one: LargeObject) -> _Action:
    if answered is None or "download" not in answered.actions:
        raise Permanent(f"The LFS server does not have the object {one.oid[:12]}….")
    return answered.actions["download"]


async def _download(
    client: httpx2.AsyncClient, clone_url: str, action: _Action, one: LargeObject, mirror: Path
) -> None:
    if urlsplit(action.href).scheme != "https" and not lies_on(action.href, clone_url):
        raise Permanent("The LFS server names a download that is not a https address.")
    place = one.place(mirror)
    place.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: what a killed runner left is not taken for the object.
    partial = place.with_name(f"{place.name}.{secrets.token_hex(4)}.part")
    try:
        async with client.stream("GET", action.href, headers=action.header) as answer:
            if answer.status_code != httpx2.codes.OK:
                raise Retry(f"An LFS download was answered {answer.status_code}.")
            await _write(answer, partial, one)
        os.replace(partial, place)  # noqa: PTH105 - atomic, by its plain name
    finally:
        partial.unlink(missing_ok=True)


async def _write(answer: httpx2.Response, partial: Path, one: LargeObject) -> None:
    digest, left = hashlib.sha256(), one.size
    with partial.open("wb") as file:
        async for piece in answer.aiter_bytes():
            left -= len(piece)
            if left < 0:
                break
            digest.update(piece)
            file.write(piece)
    if left or digest.hexdigest() != one.oid:
        raise Retry(f"The LFS object {one.oid[:12]}… did not arrive as it was announced.")
