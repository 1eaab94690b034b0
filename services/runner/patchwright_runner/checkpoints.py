"""After each turn the conversation and the tree are kept, so that another runner can go on.

Both lie in the object store under their digests; which ones belong together stands in the
job's claim, written by the same compare-and-set that checks the epoch: a runner that was
overtaken cannot leave a checkpoint.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from patchwright_common import steps
from patchwright_common.bus import Bus
from patchwright_common.claims import Claims, Progress
from patchwright_common.errors import Permanent
from patchwright_common.flow import PW_CHECKPOINTS
from patchwright_runner.agent.protocol import Checkpoint
from patchwright_runner.sandbox.entries import Assembly
from patchwright_runner.sandbox.protocol import Entry, Limits

log = logging.getLogger(__name__)

TRANSCRIPT_BYTES = 64 * 2**20
"""Of a conversation, unpacked; a model's window holds a fraction of it."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A job after one of its turns."""

    agent: str
    """Its kind: another one cannot read the conversation."""
    checkpoint: Checkpoint
    entries: tuple[Entry, ...]
    """How the tree differs from the base."""


async def keep(bus: Bus, claims: Claims, job_id: str, epoch: int, moment: Moment) -> None:
    """Store it. Raises `Overtaken` when the job is no longer ours, `Retry` when NATS is away."""
    conversation = _packed(json.dumps(list(moment.checkpoint.transcript)).encode())
    progress = Progress(
        epoch=epoch,
        turn=moment.checkpoint.turns,
        agent=moment.agent,
        transcript_sha256=await bus.put(PW_CHECKPOINTS, conversation),
        tree_sha256=await bus.put(PW_CHECKPOINTS, _packed(written(moment.entries))),
    )
    steps.reached("runner.turn-stored")
    await claims.progress(job_id, epoch, progress)
    steps.reached("runner.turn-kept")


async def newest(bus: Bus, claims: Claims, job_id: str, limits: Limits) -> Moment | None:
    """Where the job can go on, or None for its beginning.

    What cannot be used any more costs the work, not the job. Raises `Retry` when NATS is away.
    """
    claim = await claims.claim(job_id)
    if claim is None or claim.progress is None:
        return None
    progress = claim.progress
    try:
        transcript = await _read(bus, progress.transcript_sha256, TRANSCRIPT_BYTES)
        tree = await _read(bus, progress.tree_sha256, limits.changed_bytes * 2 + 2**20)
        checkpoint = Checkpoint(progress.turn, _conversation(transcript))
        return Moment(progress.agent, checkpoint, read(tree, limits))
    except (Permanent, ValueError, KeyError, TypeError, zlib.error, RecursionError) as error:
        log.error("the checkpoint after turn %d cannot be used: %s", progress.turn, error)
        return None


def written(entries: Sequence[Entry]) -> bytes:
    """A line that lists them, then their contents. The same entries give the same bytes."""
    listed = [[entry.path, entry.mode, len(entry.content)] for entry in entries]
    return b"".join([json.dumps(listed).encode(), b"\n", *(entry.content for entry in entries)])


def read(data: bytes, limits: Limits) -> tuple[Entry, ...]:
    """Checked as if a box had reported them. Raises Permanent, ValueError or TypeError."""
    listed, _, contents = data.partition(b"\n")
    assembly = Assembly(limits)
    entries, at = [], 0
    for path, mode, size in json.loads(listed):
        item = {"path": path, "mode": mode, "size": size}
        entry = assembly.add(item, contents[at : at + size])
        if entry is None:
            raise ValueError("an entry without its end")
        entries.append(entry)
        at += size
    return tuple(entries)


def _conversation(data: bytes) -> Sequence[Mapping[str, Any]]:
    messages = json.loads(data)
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
        raise ValueError("not a conversation")
    return messages


def _packed(data: bytes) -> bytes:
    return zlib.compress(data, 1)


async def _read(bus: Bus, digest: str, limit: int) -> bytes:
    packed = await bus.get(PW_CHECKPOINTS, digest, limit=limit)
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(packed, limit)
    if unpacker.unconsumed_tail:
        raise ValueError("more than a checkpoint may hold")
    return data
