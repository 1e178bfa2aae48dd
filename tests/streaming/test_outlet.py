"""What goes out together and what by itself, and what a fault of ours costs: one request, and never
its neighbours.

The client is a stand-in, and so is the look for models: the faults here are those that nobody has
thought of.
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError

from tests.builders import event
from tests.streaming.standins import (
    CONSUMER,
    LIMITS,
    TOPICS,
    StandInCluster,
    StandInProducer,
    publisher_of,
)
from workers.assembly.assembler import NO_TIME, Assembler, Mark
from workers.codec.feeds import EncodedFeed, decode_feed, fit_feed
from workers.codec.formats import Format
from workers.counts import Counts
from workers.pipeline import Ranked
from workers.ranking.lookup import skip_lookups
from workers.ranking.mix import Assignment, Mix
from workers.ranking.rank import rank
from workers.ranking.request import Request
from workers.ranking.weights import Weights
from workers.scoring.registry import Registry, RegistryFailed
from workers.streaming import ranker as ranker_module
from workers.streaming.limits import OutputLimits
from workers.streaming.outlet import Outlet
from workers.streaming.publisher import Output, Publisher
from workers.streaming.ranker import Ranker
from workers.streaming.ranking_partition import RankingPartition
from workers.worker_errors import WorkerErrors

EVEN = Weights.of({"quality": 0.5, "engagement": 0.5})


class SteadyMix:
    """Everybody is in control, under the same weights."""

    def assign(self, _user_id: str) -> Assignment:
        return Assignment("control", EVEN, {})


def outlet_of(publisher: Publisher) -> Outlet[RankingPartition]:
    limits = OutputLimits(StandInCluster("127.0.0.1:1"), TOPICS, LIMITS)
    counts = Counts()
    ranker = Ranker(
        registry=cast(Registry, SimpleNamespace(catalogue=None)),
        mix=lambda _: cast(Mix, SteadyMix()),
        look_up=skip_lookups,
        topics=TOPICS,
        feeds_format=Format.JSON,
        limits=limits,
        counts=counts,
        errors=WorkerErrors(counts),
    )
    return Outlet(
        emitter=ranker,
        publisher=publisher,
        consumer=CONSUMER,
        source=TOPICS.candidates,
        limits=limits,
    )


def counts_of(outlet: Outlet[RankingPartition]) -> Counts:
    """What the ranker of an outlet counts."""
    return cast(Ranker, outlet.emitter).counts


def partition_of(number: int, *request_ids: str) -> RankingPartition:
    """A partition with closed requests of two items each."""
    assembler = Assembler(Mark(0, 0, NO_TIME, 0))
    for offset, request_id in enumerate(request_ids):
        assembler.observe(offset, 1000)
        assembler.take(event(request_id, "a", "b", expected=2), offset, 1000)
    return RankingPartition(number, assembler)


def ranked_of(requests: Sequence[Request]) -> Ranked:
    import numpy as np

    scores = np.array([[0.1, 0.2], [0.3, 0.4]], np.float32)
    return Ranked([rank(request, scores, EVEN, {}, 1) for request in requests], 0, 0, 0, 0, 0)


@pytest.fixture(autouse=True)
def pipeline(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[Request], None]]:
    """The pipeline without models. `hook` is called with each request, and may fail."""
    hooks: dict[str, Callable[[Request], None]] = {"hook": lambda request: None}

    def rank_requests(requests: Sequence[Request], *_: object) -> Ranked:
        for request in requests:
            hooks["hook"](request)
        return ranked_of(requests)

    monkeypatch.setattr(ranker_module, "rank_requests", rank_requests)
    return hooks


class Recorder(StandInProducer):
    """Keeps the values of what is committed, by key."""

    def __init__(self, refuses: Any = lambda topic, partition: None) -> None:
        super().__init__(refuses)
        self.values: dict[bytes, bytes] = {}

    def produce(
        self, topic: str, value: bytes, key: bytes, partition: int, on_delivery: Any, headers: Any
    ) -> None:
        self.values[key] = value
        super().produce(topic, value, key, partition, on_delivery, headers)


def started(producer: StandInProducer) -> Outlet[RankingPartition]:
    publisher = publisher_of(producer)
    assert publisher.start()
    return outlet_of(publisher)


def test_everything_goes_out_in_one_transaction_and_is_counted_once_it_is_out() -> None:
    producer = Recorder()
    outlet = started(producer)
    partitions = [partition_of(0, "r", "s"), partition_of(1, "t")]
    partitions[1].outbox.append(Output("letters", 1, b"k", b"x", []))
    outlet.publish(partitions)
    assert producer.calls.count("commit") == 1
    assert (counts_of(outlet).feeds, counts_of(outlet).dead_letters) == (3, 1)
    assert [partition.unpublished for partition in partitions] == [0, 0]


def test_what_a_transaction_left_undone_is_not_counted_and_goes_out_with_the_next() -> None:
    refusing = [KafkaError.ILLEGAL_GENERATION]
    producer = Recorder(lambda topic, partition: refusing.pop() if refusing else None)
    outlet = started(producer)
    partition = partition_of(0, "r")
    outlet.publish([partition])
    assert (counts_of(outlet).feeds, partition.unpublished) == (0, 1)
    outlet.publish([partition])
    assert (counts_of(outlet).feeds, partition.unpublished) == (1, 0)


def test_a_partition_whose_records_are_refused_for_good_is_isolated_and_the_others_go_on() -> None:
    producer = Recorder(
        lambda topic, partition: KafkaError.INVALID_RECORD if partition == 1 else None
    )
    outlet = started(producer)
    sound, refused, empty = partition_of(0, "r"), partition_of(1, "s"), partition_of(2)
    while sound.unpublished:
        outlet.publish([sound, refused, empty])
    assert producer.committed == [("feeds", 0)]
    assert refused.unpublished == 1
    for number in range(3):
        sound.assembler.observe(number + 1, 1000)
        sound.assembler.take(event(f"more{number}", "a", "b", expected=2), number + 1, 1000)
        outlet.publish([sound, refused, empty])
    assert producer.committed == [("feeds", 0)] * 4
    assert outlet.retries.is_failing(1)
    assert counts_of(outlet).feeds == 4


def test_a_request_on_which_ranking_fails_gets_a_feed_without_items_and_its_neighbours_are_ranked(
    pipeline: dict[str, Callable[[Request], None]],
) -> None:
    def fail(request: Request) -> None:
        if request.request_id == "s":
            raise OverflowError("what nobody thought of")

    pipeline["hook"] = fail
    producer = Recorder()
    outlet = started(producer)
    outlet.publish([partition_of(0, "r", "s"), partition_of(1, "t")])
    feeds = {key: decode_feed(value) for key, value in producer.values.items()}
    assert {key: len(feed.items) for key, feed in feeds.items()} == {b"r": 2, b"s": 0, b"t": 2}
    assert [(removal.item_id, removal.reason) for removal in feeds[b"s"].removed] == [
        ("a", "worker-error"),
        ("b", "worker-error"),
    ]
    assert counts_of(outlet).worker_errors == 2, "once for the micro-batch, once for the request"


def test_a_feed_that_cannot_be_encoded_goes_out_without_items(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encode = fit_feed

    def failing(feed: Any, *rest: Any) -> EncodedFeed:
        if feed.request_id == "s" and feed.items:
            raise ValueError("Value out of range: 20261127031249123456")
        return encode(feed, *rest)

    monkeypatch.setattr(ranker_module, "fit_feed", failing)
    producer = Recorder()
    outlet = started(producer)
    outlet.publish([partition_of(0, "r", "s")])
    assert {key: len(decode_feed(value).items) for key, value in producer.values.items()} == {
        b"r": 2,
        b"s": 0,
    }


def test_a_partition_of_which_no_feed_can_be_made_is_named_and_the_others_go_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encode = fit_feed

    def failing(feed: Any, *rest: Any) -> EncodedFeed:
        if feed.request_id == "s":
            raise ValueError("limit_bytes: got 3, expected room for a feed without items")
        return encode(feed, *rest)

    monkeypatch.setattr(ranker_module, "fit_feed", failing)
    producer = Recorder()
    outlet = started(producer)
    outlet.publish([partition_of(0, "r"), partition_of(1, "s"), partition_of(2, "t")])
    assert list(outlet.emitter.broken) == [1]
    assert sorted(producer.values) == [b"r", b"t"]


@pytest.mark.parametrize("error", [MemoryError(), RegistryFailed("the thread has ended")])
def test_what_no_request_is_to_blame_for_ends_the_worker(
    error: Exception, pipeline: dict[str, Callable[[Request], None]]
) -> None:
    def fail(_request: Request) -> None:
        raise error

    pipeline["hook"] = fail
    with pytest.raises(type(error)):
        started(Recorder()).publish([partition_of(0, "r")])


def test_only_records_count_as_published_and_not_offsets_that_are_committed_alone() -> None:
    producer = Recorder()
    outlet = started(producer)
    read_on = partition_of(0)
    read_on.assembler.observe(0, 1000)
    outlet.drain([read_on])
    assert producer.calls.count("commit") == 1
    assert outlet.published_at == float("-inf"), "the next request does not linger for it"
    outlet.publish([partition_of(0, "r")])
    assert outlet.published_at > 0
