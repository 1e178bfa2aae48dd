"""The idle clock of a partition, moved by hand."""

from tests.builders import HOME, event
from workers.assembly.assembler import NO_TIME, Assembler, Mark
from workers.assembly.replay import Replay
from workers.codec.pointer import Span, write_pointer
from workers.ranking.request import Completion
from workers.streaming.partition import Beginning
from workers.streaming.publisher import Output
from workers.streaming.ranking_partition import RankingPartition


def one_open_request() -> RankingPartition:
    assembler = Assembler(Mark(0, 0, NO_TIME, 0))
    assembler.observe(0, 1000)
    assembler.take(event("r", "a"), 0, 1000)
    return RankingPartition(3, assembler)


def idle(partition: RankingPartition, milliseconds: int) -> None:
    for _ in range(milliseconds // 50):
        partition.pass_idle(50.0)


def test_a_partition_that_is_not_read_to_its_end_never_closes_by_the_clock() -> None:
    partition = one_open_request()
    idle(partition, 10 * HOME.deadline_ms)
    assert partition.due_at_end() is None


def test_at_its_end_a_deadline_passes_with_the_time_spent_polling_in_vain() -> None:
    partition = one_open_request()
    partition.reached_end(1)
    idle(partition, HOME.deadline_ms)
    assert partition.due_at_end() is None
    idle(partition, 50)
    due = partition.due_at_end()
    assert due is not None
    assert due == (1, 1000 + HOME.deadline_ms + 50)
    partition.close_idle(due)
    assert [r.completion for r in partition.assembler.take_closed()] == [Completion.DEADLINE]


def test_a_worker_that_was_stopped_does_not_take_the_pause_for_silence() -> None:
    partition = one_open_request()
    partition.reached_end(1)
    partition.pass_idle(60_000.0)
    assert partition.due_at_end() is None


def test_a_record_ends_the_idleness() -> None:
    partition = one_open_request()
    partition.reached_end(1)
    idle(partition, 2 * HOME.deadline_ms)
    partition.read_on()
    assert partition.due_at_end() is None
    partition.reached_end(2)
    assert partition.due_at_end() is None


def test_an_end_that_moves_on_without_a_record_does_not_begin_the_silence_anew() -> None:
    partition = one_open_request()
    partition.reached_end(1)
    idle(partition, HOME.deadline_ms)
    partition.reached_end(3)
    idle(partition, 50)
    assert partition.due_at_end() == (3, 1000 + HOME.deadline_ms + 50)


def test_what_was_due_at_another_end_does_not_close() -> None:
    partition = one_open_request()
    partition.reached_end(1)
    idle(partition, HOME.deadline_ms + 50)
    due = partition.due_at_end()
    assert due is not None
    partition.reached_end(3)
    partition.close_idle(due)
    assert partition.assembler.take_closed() == []


def test_the_first_record_after_a_restore_is_where_reading_was_to_begin() -> None:
    partition = RankingPartition(0, Assembler(Mark(500, 0, NO_TIME, 500)))
    assert partition.begins_at(500) is Beginning.RIGHT
    assert partition.has_begun


def test_a_first_record_past_the_beginning_is_looked_at_again_and_others_wait() -> None:
    partition = RankingPartition(0, Assembler(Mark(500, 0, NO_TIME, 500)))
    answers = [partition.begins_at(offset) for offset in (1000, 1001, 1002, 500)]
    assert answers == [Beginning.GAP, Beginning.WAITING, Beginning.WAITING, Beginning.RIGHT]


def test_a_gap_that_is_there_a_second_time_is_real() -> None:
    partition = RankingPartition(0, Assembler(Mark(500, 0, NO_TIME, 500)))
    answers = [partition.begins_at(offset) for offset in (502, 503, 502)]
    assert answers == [Beginning.GAP, Beginning.WAITING, Beginning.RIGHT]


def test_a_position_is_committed_once_and_again_only_when_it_changes() -> None:
    partition = one_open_request()
    position = partition.commit_position()
    assert position is not None
    pointer = position.pointer
    assert position.low_water == 0
    assert (pointer.scan, pointer.time, pointer.next) == (0, -1, 1)
    partition.committed(position)
    assert partition.commit_position() is None
    partition.outbox.append(Output("feeds", 3, b"r", b"{}", []))
    assert partition.commit_position() is not None, "what goes out must be cleared by its commit"
    partition.committed(position)
    assert partition.outbox == []
    partition.assembler.observe(1, 1001)
    assert partition.commit_position() is not None


def skipping(*spans: Span) -> RankingPartition:
    assembler = Assembler(Mark(0, 0, NO_TIME, 0))
    return RankingPartition(3, assembler, skip=spans)


def skip_committed(partition: RankingPartition) -> tuple[Span, ...]:
    """The spans in the pointer that is to be committed."""
    position = partition.commit_position()
    assert position is not None
    return position.pointer.skip


def test_a_span_stays_in_the_pointer_until_the_low_water_mark_is_behind_it() -> None:
    partition = skipping(Span(1, 4), Span(6, 7))
    partition.assembler.observe(0, 1000)
    partition.assembler.take(event("r", "a"), 0, 1000)
    assert skip_committed(partition) == (Span(1, 4), Span(6, 7))
    span = partition.span_at(1)
    assert span == Span(1, 4)
    partition.pass_over(span)
    assert partition.assembler.next == 4
    assert skip_committed(partition) == (Span(1, 4, is_reported=True), Span(6, 7))
    partition.assembler.close_all()
    partition.assembler.publish(partition.assembler.take_closed())
    assert skip_committed(partition) == (Span(6, 7),)


def test_the_first_place_behind_a_span_is_where_a_partition_goes_on() -> None:
    partition = skipping(Span(0, 4, is_reported=True))
    span = partition.span_at(partition.assembler.next)
    assert span is not None
    partition.pass_over(span)
    partition.begins_again()
    assert partition.span_at(partition.assembler.next) is None
    assert partition.begins_at(9) is Beginning.GAP
    assert partition.begins_at(4) is Beginning.RIGHT


def test_without_spans_a_pointer_is_as_it_always_was() -> None:
    position = one_open_request().commit_position()
    assert position is not None
    assert write_pointer(position.pointer) == '{"v":1,"scan":0,"time":-1,"next":1}'


def test_the_pointer_names_no_rules_as_long_as_it_stands_below_the_end_of_a_replay_under_other_rules() -> (
    None
):
    def rules_by_now() -> str:
        position = partition.commit_position()
        assert position is not None
        partition.committed(position)
        return position.pointer.rules

    assembler = Assembler(Mark(0, 0, NO_TIME, 2))
    partition = RankingPartition(3, assembler, Replay(2, {}), "today")
    assembler.observe(0, 1000)
    assembler.take(event("open", "a", expected=2), 0, 1000)
    assert rules_by_now() == ""
    assembler.observe(1, 1000)
    assembler.observe(2, 1000)
    assert rules_by_now() == "", (
        "the open request still holds the mark in what was judged by several rules"
    )
    assembler.take(event("open", "b", expected=2), 2, 1000)
    assembler.publish(assembler.take_closed())
    assert rules_by_now() == "today"
