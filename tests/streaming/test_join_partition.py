"""A partition of the join: what it commits is what a restore starts from, and what waits to go out."""

import pytest

from tests.streaming.join_building import SENT_AT, feed_record, join_partition
from workers.codec.pointer import Pointer, Span, read_pointer, write_pointer
from workers.outcomes.join import Due, JoinMark
from workers.outcomes.sums import SumsLedger
from workers.streaming.join_partition import JoinPartition
from workers.streaming.partition import Position

WINDOW_MS = 10_000


def with_feeds(*times: int) -> JoinPartition:
    """A partition with a feed at each of these times, in ms after the first record."""
    partition = join_partition()
    for offset, time in enumerate(times):
        partition.join.observe(offset, SENT_AT + time)
        partition.join.take_feed(feed_record(f"r{offset}"), offset)
    return partition


def let_out(partition: JoinPartition, limit: int = 100) -> None:
    """Hand over what is closed, as the emitter does."""
    partition.ledger.add(partition.join.take_due(limit))


def mark_of(position: Position) -> JoinMark:
    """The mark with which a restore starts, from the metadata of the offset."""
    pointer = read_pointer(write_pointer(position.pointer))
    assert pointer is not None
    assert pointer.out is not None
    return JoinMark(
        low_water=position.low_water,
        scan=pointer.scan,
        time=pointer.time,
        next=pointer.next,
        out=Due(*pointer.out),
    )


def test_before_anything_is_out_the_pointer_says_so() -> None:
    position = with_feeds(0, 1).position()
    assert (position.low_water, position.pointer.next) == (0, 2)
    assert position.pointer.out == (-1, -1)


def test_the_position_is_what_a_restore_starts_from() -> None:
    partition = with_feeds(0, 0, 5000)
    partition.close_due(SENT_AT + WINDOW_MS + 1)
    let_out(partition)
    partition.ledger.end = 7
    position = partition.position()
    mark = mark_of(position)
    assert mark == JoinMark(
        low_water=2, scan=0, time=SENT_AT, next=3, out=Due(SENT_AT + WINDOW_MS, 1)
    )
    assert join_partition(mark, ledger=SumsLedger(7)).join.replay_until == 3


def test_a_feed_that_is_out_does_not_go_out_again_after_a_restore() -> None:
    partition = with_feeds(0, 0, 5000)
    partition.close_due(SENT_AT + WINDOW_MS + 1)
    let_out(partition, limit=1)
    mark = mark_of(partition.position())
    assert mark.low_water == 1

    restored = join_partition(mark)
    for offset, time in ((1, 0), (2, 5000)):
        restored.join.observe(offset, SENT_AT + time)
        restored.join.take_feed(feed_record(f"r{offset}"), offset)
    restored.close_due(SENT_AT + 10 * WINDOW_MS)
    assert [feed.request_id for feed in restored.join.take_due(10)] == ["r1", "r2"]


def test_the_position_names_the_spans_that_a_restore_must_pass_over() -> None:
    partition = with_feeds(0)
    partition.skip = [Span(0, 1), Span(3, 5)]
    partition.close_due(SENT_AT + WINDOW_MS + 1)
    let_out(partition)
    assert partition.position().pointer.skip == (Span(3, 5),)


def test_a_commit_notes_up_to_where_the_output_holds_sums() -> None:
    partition = with_feeds(0)
    partition.committed(partition.position(), ledger_end=12)
    assert partition.ledger.end == 12
    partition.committed(partition.position())
    assert partition.ledger.end == 12, "a commit without sums moves nothing back"


def test_closed_feeds_wait_to_go_out_and_open_ones_do_not() -> None:
    partition = with_feeds(0, 0, 5000)
    assert (partition.waiting, partition.unpublished) == (0, 0)
    partition.close_due(SENT_AT + WINDOW_MS + 1)
    assert partition.waiting == 1
    let_out(partition)
    assert partition.waiting == 0


def test_an_idle_partition_closes_two_seconds_after_its_windows_by_the_time_polled_in_vain() -> (
    None
):
    partition = with_feeds(0)
    partition.reached_end(1)
    margin_ms = 2000
    for _ in range((WINDOW_MS + margin_ms) // 100):
        partition.pass_idle(100)
    assert partition.due_at_end() is None, "the last moment of the window is part of it"
    partition.pass_idle(1)
    due = partition.due_at_end()
    assert due is not None
    partition.close_idle(due)
    assert partition.waiting == 1
    let_out(partition)
    assert partition.due_at_end() is None


@pytest.mark.parametrize(
    "pointer",
    [
        Pointer(scan=0, time=-1, next=0),
        Pointer(scan=3, time=SENT_AT, next=9, out=(SENT_AT + 5, 8), skip=(Span(10, 11, True),)),
    ],
)
def test_a_pointer_with_a_pair_is_read_as_it_was_written(pointer: Pointer) -> None:
    assert read_pointer(write_pointer(pointer)) == pointer
