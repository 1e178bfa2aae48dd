"""Which requests are traced, and what their spans say."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import request
from tests.tracing.building import (
    SPAN,
    TRACE,
    WEIGHTS,
    Traced,
    feed_of,
    ids_of,
    parent,
    span_name,
)
from workers.ranking.refusal import Reason
from workers.streaming.limits import RECORD_OVERHEAD
from workers.tracing.context import Headers, read_context
from workers.tracing.request_traces import MAX_LINKS


def test_a_sampled_request_is_below_its_first_event_and_its_feed_continues_the_trace() -> None:
    traced = Traced()
    traced.partition.take("r", [*parent(), ("tracestate", b"vendor=1")], 10)
    traced.partition.take("r", parent(span=span_name(2)), 11)
    traced.partition.take("r", parent(span=span_name(2)), 12)
    headers = traced.rank(first_offset=10)
    assert traced.spans == []  # nothing is committed

    span = traced.only_span()
    assert span.parent is not None
    assert ids_of([span.parent]) == [SPAN]
    assert ids_of(span.links) == [SPAN, span_name(2)]
    assert span.name == "process candidates"
    assert dict(headers) == {
        "traceparent": f"00-{TRACE}-{span.context.span_id:016x}-01".encode(),
        "tracestate": b"vendor=1",
    }
    assert span.error == ""


def test_a_span_says_how_its_request_was_ranked_and_nothing_of_its_user() -> None:
    traced = Traced()
    traced.partition.take("r", parent(), 10)
    traced.rank(first_offset=10)
    span = traced.only_span()
    assert span.attributes == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "candidates",
        "messaging.destination.partition.id": "3",
        "messaging.consumer.group.name": "g",
        "messaging.kafka.offset": 10,
        "messaging.kafka.message.key": "r",
        "trimtab.request_id": "r",
        "trimtab.surface": "home",
        "trimtab.arm": "control",
        "trimtab.completion": "full",
        "trimtab.candidates": 2,
        "trimtab.refused": 0,
        "trimtab.items": 1,
        "trimtab.weights": WEIGHTS.version,
        "trimtab.models": ("quality/3", "engagement/1"),
        "trimtab.feeds_end": 77,
    }


def test_the_stages_are_in_order_even_if_the_clock_goes_back() -> None:
    traced = Traced()
    traced.partition.take("r", parent(), 10)
    traced.rank(first_offset=10)  # ranked in 1970, before it was opened
    span = traced.only_span()
    assert [name for name, _ in span.events] == ["opened", "closed", "ranked", "committed"]
    times = [at for _, at in span.events]
    assert times == sorted(times)
    assert (span.started_at, span.ended_at) == (times[0], times[-1])


@pytest.mark.parametrize(
    "headers", [[], [("x", b"1")], parent(flags="00"), parent(flags="02"), None]
)
def test_what_no_producer_has_sampled_is_not_traced(headers: Headers | None) -> None:
    traced = Traced()
    traced.partition.take("r", headers, 10)
    assert list(traced.rank(first_offset=10)) == []
    traced.partition.refuse(headers, 11, Reason.LATE)
    traced.partition.commit(1)
    assert traced.spans == []


def test_an_event_that_is_sampled_has_its_request_traced_whatever_came_first() -> None:
    traced = Traced()
    traced.partition.take("r", parent(span=span_name(1), flags="00"), 10)
    traced.partition.take("r", [], 11)
    traced.partition.take("r", parent(span=span_name(2)), 12)
    assert list(traced.rank(first_offset=10)) != []
    assert ids_of(traced.only_span().links) == [span_name(2)]


def test_links_are_bounded() -> None:
    traced = Traced()
    for number in range(1, MAX_LINKS + 2):
        traced.partition.take("r", parent(span=span_name(number)), number)
    traced.rank(first_offset=1)
    span = traced.only_span()
    assert ids_of(span.links) == [span_name(number) for number in range(1, MAX_LINKS + 1)]
    assert span.attributes["trimtab.links_truncated"] is True


def test_a_damaged_context_is_counted_once_for_each_record_and_costs_nothing_else() -> None:
    traced = Traced()
    bad: Headers = [("traceparent", b"what")]
    traced.partition.take("r", bad, 10)
    traced.partition.refuse(bad, 10, Reason.CANDIDATES)
    traced.partition.refuse(bad, 11, Reason.LATE)
    assert list(traced.rank(first_offset=10)) == []
    assert traced.counts.bad_contexts == 2


_ANY_HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["traceparent", "tracestate", "x"]),
        st.none()
        | st.binary(max_size=80)
        | st.sampled_from([parent()[0][1], parent(flags="00")[0][1], b"a=1"]),
    ),
    max_size=5,
)


@given(st.none() | _ANY_HEADERS, st.sampled_from([0.0, 1.0]))
@settings(deadline=None)
def test_no_headers_break_anything_and_what_comes_of_them_can_be_read(
    headers: Headers | None, ratio: float
) -> None:
    traced = Traced(ratio)
    traced.partition.take("r", headers, 0)
    traced.partition.refuse(headers, 0, Reason.CANDIDATES)
    handed_on = traced.rank()
    traced.partition.commit(1)
    if handed_on:
        assert read_context(handed_on).span == traced.spans[-1].context.span


# The ratio


def test_by_the_ratio_requests_without_a_context_begin_a_trace() -> None:
    traced = Traced(ratio=1.0)
    traced.partition.take("r", [], 10)
    (header,) = traced.rank(first_offset=10)
    span = traced.only_span()
    assert span.parent is None
    assert span.links == ()
    assert read_context([header]) == span.context


@pytest.mark.parametrize("name", ["{}", "r-{:08d}", "{:032x}", "f47ac10b-58cc-4372-a567-{:012x}"])
@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.5])
def test_the_ratio_is_that_of_the_requests_whatever_their_ids_look_like(
    name: str, ratio: float
) -> None:
    traced = Traced(ratio=ratio)
    for number in range(4000):
        traced.partition.take(name.format(number), [], number)
        traced.rank(name.format(number), number)
    traced.partition.commit(1)
    deviation = (4000 * ratio * (1 - ratio)) ** 0.5
    assert abs(len(traced.spans) - 4000 * ratio) < 5 * deviation


def test_what_a_producer_did_not_sample_is_not_traced_by_the_ratio() -> None:
    traced = Traced(ratio=1.0)
    traced.partition.take("r", parent(flags="00"), 10)
    traced.partition.take("r", [], 11)
    assert list(traced.rank(first_offset=10)) == []


def test_a_damaged_context_is_as_good_as_none() -> None:
    traced = Traced(ratio=1.0)
    traced.partition.take("r", [("traceparent", b"what")], 10)
    assert list(traced.rank(first_offset=10)) != []


# Errors


def test_a_feed_that_is_not_scored_is_an_error() -> None:
    traced = Traced()
    traced.partition.take("r", parent(), 10)
    one = request(["a"], first_offset=10)
    traced.partition.rank(one, feed_of(one, models={}))
    span = traced.only_span()
    assert span.error == "not-scored"
    assert span.attributes["error.type"] == "not-scored"


def test_a_dead_letter_is_an_error_below_the_event() -> None:
    traced = Traced()
    traced.partition.refuse(parent(), 10, Reason.LATE)
    span = traced.only_span()
    assert span.parent is not None
    assert ids_of([span.parent]) == ids_of(span.links) == [SPAN]
    assert f"{span.context.trace_id:032x}" == TRACE
    assert (span.error, span.attributes["error.type"]) == ("late", "late")
    assert span.attributes["messaging.kafka.offset"] == 10
    assert "trimtab.feeds_end" not in span.attributes


def test_an_event_with_refused_candidates_has_an_error_beside_the_span_of_its_request() -> None:
    traced = Traced()
    traced.partition.take("r", parent(), 10)
    traced.partition.refuse(parent(), 10, Reason.CANDIDATES)
    traced.rank(first_offset=10)
    traced.partition.commit(1)
    assert [span.error for span in traced.spans] == ["refused-candidates", ""]
    assert traced.spans[0].context != traced.spans[1].context


# Replays


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["r1", "r2"]),
            st.sampled_from(["", "00", "01", "damaged"]),
            st.integers(1, 4),
        ),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([0.0, 0.5, 1.0]),
)
@settings(deadline=None)
def test_a_replay_gives_spans_and_headers_the_same_ids(
    events: list[tuple[str, str, int]], ratio: float
) -> None:
    def run() -> tuple[list[Headers], Traced]:
        traced = Traced(ratio=ratio)
        first: dict[str, int] = {}
        for offset, (request_id, flags, number) in enumerate(events):
            headers: Headers = []
            if flags == "damaged":
                headers = [("traceparent", b"00-")]
            elif flags:
                headers = parent(span=span_name(number), flags=flags)
            first.setdefault(request_id, offset)
            traced.partition.take(request_id, headers, offset)
        return [traced.rank(request_id, offset) for request_id, offset in first.items()], traced

    headers, first = run()
    again, second = run()
    assert headers == again
    first.partition.commit(5)
    second.partition.commit(5)
    assert [span.context for span in first.spans] == [span.context for span in second.spans]
    assert len({span.context.span for span in first.spans}) == len(first.spans)


def test_two_groups_that_rank_the_same_events_have_spans_of_their_own() -> None:
    contexts = set()
    for group in ("live", "shadow"):
        traced = Traced(group=group)
        traced.partition.take("r", parent(), 10)
        traced.rank(first_offset=10)
        contexts.add(traced.only_span().context)
    assert len(contexts) == 2


def test_what_is_committed_is_handed_out_once() -> None:
    traced = Traced()
    traced.partition.take("r", parent(), 10)
    traced.rank(first_offset=10)
    traced.partition.commit(1)
    traced.partition.commit(2)
    assert len(traced.spans) == 1


def test_the_headers_of_a_trace_fit_beside_the_key() -> None:
    traced = Traced()
    traced.partition.take(
        "r", [*parent(), ("tracestate", b"a=" + b"x" * 253 + b",b=" + b"x" * 254)], 10
    )
    size = 0
    for name, value in traced.rank(first_offset=10):
        size += len(name) + len(value or b"")
    assert size == 588
    assert 256 + len("content-type" + "application/x-protobuf") + size + 100 <= RECORD_OVERHEAD
