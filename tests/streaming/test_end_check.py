"""Closing by the idle clock, with a broker that answers when the test wants it. On a real one:
tests/integration.
"""

from concurrent.futures import Future
from typing import Any, cast

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo  # type: ignore[attr-defined]

from tests.builders import HOME, event
from workers.assembly.assembler import NO_TIME, Assembler, Mark
from workers.streaming.end_check import EndCheck
from workers.streaming.ranking_partition import RankingPartition

DEADLINE: int = HOME.deadline_ms


class Broker:
    """Stands in for clients of a broker: keeps their questions until the test answers."""

    def __init__(self) -> None:
        self.clients = 0
        self.requests: list[dict[int, Future[Any]]] = []
        self.is_refusing = False

    def new_client(self) -> AdminClient:
        if self.is_refusing:
            raise KafkaException(KafkaError(KafkaError._FAIL))
        self.clients += 1
        return cast(AdminClient, self)

    def list_offsets(
        self,
        places: dict[TopicPartition, Any],
        isolation_level: IsolationLevel,
        request_timeout: float,
    ) -> dict[TopicPartition, Future[Any]]:
        assert isolation_level is IsolationLevel.READ_UNCOMMITTED, (
            "else the last stable offset is the answer"
        )
        assert {where.topic for where in places} == {"candidates"}
        futures: dict[TopicPartition, Future[Any]] = {where: Future() for where in places}
        self.requests.append({where.partition: future for where, future in futures.items()})
        return futures

    def answer(self, partition: int, high_watermark: int) -> None:
        self.requests[-1][partition].set_result(ListOffsetsResultInfo(high_watermark, -1, 0))

    def fail(self, partition: int) -> None:
        self.requests[-1][partition].set_exception(
            KafkaException(KafkaError(KafkaError._TIMED_OUT))
        )


class Idle:
    """One partition with an open request, read to its end at offset 1."""

    def __init__(self, number: int = 0) -> None:
        self.partition = RankingPartition(number, Assembler(Mark(0, 0, NO_TIME, 0)))
        self.take(0, 1000, "first")
        self.partition.reached_end(1)

    def take(self, offset: int, timestamp: int, item: str, request_id: str = "r") -> None:
        self.partition.read_on()
        self.partition.assembler.observe(offset, timestamp)
        self.partition.assembler.take(event(request_id, item, expected=2), offset, timestamp)

    def idle(self, milliseconds: int) -> None:
        for _ in range(milliseconds // 50):
            self.partition.pass_idle(50.0)

    @property
    def closed(self) -> list[tuple[str, int]]:
        """How each request that has closed since the last look did so, and with how many items."""
        return [
            (str(request.completion), len(request.item_ids))
            for request in self.partition.assembler.take_closed()
        ]


class Loop:
    """Steps of the worker, a twentieth of a second apart by its clock."""

    def __init__(self, broker: Broker, *idle: Idle) -> None:
        self.check = EndCheck(broker.new_client, "candidates")
        self.partitions = [one.partition for one in idle]
        self.now = 100.0

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            self.now += 0.05
            self.check.close_idle(self.partitions, self.now)


def due() -> tuple[Broker, Idle, Loop]:
    """A partition on which a deadline has passed by the idle clock, and the broker was asked."""
    broker, idle = Broker(), Idle()
    loop = Loop(broker, idle)
    idle.idle(DEADLINE + 50)
    loop.step()
    assert len(broker.requests) == 1
    return broker, idle, loop


def test_a_partition_on_which_nothing_is_due_costs_no_question_and_no_client() -> None:
    broker, idle = Broker(), Idle()
    loop = Loop(broker, idle)
    idle.idle(DEADLINE)
    loop.step(1000)
    assert (broker.clients, broker.requests, idle.closed) == (0, [], [])


def test_what_is_due_closes_once_the_broker_has_confirmed_the_end_and_is_asked_for_once() -> None:
    broker, idle, loop = due()
    loop.step(100)
    assert idle.closed == []
    broker.answer(0, 1)
    loop.step(100)
    assert idle.closed == [("deadline", 1)]
    assert len(broker.requests) == broker.clients == 1


def test_behind_an_undecided_transaction_nothing_closes_and_the_broker_is_asked_again_a_while_later() -> (
    None
):
    broker, idle, loop = due()
    broker.answer(0, 3)
    loop.step()
    loop.step(4)
    assert len(broker.requests) == 1
    loop.step(2)
    assert len(broker.requests) == 2
    broker.answer(0, 3)
    loop.step(100)
    assert idle.closed == []


def test_what_a_transaction_held_back_is_taken_by_its_own_time_however_late_it_is_committed() -> (
    None
):
    broker, idle, loop = due()
    broker.answer(0, 3)
    loop.step()
    idle.idle(10 * DEADLINE)
    idle.take(1, 1100, "second")
    loop.step(100)
    assert idle.closed == [("full", 2)]


def test_after_an_undone_transaction_the_request_closes_without_waiting_out_its_deadline_again() -> (
    None
):
    broker, idle, loop = due()
    broker.answer(0, 3)
    loop.step()
    idle.partition.reached_end(3)
    loop.step(10)
    broker.answer(0, 3)
    loop.step()
    assert idle.closed == [("deadline", 1)]


def test_an_answer_for_an_end_that_was_passed_since_closes_nothing() -> None:
    broker, idle, loop = due()
    idle.take(1, 1000 + DEADLINE, "another", request_id="other")
    idle.partition.reached_end(2)
    broker.answer(0, 1)
    loop.step()
    assert idle.closed == []


def test_what_becomes_due_after_the_question_needs_another_one() -> None:
    broker, idle = Broker(), Idle()
    idle.take(1, 1000, "early", request_id="early")
    idle.take(2, 1400, "late", request_id="late")
    idle.partition.reached_end(3)
    loop = Loop(broker, idle)
    idle.idle(DEADLINE - 350)
    loop.step()
    idle.idle(1000)
    broker.answer(0, 3)
    loop.step()
    assert len(idle.closed) == 2
    assert len(broker.requests) == 2
    broker.answer(0, 3)
    loop.step()
    assert len(idle.closed) == 1


def test_a_broker_that_answers_with_an_error_is_asked_again_after_a_second_by_a_new_client() -> (
    None
):
    broker, idle, loop = due()
    for round_ in range(1, 4):
        broker.fail(0)
        loop.step(15)
        assert len(broker.requests) == broker.clients == round_
        loop.step(10)
        assert len(broker.requests) == broker.clients == round_ + 1
    assert idle.closed == []
    broker.answer(0, 1)
    loop.step()
    assert idle.closed == [("deadline", 1)]


def test_a_client_that_never_answers_is_replaced_and_its_late_answer_is_not_heard() -> None:
    broker, idle, loop = due()
    loop.step(250)
    assert len(broker.requests) == broker.clients == 2
    broker.requests[0][0].set_result(ListOffsetsResultInfo(1, -1, 0))
    loop.step()
    assert idle.closed == []
    broker.answer(0, 1)
    loop.step()
    assert idle.closed == [("deadline", 1)]


def test_where_no_client_can_be_made_nothing_closes_and_it_is_tried_again() -> None:
    broker, idle = Broker(), Idle()
    broker.is_refusing = True
    loop = Loop(broker, idle)
    idle.idle(DEADLINE + 50)
    loop.step(10)
    broker.is_refusing = False
    loop.step(5)
    assert broker.requests == []
    loop.step(10)
    broker.answer(0, 1)
    loop.step()
    assert idle.closed == [("deadline", 1)]


def test_several_partitions_are_asked_about_in_one_request_and_each_has_its_own_answer() -> None:
    broker, idle = Broker(), [Idle(number) for number in (0, 4, 7)]
    loop = Loop(broker, *idle)
    for one in idle[:2]:
        one.idle(DEADLINE + 50)
    loop.step()
    assert [sorted(asked) for asked in broker.requests] == [[0, 4]]
    broker.answer(4, 1)
    loop.step()
    assert [one.closed for one in idle] == [[], [("deadline", 1)], []]
    idle[2].idle(DEADLINE + 50)
    loop.step()
    assert [sorted(asked) for asked in broker.requests] == [[0, 4], [7]]


def test_a_partition_that_was_lost_meanwhile_is_left_alone_and_a_successor_is_asked_about_anew() -> (
    None
):
    broker, lost, loop = due()
    again = Idle()
    loop.partitions = [again.partition]
    broker.answer(0, 1)
    loop.step()
    assert lost.closed == again.closed == []
    again.idle(DEADLINE + 50)
    loop.step()
    assert len(broker.requests) == 2
    broker.answer(0, 1)
    loop.step()
    assert (lost.closed, again.closed) == ([], [("deadline", 1)])
