"""The loop itself, starting again, and draining. What they are made of is a stand-in."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import Consumer

from workers.streaming.dispatch import Dispatcher
from workers.streaming.hanging_calls import Pulse
from workers.streaming.lifecycle import Restarts, drain
from workers.streaming.outlet import Outlet
from workers.streaming.ownership import NotRead, Ownership, PartitionState
from workers.streaming.publisher import Fenced, ProducerLost, Publisher
from workers.streaming.reachability import BrokerReachability
from workers.streaming.worker import Worker


class Batches:
    """A consumer whose queue is filled up as fast as it is emptied."""

    def __init__(self, count: int) -> None:
        self.left = count

    def poll(self, _seconds: float) -> object:
        return self._message

    def consume(self, _most: int, _seconds: float) -> list[object]:
        self.left -= 1
        return [self._message] if self.left > 0 else []

    _message = SimpleNamespace(partition=lambda: 0, offset=lambda: 0, error=lambda: None)


def test_a_backlog_of_large_events_is_no_hanging_loop_every_batch_of_it_is_a_turn() -> None:
    turns: list[int] = []
    pulse = Pulse()
    nothing_owned: dict[int, Any] = {}
    ownership: Any = SimpleNamespace(partitions=nothing_owned, is_restoring=False)
    reachability: Any = SimpleNamespace(heard=lambda: turns.append(pulse.turns))
    unused: Any = None
    intake: Any = SimpleNamespace(take=unused)  # no partition is owned: each record is dropped
    worker = Worker(
        group="g",
        topic="candidates",
        consumer=cast(Consumer, Batches(10)),
        ownership=ownership,
        dispatcher=Dispatcher("candidates", ownership, intake, reachability, unused),
        end_check=unused,
        emitter=cast(Any, SimpleNamespace(has_room=lambda _: True)),
        outlet=unused,
        restarts=unused,
        reachability=reachability,
        lag=unused,
        pulse=pulse,
        describe_stage=dict,
    )
    worker._consume()
    assert turns == list(range(1, 11))


def restarts_with(
    reachability: BrokerReachability, starts: list[int] | None = None
) -> Restarts[Any, Any]:
    """Restarts of a worker without partitions, whose producer starts at once. Each restart is noted
    in `starts`.
    """
    noted = [] if starts is None else starts
    publisher = SimpleNamespace(start=lambda: True)
    ownership = SimpleNamespace(
        drop_all=list, restore_again=lambda numbers: noted.append(len(numbers))
    )
    return Restarts(
        cast(Publisher, publisher), cast("Ownership[Any, Any]", ownership), reachability, Pulse()
    )


def never() -> bool:
    return False


def test_a_worker_that_is_fenced_twice_while_the_broker_is_well_shares_its_slot_and_ends() -> None:
    restarts = restarts_with(BrokerReachability())
    restarts.start_again(Fenced("by a newer instance"), never)
    with pytest.raises(Fenced):
        restarts.start_again(Fenced("by a newer instance"), never)


def test_a_worker_that_is_fenced_while_the_broker_comes_and_goes_may_have_done_so_itself() -> None:
    reachability = BrokerReachability()
    starts: list[int] = []
    restarts = restarts_with(reachability, starts)
    for _ in range(3):
        reachability.lost("connection refused")
        reachability.heard()
        restarts.start_again(Fenced("by a newer instance"), never)
    assert len(starts) == 3


def test_a_worker_that_gave_up_a_call_may_be_fenced_by_it_later() -> None:
    starts: list[int] = []
    restarts = restarts_with(BrokerReachability(), starts)
    restarts.start_again(ProducerLost("no return within 7 s", cause="commit_transaction"), never)
    for _ in range(3):
        restarts.start_again(Fenced("by a newer instance"), never)
    assert len(starts) == 4


def test_a_worker_that_is_stopped_while_no_producer_can_be_started_ends_with_the_cause() -> None:
    publisher = SimpleNamespace(start=lambda: False)
    ownership = SimpleNamespace(drop_all=list)
    restarts = Restarts(
        cast(Publisher, publisher),
        cast("Ownership[Any, Any]", ownership),
        BrokerReachability(),
        Pulse(),
    )
    with pytest.raises(ProducerLost, match="no return"):
        restarts.start_again(ProducerLost("no return within 7 s"), lambda: True)


def test_a_drain_is_no_clean_one_if_a_partition_was_taken_out_with_what_was_closed_in_it() -> None:
    failing = NotRead(PartitionState.FAILING, "a fault", since=0.0)
    nothing_owned: dict[int, Any] = {}
    consumer = SimpleNamespace(list_topics=lambda *_, **__: None)
    ownership = SimpleNamespace(partitions=nothing_owned, not_read={3: failing})
    outlet = SimpleNamespace(drain=lambda _: None)
    with pytest.raises(ProducerLost, match=r"partitions \[3\] fail"):
        drain(
            cast(Consumer, consumer),
            cast("Ownership[Any, Any]", ownership),
            cast("Outlet[Any]", outlet),
            "candidates",
        )
