"""Events in a partition that murmur2 does not give their key: counted, or refused."""

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from tests.builders import event
from workers.assembly.assembler import NO_TIME, Assembler, Mark
from workers.counts import Counts
from workers.ranking.refusal import EventRefused, Reason
from workers.streaming.placement import Placement

AT_HOME = {"r-1": 3, "req-000123": 1, "user-42": 0, "日本": 3}
"""Of four partitions, as schemas/README.md says."""


class Topic:
    """A topic whose count of partitions the test sets, judged by a clock that it moves."""

    def __init__(self, is_required: bool = False) -> None:
        self.counts = Counts()
        self.answers: Iterator[int | None] = iter(())
        self.asked = 0
        self.now = 100.0
        self.placement = Placement(4, is_required, self.counts, self.ask, lambda: self.now)

    def ask(self) -> int | None:
        self.asked += 1
        return next(self.answers)

    def refusal(self, partition: int, request_id: str) -> EventRefused:
        with pytest.raises(EventRefused) as refused:
            self.placement.check(partition, request_id)
        return refused.value


@pytest.mark.parametrize("is_required", [False, True])
def test_what_is_in_its_place_is_not_counted_and_costs_no_question(is_required: bool) -> None:
    topic = Topic(is_required)
    topic.now += 1000
    for request_id, partition in AT_HOME.items():
        topic.placement.check(partition, request_id)
    assert (topic.counts.misplaced, topic.asked) == (0, 0)


def test_what_is_elsewhere_is_counted_each_time_and_logged_once_with_key_and_both_partitions() -> (
    None
):
    topic = Topic()
    with capture_logs() as logs:
        for request_id, partition in AT_HOME.items():
            topic.placement.check((partition + 1) % 4, request_id)
    assert topic.counts.misplaced == 4
    (entry,) = logs
    assert entry["event"] == "partitioner_differs"
    assert (entry["key"], entry["partition"], entry["expected"], entry["partitions"]) == (
        "'r-1'",
        0,
        3,
        4,
    )


def test_if_murmur2_is_required_it_is_refused_each_time_and_the_message_says_where_it_belongs() -> (
    None
):
    topic = Topic(is_required=True)
    for _ in range(2):
        refused = topic.refusal(1, "日本")
        assert refused.reason is Reason.PARTITION
        assert refused.message.startswith(
            "partition: got 1, expected 3 of 4 by murmur2 of the key '日本'; "
        )
    assert topic.counts.misplaced == 2


def test_partitions_that_were_added_meanwhile_are_asked_for_and_both_counts_are_right_from_then_on() -> (
    None
):
    topic = Topic(is_required=True)
    topic.answers = iter([16])
    topic.now += 5
    with capture_logs() as logs:
        topic.placement.check(7, "r-1")
    topic.placement.check(3, "r-1")
    assert [entry["event"] for entry in logs] == ["partitions_added"]
    assert "expected 7 of 16" in topic.refusal(4, "r-1").message
    assert topic.counts.misplaced == 1


def test_the_count_is_asked_for_once_in_a_while_and_a_broker_that_does_not_answer_changes_nothing() -> (
    None
):
    topic = Topic(is_required=True)
    topic.answers = iter([None, 4])
    for _ in range(100):
        topic.refusal(0, "r-1")
        topic.now += 0.1
    assert topic.asked == 1
    topic.now += 5
    topic.refusal(0, "r-1")
    assert topic.asked == 2


def assembler(topic: Topic, partition: int) -> Assembler:
    return Assembler(
        Mark(0, 0, NO_TIME, 0),
        admit=lambda request_id: topic.placement.check(partition, request_id),
    )


def test_a_request_is_judged_once_however_many_events_it_has() -> None:
    topic = Topic()
    elsewhere = assembler(topic, 0)
    for offset, item in enumerate("abc"):
        elsewhere.observe(offset, 1000)
        elsewhere.take(event("r-1", item, expected=3), offset, 1000)
    assert [request.item_ids for request in elsewhere.take_closed()] == [("a", "b", "c")]
    assert topic.counts.misplaced == 1


def test_a_refused_request_never_opens_so_each_of_its_events_is_refused() -> None:
    topic = Topic(is_required=True)
    elsewhere = assembler(topic, 0)
    for offset, item in enumerate("abc"):
        elsewhere.observe(offset, 1000)
        with pytest.raises(EventRefused, match="partition: got 0, expected 3 of 4"):
            elsewhere.take(event("r-1", item, expected=3), offset, 1000)
    assert (elsewhere.open_requests, topic.counts.misplaced) == (0, 3)


def test_the_partition_is_judged_before_what_the_stream_knows() -> None:
    topic = Topic(is_required=True)
    elsewhere = assembler(topic, 0)
    elsewhere.remember("r-1", 10**9, 0)
    elsewhere.observe(0, 10**6)
    for requested_at in (0, 10**6, 10**9):
        with pytest.raises(EventRefused) as refused:
            elsewhere.take(event("r-1", "a", requested_at=requested_at), 0, 10**6)
        assert refused.value.reason is Reason.PARTITION
