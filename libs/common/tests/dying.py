"""A process that dies while it handles a message: `dying.py URL WHERE TIMES`.

WHERE is `handler`, `acknowledgement` (the effect is made), or how many steps of giving
up are taken before the end.
Each death is a process of its own, forked before anything is connected.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from patchwright_common.bus import Bus
from patchwright_common.errors import Permanent
from patchwright_common.flow import RUNNER_JOB_READIED, RetryPolicy
from patchwright_common.messaging import Deliveries, Delivery

CONSUMER = replace(RUNNER_JOB_READIED, policy=RetryPolicy("brisk", (0.1,), limit=3))


class DyingClient(Client):
    """A real connection whose process is gone instead of the request that follows `left` others.

    All that the delivery rules do to settle a message are requests.
    """

    left = sys.maxsize

    async def request(self, subject: str, *args: Any, **kwargs: Any) -> Msg:
        if self.left == 0:
            os._exit(9)
        self.left -= 1
        return await super().request(subject, *args, **kwargs)


async def take_one(url: str, where: str) -> None:
    client = DyingClient()
    await client.connect(url)
    bus = Bus(client)

    async def handle(delivery: Delivery) -> None:
        if where == "handler":
            os._exit(9)
        client.left = 0 if where == "acknowledgement" else int(where)
        if where != "acknowledgement":
            raise Permanent("It cannot be done.")

    subscription = await bus.js.pull_subscribe_bind(durable=CONSUMER.name, stream="PW_EVENTS")
    [message] = await subscription.fetch(1, timeout=10)
    await Deliveries(bus).process(message, CONSUMER, handle)


def main() -> None:
    url, where, times = sys.argv[1:]
    for _ in range(int(times)):
        child = os.fork()
        if child == 0:
            asyncio.run(take_one(url, where))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != 9:
            sys.exit("it did not die")


if __name__ == "__main__":
    main()
