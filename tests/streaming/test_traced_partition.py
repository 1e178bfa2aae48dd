"""A traced partition, from its records to the commit."""

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from tests.builders import surface
from tests.streaming.standins import StandInCluster, rank_without_models
from tests.tracing.building import SPAN, TRACE, WEIGHTS, Traced, ids_of, parent
from workers.assembly.assembler import NO_TIME, Assembler, Mark
from workers.assembly.held import Budget
from workers.codec.decoder import Decoder
from workers.codec.feed_records import is_feed_record
from workers.codec.formats import Format
from workers.counts import Counts
from workers.ranking.lookup import skip_lookups
from workers.ranking.mix import Assignment, Mix
from workers.ranking.outcome_rules import OutcomeRule, OutcomeRules
from workers.scoring.registry import Registry
from workers.streaming.dead_letters import DeadLetters
from workers.streaming.limits import OutputLimits, RecordLimits
from workers.streaming.publisher import Output
from workers.streaming.ranker import Ranker
from workers.streaming.ranking_intake import RankingIntake
from workers.streaming.ranking_partition import RankingPartition
from workers.streaming.records import Fetched, Headers
from workers.streaming.topics import WorkerTopics
from workers.tracing.request_traces import PartitionTraces
from workers.worker_errors import WorkerErrors

COUNTED = surface("home", outcomes=OutcomeRules(60, seen=None, take=OutcomeRule("click")))
TOPICS = WorkerTopics("candidates", "feeds", "letters", "interactions")
TYPE = ("content-type", b"application/json")


class Message:
    """One record as a consumer gets it."""

    def __init__(
        self, offset: int, value: bytes, headers: Sequence[tuple[str, bytes | None]]
    ) -> None:
        self._offset = offset
        self._value = value
        self._headers = headers

    def topic(self) -> str:
        return TOPICS.candidates

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes:
        return b"r"

    def value(self) -> bytes:
        return self._value

    def headers(self) -> Headers:
        return list(self._headers)


def event(**changes: object) -> bytes:
    values = {
        "request_id": "r",
        "surface": "home",
        "user_id": "u",
        "requested_at": 1000,
        "candidates": [{"item_id": "x", "features": [1.0, 2.0]}],
    }
    return json.dumps(values | changes).encode()


class Line:
    """An intake, a partition and a ranker without models."""

    def __init__(self, traces: PartitionTraces | None) -> None:
        sizes = dict.fromkeys(TOPICS.outputs.values(), 100_000)
        limits = OutputLimits(
            StandInCluster("127.0.0.1:1"), TOPICS, RecordLimits(sizes, 50_000, 250_000)
        )
        counts = Counts()
        errors = WorkerErrors(counts)
        self.intake = RankingIntake(
            decoder=Decoder({"home": COUNTED}),
            budget=Budget(),
            counts=counts,
            dead_letters=DeadLetters(TOPICS.candidates, TOPICS.dead_letters, limits),
            errors=errors,
        )
        self.ranker = Ranker(
            registry=cast(Registry, SimpleNamespace(catalogue=None)),
            mix=lambda _: cast(
                Mix, SimpleNamespace(assign=lambda _: Assignment("control", WEIGHTS, {}))
            ),
            look_up=skip_lookups,
            topics=TOPICS,
            feeds_format=Format.JSON,
            limits=limits,
            counts=counts,
            errors=errors,
        )
        self.partition = RankingPartition(3, Assembler(Mark(0, 0, NO_TIME, 0)), traces=traces)
        self.offset = 0

    def take(self, value: bytes, *headers: tuple[str, bytes | None]) -> None:
        message = Message(self.offset, value, headers)
        self.intake.take(self.partition, cast(Fetched, message), self.offset, 1000)
        self.offset += 1

    def rank(self) -> list[Output]:
        self.ranker.emit([self.partition], lambda _: False)
        return self.partition.outbox

    def commit(self) -> None:
        position = self.partition.commit_position()
        assert position is not None
        self.partition.committed(position, 9)


@pytest.fixture(autouse=True)
def pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    rank_without_models(monkeypatch, WEIGHTS)


def test_the_feed_and_its_record_continue_the_trace_and_the_span_comes_with_the_commit() -> None:
    traced = Traced()
    line = Line(traced.partition)
    line.take(event(), TYPE, *parent())
    line.take(event(last=True), TYPE)
    feed, record = line.rank()
    assert traced.spans == []
    line.commit()
    (span,) = traced.spans
    named = ("traceparent", f"00-{TRACE}-{span.context.span_id:016x}-01".encode())
    assert feed.headers == [TYPE, named]
    assert record.headers[-1] == named
    assert is_feed_record(record.headers)
    assert span.parent is not None
    assert ids_of([span.parent]) == [SPAN]
    assert span.attributes["trimtab.feeds_end"] == 9


def test_without_a_sampled_context_the_records_are_as_if_nothing_was_traced() -> None:
    outputs = []
    for traces in (None, Traced().partition):
        line = Line(traces)
        line.take(event(last=True), TYPE, *parent(flags="00"))
        outputs.append(line.rank())
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) == 2


def test_a_refused_event_keeps_its_headers_and_has_an_error() -> None:
    traced = Traced()
    line = Line(traced.partition)
    line.take(b"{", TYPE, *parent())
    (letter,) = line.rank()
    assert ("traceparent", parent()[0][1]) in letter.headers
    line.commit()
    assert [span.error for span in traced.spans] == ["malformed"]


def test_a_damaged_context_costs_the_event_nothing() -> None:
    traced = Traced()
    line = Line(traced.partition)
    line.take(event(last=True), TYPE, ("traceparent", b"\xff\x00"), ("tracestate", None))
    feed, _record = line.rank()
    assert feed.headers == [TYPE]
    assert traced.counts.bad_contexts == 1


def test_a_transaction_that_is_undone_has_no_span_until_it_goes_through() -> None:
    traced = Traced()
    line = Line(traced.partition)
    line.take(event(last=True), TYPE, *parent())
    before = list(line.rank())
    again = line.rank()
    assert again == before
    assert traced.spans == []
    line.commit()
    assert len(traced.spans) == 1


def test_whoever_replays_the_request_gives_its_feed_the_same_header() -> None:
    headers = []
    for _ in range(2):
        line = Line(Traced().partition)
        line.take(event(), TYPE, *parent())
        line.take(event(last=True), TYPE)
        headers.append(line.rank()[0].headers)
    assert headers[0] == headers[1]
