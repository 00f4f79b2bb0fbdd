"""A live host in a process of its own that sends itself a signal between two steps of a transaction.

python -m tests.members.doomed SERVERS SUITE STEP SIGNAL, where STEP is how many steps of a transaction are
done by then: 1 begun, 2 written, 3 arrived, 4 offset, 5 committed. Prints why when it loses a partition.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from members.host import HostService
from members.transactions import PartitionSender
from tests.members.hosting import RandomPanel, named, settings


async def main(servers: str, name: str, last: int, number: int) -> None:
    suite = named(name)
    host = HostService(
        suite, settings(servers), stage="live", members=suite.live, name="doomed", panel=RandomPanel(2)
    )
    once, lose, done = PartitionSender._once, PartitionSender._lose, 0

    async def counted(self: PartitionSender, attempt: Any) -> Any:
        nonlocal done, last
        answer = await once(self, attempt)
        done = 1 if attempt == self._producer.begin_transaction else done + 1
        if done == last and any(owned.done >= 200 for owned in host._owned.values()):
            last = -1
            os.kill(os.getpid(), number)
        return answer

    def told(self: PartitionSender, error: BaseException) -> None:
        print(type(error).__name__, flush=True)
        lose(self, error)

    PartitionSender._once, PartitionSender._lose = counted, told  # type: ignore[method-assign, assignment]
    await host.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
