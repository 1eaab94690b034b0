"""The git hook that refuses workflow files, in the words and the place that GitHub uses.

Run by git receive-pack as `proc-receive` (see `git help hooks`): a plain pre-receive hook could
only answer "pre-receive hook declined". Needs nothing but the standard library.
`STANDIN_WORKFLOWS` names the kind of token that may not write workflows; empty lets all through.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import BinaryIO

WORKFLOWS = ".github/workflows"


def read_packets(stream: BinaryIO) -> Iterator[str]:
    """The lines up to the next flush."""
    while True:
        length = int(stream.read(4) or b"0000", 16)
        if length == 0:
            return
        yield stream.read(length - 4).decode(errors="replace").rstrip("\n")


def write_packet(stream: BinaryIO, line: str) -> None:
    body = line.encode() + b"\n"
    stream.write(f"{len(body) + 4:04x}".encode() + body)


def flush(stream: BinaryIO) -> None:
    stream.write(b"0000")
    stream.flush()


def changed_workflow(new: str) -> str | None:
    """The first workflow file that commits new to this repository touch."""
    if set(new) == {"0"}:
        return None
    log = ["git", "log", "--format=", "--name-only", "--cc", "--full-history", new]
    paths = subprocess.run(
        [*log, "--not", "--all", "--", WORKFLOWS], capture_output=True, text=True, check=True
    ).stdout.split("\n")
    return next((path for path in paths if path), None)


def verdict(command: str, token_kind: str) -> list[str]:
    _, new, ref = command.split(" ", 2)
    path = changed_workflow(new) if token_kind else None
    if path is None:
        return [f"ok {ref}", "option fall-through"]
    return [
        f"ng {ref} refusing to allow {token_kind} to create or update workflow `{path}`"
        " without `workflows` permission"
    ]


def main() -> None:
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    offered = next(read_packets(source)).partition("\0")[2].split()
    list(read_packets(source))
    write_packet(sink, "version=1\0" + " ".join(o for o in offered if o == "atomic"))
    flush(sink)
    for command in list(read_packets(source)):
        for line in verdict(command, os.environ.get("STANDIN_WORKFLOWS", "")):
            write_packet(sink, line)
    flush(sink)


if __name__ == "__main__":
    main()
