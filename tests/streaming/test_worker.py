"""The loop itself, where what it is made of is a stand-in."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from workers.streaming.hanging_calls import Pulse
from workers.streaming.ownership import NotRead, PartitionState
from workers.streaming.publisher import Fenced, ProducerLost
from workers.streaming.reachability import BrokerReachability
from workers.streaming.worker import Parts, Worker


class Batches:
    """A consumer whose queue is filled up as fast as it is emptied."""

    def __init__(self, count: int) -> None:
        self.left = count

    def poll(self, _seconds: float) -> object:
        return self._message

    def consume(self, _most: int, _seconds: float) -> list[object]:
        self.left -= 1
        return [self._message] if self.left > 0 else []

    _message = SimpleNamespace(partition=lambda: 0, error=lambda: None)


def test_a_backlog_of_large_events_is_no_hanging_loop_every_batch_of_it_is_a_turn() -> None:
    turns: list[int] = []
    pulse = Pulse()
    nothing_owned: dict[int, Any] = {}
    parts = SimpleNamespace(
        consumer=Batches(10),
        ownership=SimpleNamespace(partitions=nothing_owned, restoring=False),
        outlet=SimpleNamespace(has_room=lambda _: True),
        reach=SimpleNamespace(heard=lambda: turns.append(pulse.turns)),
        pulse=pulse,
    )
    Worker(cast(Parts, parts))._consume()
    assert turns == list(range(1, 11))


def worker_with(reach: BrokerReachability, starts: list[int] | None = None) -> Worker:
    """A worker that starts again at once, with no partition. Each start is noted in `starts`."""
    noted = [] if starts is None else starts
    parts = SimpleNamespace(
        reach=reach,
        pulse=Pulse(),
        publisher=SimpleNamespace(start=lambda: True),
        ownership=SimpleNamespace(
            let_go=list, begin_anew=lambda numbers: noted.append(len(numbers))
        ),
    )
    return Worker(cast(Parts, parts))


def test_a_worker_that_is_fenced_twice_while_the_broker_is_well_shares_its_slot_and_ends() -> None:
    worker = worker_with(BrokerReachability())
    worker._start_anew(Fenced("by a newer instance"))
    with pytest.raises(Fenced):
        worker._start_anew(Fenced("by a newer instance"))


def test_a_worker_that_is_fenced_while_the_broker_comes_and_goes_may_have_done_so_itself() -> None:
    reach = BrokerReachability()
    starts: list[int] = []
    worker = worker_with(reach, starts)
    for _ in range(3):
        reach.lost("connection refused")
        reach.heard()
        worker._start_anew(Fenced("by a newer instance"))
    assert len(starts) == 3


def test_a_worker_that_gave_up_a_call_may_be_fenced_by_it_later() -> None:
    starts: list[int] = []
    worker = worker_with(BrokerReachability(), starts)
    worker._start_anew(ProducerLost("no return within 7 s", cause="commit_transaction"))
    for _ in range(3):
        worker._start_anew(Fenced("by a newer instance"))
    assert len(starts) == 4


def test_a_drain_is_no_clean_one_if_a_partition_was_taken_out_with_what_was_closed_in_it() -> None:
    failing = NotRead(PartitionState.FAILING, "a fault", since=0.0)
    nothing_owned: dict[int, Any] = {}
    parts = SimpleNamespace(
        consumer=SimpleNamespace(list_topics=lambda *_, **__: None),
        ownership=SimpleNamespace(partitions=nothing_owned, not_read={3: failing}),
        outlet=SimpleNamespace(drain=lambda _: None),
        topics=SimpleNamespace(candidates="candidates"),
    )
    with pytest.raises(ProducerLost, match=r"partitions \[3\] fail"):
        Worker(cast(Parts, parts))._drain()
