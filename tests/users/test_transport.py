"""Faust's client, where the users stage changes it, without a Kafka."""

import asyncio
import time
from collections.abc import Mapping
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError
from faust.types import TP

from workers.users.faults import OffsetsGone, StageFailed, TopicReplaced, UsersFault
from workers.users.transport import UsersTransport, _Thread

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


@pytest.mark.parametrize(
    ("beginning", "end", "fault"),
    [(20, 30, OffsetsGone), (0, 5, TopicReplaced), (0, 30, StageFailed)],
)
def test_a_position_that_the_broker_does_not_have_ends_the_stage_once(
    beginning: int, end: int, fault: type[UsersFault]
) -> None:
    """aiokafka would begin again at the first record that is left."""
    faults = asyncio.run(refuse_reset(position=10, beginning=beginning, end=end))
    assert [type(each) for each in faults] == [fault]


def test_when_a_broker_was_last_heard_is_the_latest_of_all_connections() -> None:
    thread = _Thread.__new__(_Thread)
    assert thread.heard_s() == float("inf")
    now = time.monotonic()
    connections = {number: SimpleNamespace(_last_action=now - 10 * number) for number in (3, 1, 2)}
    thread._consumer = SimpleNamespace(_client=SimpleNamespace(_conns=connections))
    assert 10 <= thread.heard_s() < 20
    connections.clear()
    assert thread.heard_s() == float("inf")


def test_a_kafka_that_is_away_then_ends_the_stage_too() -> None:
    faults = asyncio.run(refuse_reset(position=None, beginning=0, end=0))
    assert [type(each) for each in faults] == [StageFailed]


async def refuse_reset(*, position: int | None, beginning: int, end: int) -> list[UsersFault]:
    """The faults after aiokafka has twice found that it cannot read on. Without a position, Kafka
    does not answer.
    """
    tp = TopicPartition("requests", 0)
    faults: list[UsersFault] = []

    async def position_of(_tp: TopicPartition) -> int:
        if position is None:
            raise KafkaError("no answer")
        return position

    async def offsets(value: int) -> Mapping[TopicPartition, int]:
        return {tp: value}

    consumer = SimpleNamespace(
        position=position_of,
        beginning_offsets=lambda _tps: offsets(beginning),
        end_offsets=lambda _tps: offsets(end),
    )
    thread = _Thread.__new__(_Thread)
    thread._out_of_range = {}
    thread.app = SimpleNamespace(stage=SimpleNamespace(fail=faults.append))
    thread.parent_loop = asyncio.get_running_loop()
    thread._ensure_consumer = lambda: consumer
    thread._refuse_reset(tp, -2)
    thread._refuse_reset(tp, -2)
    await asyncio.gather(*thread._out_of_range.values())
    await asyncio.wait([asyncio.ensure_future(offsets(0))])
    return faults
