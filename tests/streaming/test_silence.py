"""Partitions of which nothing comes although there is more to read."""

import pytest

from workers.assembly.assembler import NO_TIME, Assembler, Mark
from workers.streaming.partition import Partition
from workers.streaming.silence import SILENT_SECONDS, Silence
from workers.streaming.unreadable import Unreadable

MORE = {3: 10}


@pytest.fixture
def partition() -> Partition:
    return Partition(3, Assembler(Mark(5, 0, NO_TIME, 5)))


def silent_after(
    partition: Partition, seconds: float, ends: dict[int, int] = MORE, *, is_reachable: bool = True
) -> bool:
    """Whether the partition is found after some seconds, looked at each second."""
    silence = Silence()
    found = [
        silence.look([partition], ends, now, is_reachable=is_reachable)
        for now in range(int(seconds) + 1)
    ]
    return found[-1] == [partition]


def test_a_partition_that_brings_nothing_for_long_though_there_is_more_is_found(
    partition: Partition,
) -> None:
    assert not silent_after(partition, SILENT_SECONDS - 1)
    assert silent_after(partition, SILENT_SECONDS)


def test_a_partition_at_its_end_is_only_quiet(partition: Partition) -> None:
    """An upstream transaction is not decided, for one: the log goes on, and the client is at its
    end.
    """
    partition.reached_end(5)
    assert not silent_after(partition, 10 * SILENT_SECONDS)
    partition.read_on()
    assert not silent_after(partition, 10 * SILENT_SECONDS, ends={3: 5})
    assert not silent_after(partition, 10 * SILENT_SECONDS, ends={})


def test_what_is_not_read_is_not_silent(partition: Partition) -> None:
    partition.is_paused = True
    assert not silent_after(partition, 10 * SILENT_SECONDS)
    partition.is_paused = False
    partition.unreadable = Unreadable(5, "", 0.0, 0.0)
    assert not silent_after(partition, 10 * SILENT_SECONDS)


def test_a_broker_that_does_not_answer_makes_no_partition_silent(partition: Partition) -> None:
    assert not silent_after(partition, 10 * SILENT_SECONDS, is_reachable=False)
    silence = Silence()
    for now in range(100):
        assert silence.look([partition], MORE, now, is_reachable=now % 20 > 0) == []


def test_each_record_begins_the_silence_anew(partition: Partition) -> None:
    silence = Silence()
    for now in range(100):
        if now % 20 == 0:
            partition.assembler.observe(partition.assembler.next, 1000)
        assert silence.look([partition], {3: 1000}, now, is_reachable=True) == []
