"""The rules of assembly, with a clock moved by hand."""

from collections.abc import Sequence

import pytest

from tests.builders import HOME, event, refused, surface
from workers.assembly.assembler import FUTURE_MS, NO_TIME, Assembler, Mark
from workers.assembly.held import Budget
from workers.ranking.refusal import EventRefused, Reason, RefusedCandidate
from workers.ranking.request import Completion, Event, Request

START = Mark(0, 0, NO_TIME, 0)


class Log:
    """Feeds events to an assembler at growing offsets."""

    def __init__(self, start: Mark = START, budget: Budget | None = None) -> None:
        self.assembler = Assembler(start, budget)
        self.offset = start.low_water

    def append(self, taken: Event, at: int = 1000) -> Sequence[RefusedCandidate]:
        offset, self.offset = self.offset, self.offset + 1
        self.assembler.observe(offset, at)
        return self.assembler.take(taken, offset, at)

    def closed(self) -> list[Request]:
        return self.assembler.take_closed()

    def publish(self) -> list[Request]:
        closed = self.closed()
        self.assembler.publish(closed)
        return closed


def test_a_request_closes_full_when_as_many_distinct_items_came_as_expected() -> None:
    log = Log()
    log.append(event("r", "a", expected=2))
    log.append(event("r", "a", expected=2))
    assert log.closed() == []
    log.append(event("r", "b", expected=2))
    (closed,) = log.closed()
    assert (closed.item_ids, closed.completion) == (("a", "b"), Completion.FULL)


def test_a_request_whose_first_event_is_all_of_it_closes_at_once_and_holds_the_low_water_mark() -> (
    None
):
    budget = Budget()
    log = Log(budget=budget)
    log.append(event("r", "a", "b", expected=2))
    assert (log.assembler.open_requests, budget.requests, budget.bytes_held) == (0, 0, 0)
    assert (log.assembler.closed_candidates, log.assembler.unpublished) == (2, 1)
    assert log.assembler.mark() == Mark(low_water=0, scan=0, time=NO_TIME, next=1)

    with pytest.raises(EventRefused) as late:
        log.append(event("r", "c"))
    assert late.value.reason is Reason.LATE

    (closed,) = log.publish()
    assert (closed.item_ids, closed.completion) == (("a", "b"), Completion.FULL)
    assert log.assembler.mark().low_water == 2


def test_what_overshoots_expected_counts_and_full_comes_before_marker() -> None:
    log = Log()
    log.append(event("r", "a", "b", "c", expected=2, last=True))
    (closed,) = log.closed()
    assert (closed.item_ids, closed.completion) == (("a", "b", "c"), Completion.FULL)


def test_a_request_closes_at_its_marker_with_what_has_come() -> None:
    log = Log()
    log.append(event("r", "a", expected=5))
    log.append(event("r", last=True))
    assert [(r.item_ids, r.completion) for r in log.closed()] == [(("a",), Completion.MARKER)]


def test_expected_may_come_with_a_later_event() -> None:
    log = Log()
    log.append(event("r", "a", "b"))
    log.append(event("r", "c", expected=3))
    assert [r.completion for r in log.closed()] == [Completion.FULL]


def test_a_request_that_expects_nothing_closes_at_once_with_an_empty_feed() -> None:
    log = Log()
    log.append(event("r", expected=0, last=True))
    assert [(r.item_ids, r.completion) for r in log.closed()] == [((), Completion.FULL)]


def test_a_deadline_closes_when_stream_time_has_passed_it_and_not_before() -> None:
    log = Log()
    log.append(event("r", "a"), at=1000)
    log.append(event("other", "x"), at=1000 + HOME.deadline_ms)
    assert log.closed() == []
    log.append(event("third", "x"), at=1001 + HOME.deadline_ms)
    assert [(r.request_id, r.completion) for r in log.closed()] == [("r", Completion.DEADLINE)]


def test_the_event_that_passes_the_deadline_of_its_own_request_is_late() -> None:
    log = Log()
    log.append(event("r", "a"), at=1000)
    with pytest.raises(EventRefused) as late:
        log.append(event("r", "b"), at=1001 + HOME.deadline_ms)
    assert late.value.reason is Reason.LATE
    assert [r.item_ids for r in log.closed()] == [("a",)]


def test_a_record_with_an_old_timestamp_does_not_turn_stream_time_back() -> None:
    log = Log()
    log.append(event("r", "a"), at=5000)
    log.append(event("s", "a"), at=10)
    assert log.assembler.stream_time == 5000
    assert log.assembler.next_due() == 5000 + HOME.deadline_ms


def test_closing_by_the_idle_clock_leaves_stream_time_alone() -> None:
    log = Log()
    log.append(event("r", "a"), at=1000)
    log.assembler.close_due(1000 + HOME.deadline_ms)
    assert log.closed() == []
    log.assembler.close_due(1001 + HOME.deadline_ms)
    assert [r.completion for r in log.closed()] == [Completion.DEADLINE]
    assert log.assembler.stream_time == 1000


def test_surfaces_keep_their_own_deadlines() -> None:
    quick, slow = surface("quick", deadline_ms=10), surface("slow", deadline_ms=1000)
    log = Log()
    log.append(event("s", "a", surface=slow), at=1000)
    log.append(event("q", "a", surface=quick), at=1000)
    log.append(event("x", "a", surface=slow), at=1011)
    assert [r.request_id for r in log.closed()] == ["q"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"user_id": "v"}, "user_id"),
        ({"requested_at": 1001}, "requested_at"),
        ({"surface": surface("other")}, "surface"),
        ({"expected": 4}, "expected"),
    ],
)
def test_an_event_that_contradicts_its_request_is_a_conflict_and_changes_nothing(
    change: dict[str, object], field: str
) -> None:
    log = Log()
    log.append(event("r", "a", expected=3))
    with pytest.raises(EventRefused, match=f"{field}: got .* expected") as conflict:
        log.append(event("r", "b", **({"expected": None} | change)))
    assert conflict.value.reason is Reason.CONFLICT
    log.append(event("r", "b", "c"))
    assert [r.item_ids for r in log.closed()] == [("a", "b", "c")]


def test_an_event_of_a_closed_request_is_late_published_or_not() -> None:
    log = Log()
    log.append(event("r", "a", expected=1))
    with pytest.raises(EventRefused, match="is closed"):
        log.append(event("r", "b"))
    log.publish()
    with pytest.raises(EventRefused, match="is closed") as late:
        log.append(event("r", "b"))
    assert late.value.reason is Reason.LATE


def test_an_unknown_request_past_its_horizon_is_late_and_one_at_its_horizon_opens() -> None:
    log = Log()
    log.append(event("at", "a", requested_at=1000), at=1000 + HOME.horizon_ms)
    with pytest.raises(EventRefused, match="past the horizon") as late:
        log.append(event("past", "a", requested_at=999), at=1000 + HOME.horizon_ms)
    assert late.value.reason is Reason.LATE
    assert log.assembler.open_requests == 1


def test_an_open_request_takes_events_past_its_horizon() -> None:
    patient = surface(deadline_ms=60_000, horizon_ms=10)
    log = Log()
    log.append(event("r", "a", surface=patient), at=1000)
    log.append(event("r", "b", surface=patient, last=True), at=20_000)
    assert [r.item_ids for r in log.closed()] == [("a", "b")]


def test_requested_at_may_lie_a_minute_ahead_of_the_record_and_no_more() -> None:
    log = Log()
    log.append(event("edge", "a", requested_at=1000 + FUTURE_MS), at=1000)
    with pytest.raises(EventRefused, match="requested_at: got") as future:
        log.append(event("beyond", "a", requested_at=1001 + FUTURE_MS), at=1000)
    assert future.value.reason is Reason.FUTURE


def test_refused_candidates_count_towards_expected_once_each() -> None:
    log = Log()
    bad = refused("b")
    assert log.append(event("r", "a", expected=3, refused=[bad])) == [bad]
    log.append(event("r", expected=3, refused=[bad, bad]))
    assert log.closed() == []
    log.append(event("r", expected=3, refused=[refused(b"digest")]))
    (closed,) = log.closed()
    assert (closed.item_ids, closed.refused) == (("a",), 2)


def test_an_item_that_is_refused_once_and_valid_once_is_ranked_whichever_came_first() -> None:
    for first, second in (
        (event("r", "a"), event("r", refused=[refused("a")], last=True)),
        (event("r", refused=[refused("a")]), event("r", "a", last=True)),
    ):
        log = Log()
        log.append(first)
        log.append(second)
        assert [(r.item_ids, r.refused) for r in log.closed()] == [(("a",), 0)]


def test_a_request_whose_every_candidate_is_refused_ends_in_an_empty_feed() -> None:
    log = Log()
    log.append(event("r", expected=1, refused=[refused("a")]))
    assert [(r.item_ids, r.refused, r.completion) for r in log.closed()] == [
        ((), 1, Completion.FULL)
    ]


def test_candidates_past_the_limit_are_refused_by_their_position_and_count_towards_expected() -> (
    None
):
    small = surface(max_candidates=2)
    log = Log()
    first = event("r", "a", "b", "c", surface=small, expected=5, refused=[refused("bad", place=1)])
    answered = log.append(first)
    assert [(r.position, r.identity, r.reason) for r in answered[1:]] == [
        (3, "c", "too-many-candidates")
    ]
    log.append(event("r", "a", "d", surface=small, expected=5))
    assert [(r.item_ids, r.refused) for r in log.closed()] == [(("a", "b"), 3)]


def test_the_low_water_mark_is_the_first_offset_of_the_oldest_unpublished_request() -> None:
    log = Log()
    log.append(event("done", "a", expected=1), at=1000)
    log.append(event("open", "a"), at=1100)
    log.append(event("later", "a", expected=1), at=1200)
    assert log.assembler.mark() == Mark(0, 0, NO_TIME, 3)
    log.publish()
    assert log.assembler.mark() == Mark(1, 0, 1000, 3)
    log.append(event("open", last=True), at=1300)
    assert log.assembler.mark().low_water == 1
    log.publish()
    assert log.assembler.mark()[0] == log.assembler.mark()[3] == 4


def test_what_is_closed_and_not_taken_holds_the_low_water_mark() -> None:
    log = Log()
    log.append(event("r", "a", expected=1))
    log.append(event("s", "a", expected=1))
    first = log.assembler.take_closed(1)
    log.assembler.publish(first)
    assert log.assembler.mark().low_water == 1
    assert log.assembler.unpublished == 1


def test_scan_is_the_first_offset_that_the_oldest_remembered_feed_may_have() -> None:
    log = Log()
    log.assembler.ledger_end = 7
    log.append(event("r", "a", expected=1))
    log.publish()
    log.assembler.ledger_end = 9
    log.append(event("s", "a", expected=1))
    log.publish()
    assert log.assembler.mark().scan == 7


def test_a_published_request_is_forgotten_when_the_low_water_time_has_passed_its_horizon() -> None:
    log = Log()
    log.append(event("r", "a", expected=1), at=1000)
    log.publish()
    log.append(event("s", "a", requested_at=1000 + HOME.horizon_ms), at=1001 + HOME.horizon_ms)
    log.assembler.ledger_end = 5
    log.assembler.mark()
    assert log.assembler.remembered == 1, "the open request's replay would begin before the horizon"
    log.append(
        event("s", last=True, requested_at=1000 + HOME.horizon_ms), at=1001 + HOME.horizon_ms
    )
    log.publish()
    mark = log.assembler.mark()
    assert log.assembler.remembered == 1
    assert mark.scan == 5
    with pytest.raises(EventRefused, match="past the horizon"):
        log.append(event("r", "b"), at=1001 + HOME.horizon_ms)


def test_a_replay_judges_as_the_first_reading_did_and_skips_what_is_published() -> None:
    log = Log(Mark(5, 0, 900, 8))
    log.assembler.remember("published", 50_000, 0)
    with pytest.raises(EventRefused, match="is closed"):
        log.append(event("published", "a"), at=1000)
    log.append(event("open", "a"), at=1000)
    assert log.assembler.mark() == Mark(6, 0, 1000, 8), (
        "a replay does not forget how far it had come"
    )


def test_memory_of_published_requests_is_bounded_by_the_horizon() -> None:
    log = Log()
    for turn in range(2000):
        at = 1000 + turn * 100
        log.append(event(f"r{turn}", "a", expected=1, requested_at=at), at=at)
        log.publish()
        log.assembler.mark()
    assert log.assembler.remembered <= HOME.horizon_ms // 100 + 2


def test_past_the_bound_the_oldest_request_is_evicted() -> None:
    budget = Budget(max_requests=2)
    log = Log(budget=budget)
    for name in ("r", "s", "t"):
        log.append(event(name, "a"))
    assert budget.is_exceeded()
    log.assembler.evict_oldest()
    assert not budget.is_exceeded()
    assert [(r.request_id, r.completion) for r in log.closed()] == [("r", Completion.EVICTED)]


def test_the_byte_bound_counts_what_is_held_and_never_evicts_the_only_request() -> None:
    budget = Budget(max_bytes=1)
    log = Log(budget=budget)
    log.append(event("r", "a"))
    assert budget.bytes_held > 0
    assert not budget.is_exceeded()
    log.append(event("s", "a"))
    assert budget.is_exceeded()


def test_an_abandoned_partition_gives_its_budget_back() -> None:
    budget = Budget()
    log = Log(budget=budget)
    log.append(event("r", "a"))
    log.append(event("s", "a", "b"))
    log.assembler.abandon()
    assert (budget.requests, budget.bytes_held) == (0, 0)


def test_closing_gives_the_budget_back() -> None:
    budget = Budget()
    log = Log(budget=budget)
    log.append(event("r", "a", "b", refused=[refused("c")]))
    log.append(event("r", last=True))
    assert (budget.requests, budget.bytes_held) == (0, 0)


def test_the_end_of_a_file_closes_what_is_open_in_order_of_first_event() -> None:
    log = Log()
    for name in ("b", "a", "c"):
        log.append(event(name, "x"))
    log.assembler.close_all()
    assert [r.request_id for r in log.closed()] == ["b", "a", "c"]


def test_a_request_id_may_open_again_long_after_its_horizon_only_with_a_new_time() -> None:
    log = Log()
    log.append(event("r", "a", expected=1), at=1000)
    log.publish()
    later = 10 * HOME.horizon_ms
    log.append(event("x", "a", expected=1, requested_at=later), at=later)
    log.publish()
    log.assembler.mark()
    log.append(event("r", "b", expected=1, requested_at=later), at=later)
    assert [r.item_ids for r in log.closed()] == [("b",)]


def test_while_a_replay_goes_on_no_published_request_is_forgotten() -> None:
    """One of its events may still come that was accepted past the horizon, while it was open."""
    assembler = Assembler(Mark(0, 0, NO_TIME, 2))
    assembler.remember("r", 1000, 0)
    assembler.observe(0, 5000)
    assembler.mark()
    assert assembler.remembered == 1
    assembler.observe(1, 5000)
    assembler.mark()
    assert assembler.remembered == 0
