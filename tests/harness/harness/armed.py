"""Runs a service that dies, or stops, the first time that it reaches a named step.

`python -m harness.armed <service>` reads orders, a JSON object a line: the `step`, the
`signal`, and what the child's `environment` has beside this one's. Each makes a child, which
is the service itself; it is a fork, because to import a service takes longer than to run it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import entry_points

from patchwright_common import steps

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Order:
    """What becomes of one child, and where."""

    step: str
    signal: int
    environment: dict[str, str] = field(default_factory=dict)

    def written(self) -> bytes:
        """As `main` reads it."""
        return json.dumps(asdict(self)).encode() + b"\n"


def arm(step: str, number: int) -> None:
    """From now on this process sends itself the signal when it gets there, once."""
    armed = [step]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == steps.EVENT and armed and arguments[0] == armed[0]:
            armed.clear()
            _say(f"by {os.getpid()}")
            os.kill(os.getpid(), number)
            time.sleep(0.1)  # `kill` may return before the last thread has stopped

    sys.addaudithook(hook)


def _say(text: str) -> None:
    os.write(1, f"{os.getpid()} {text}\n".encode())


def _play(entry: Callable[[], None], order: Order, parent: int) -> None:
    """In the child; never returns."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            return
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(order.environment)
        arm(order.step, order.signal)
        entry()
    except BaseException:  # noqa: BLE001 - a fork must not go on with its parent's code
        _say(f"ended with {traceback.format_exc()!r}")
    finally:
        os._exit(0)


def main() -> None:
    """Until the orders end; then no child is left."""
    [found] = entry_points(group="console_scripts", name=f"patchwright-{sys.argv[1]}")
    entry, parent, children = found.load(), os.getpid(), []
    for line in sys.stdin.buffer:
        order = Order(**json.loads(line))
        child = os.fork()
        if child == 0:
            _play(entry, order, parent)
        children.append(child)
        _say(f"made {child}")
    for child in children:
        os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
