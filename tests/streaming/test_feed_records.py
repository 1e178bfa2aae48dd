"""Which feed records a worker writes beside its feeds, and what is in them."""

from types import SimpleNamespace
from typing import cast

import pytest

from tests.builders import event, surface
from tests.streaming.standins import StandInCluster, rank_without_models
from workers.assembly.assembler import NO_TIME, Assembler, Mark
from workers.codec.feed_records import decode_feed_record, is_feed_record
from workers.codec.feeds import EncodedFeed, decode_feed, fit_feed
from workers.codec.formats import Format
from workers.counts import Counts
from workers.outcomes.records import FeedRecord
from workers.ranking.feed import Feed
from workers.ranking.lookup import skip_lookups
from workers.ranking.mix import Assignment, Mix
from workers.ranking.outcome_rules import OutcomeRule, OutcomeRules
from workers.ranking.surface import Surface
from workers.ranking.weights import Weights
from workers.scoring.registry import Registry
from workers.streaming import ranker as ranker_module
from workers.streaming.limits import OutputLimits, RecordLimits
from workers.streaming.publisher import Output
from workers.streaming.ranker import Ranker
from workers.streaming.ranking_partition import RankingPartition
from workers.streaming.topics import WorkerTopics
from workers.worker_errors import WorkerErrors

EVEN = Weights.of({"quality": 0.5, "engagement": 0.5})
COUNTED = surface(
    "counted", outcomes=OutcomeRules(60, seen=None, take=OutcomeRule("click")), top_k=0
)
PLAIN = surface("plain")
ITEMS = tuple(f"item-{number:02d}" for number in range(40))


class SteadyMix:
    """Everybody is in control, under the same weights."""

    def assign(self, _user_id: str) -> Assignment:
        return Assignment("control", EVEN, {})


@pytest.fixture(autouse=True)
def pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    rank_without_models(monkeypatch, EVEN)


def outputs_of(
    *surfaces: Surface,
    form: Format = Format.JSON,
    interactions: str | None = "interactions",
    feed_bytes: int = 100_000,
) -> list[Output]:
    """What a ranker writes for a request of each surface, in partition 5."""
    topics = WorkerTopics("candidates", "feeds", "letters", interactions)
    sizes = dict.fromkeys(topics.outputs.values(), 100_000) | {"feeds": feed_bytes}
    counts = Counts()
    ranker = Ranker(
        registry=cast(Registry, SimpleNamespace(catalogue=None)),
        mix=lambda _: cast(Mix, SteadyMix()),
        look_up=skip_lookups,
        topics=topics,
        feeds_format=form,
        limits=OutputLimits(
            StandInCluster("127.0.0.1:1"), topics, RecordLimits(sizes, 50_000, 250_000)
        ),
        counts=counts,
        errors=WorkerErrors(counts),
    )
    assembler = Assembler(Mark(0, 0, NO_TIME, 0))
    for offset, each in enumerate(surfaces):
        assembler.observe(offset, 1000)
        request = event(f"r{offset}", *ITEMS, expected=len(ITEMS), surface=each)
        assembler.take(request, offset, 1000)
    partition = RankingPartition(5, assembler)
    assert ranker.emit([partition], lambda _: False)
    return partition.outbox


def record_in(output: Output) -> FeedRecord:
    assert is_feed_record(output.headers)
    return decode_feed_record(output.value, output.key, output.headers)


def test_each_feed_of_a_surface_with_outcomes_is_followed_by_its_record_and_no_other_feed_is() -> (
    None
):
    outputs = outputs_of(COUNTED, PLAIN, COUNTED)
    assert [(output.topic, output.key) for output in outputs] == [
        ("feeds", b"r0"),
        ("interactions", b"r0"),
        ("feeds", b"r1"),
        ("feeds", b"r2"),
        ("interactions", b"r2"),
    ]
    assert {output.partition for output in outputs} == {5}


def test_without_a_topic_of_interactions_no_record_is_written() -> None:
    outputs = outputs_of(COUNTED, PLAIN, interactions=None)
    assert [output.topic for output in outputs] == ["feeds", "feeds"]


@pytest.mark.parametrize("form", list(Format))
def test_a_record_says_what_its_feed_says(form: Format) -> None:
    published, written = outputs_of(COUNTED, form=form)
    feed = decode_feed(published.value)
    record = record_in(written)
    assert record.item_ids == tuple(item.item_id for item in feed.items)
    assert len(record.item_ids) == len(ITEMS)
    assert (record.request_id, record.surface, record.user_id) == ("r0", "counted", "u")
    assert (record.arm, record.weights, record.models) == ("control", EVEN.version, {"quality": 3})
    assert (record.window_s, record.first_position) == (60, 0)
    assert record.completion == feed.completion


def test_of_a_feed_that_is_cut_for_its_topic_the_record_has_the_items_that_are_published() -> None:
    published, written = outputs_of(COUNTED, feed_bytes=3500)
    feed = decode_feed(published.value)
    assert 0 < len(feed.items) < len(ITEMS)
    assert feed.truncated == len(ITEMS) - len(feed.items)

    record = record_in(written)
    assert record.item_ids == tuple(item.item_id for item in feed.items)
    totals = [0.0, 0.0]
    for item in feed.items:
        for column, score in enumerate(item.scores):
            totals[column] += score
    assert list(record.score_sums.values()) == totals


def test_a_feed_that_cannot_be_encoded_has_a_record_without_items(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(feed: Feed, form: Format, limit_bytes: int) -> EncodedFeed:
        if feed.items:
            raise ValueError("what nobody thought of")
        return fit_feed(feed, form, limit_bytes)

    monkeypatch.setattr(ranker_module, "fit_feed", failing)
    published, written = outputs_of(COUNTED)
    assert list(decode_feed(published.value).items) == []
    assert record_in(written).item_ids == ()
    assert set(record_in(written).score_sums.values()) == {0.0}
