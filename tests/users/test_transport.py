"""Faust's client, where the users stage changes it, without a Kafka."""

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace

from aiokafka.errors import IllegalStateError
from faust.types import TP

from workers.users.transport import UsersTransport

OURS = TP("changelog", 0)
NEW = TP("changelog", 1)
LOST = TP("changelog", 2)


def test_a_rebalance_in_the_middle_of_a_recovery_does_not_crash_the_process() -> None:
    """Faust has looked up the offsets before the rebalance: a new partition has none."""
    sought: list[Mapping[TP, int]] = []

    async def seek_wait(partitions: Mapping[TP, int]) -> None:
        sought.append(dict(partitions))
        raise IllegalStateError("a partition was revoked while the thread was asked")

    consumer = UsersTransport.Consumer.__new__(UsersTransport.Consumer)
    consumer._thread = SimpleNamespace(seek_wait=seek_wait, assignment=lambda: {OURS, NEW})
    asyncio.run(consumer.seek_wait({OURS: 7, NEW: None, LOST: 3}))
    assert sought == [{OURS: 7}]
