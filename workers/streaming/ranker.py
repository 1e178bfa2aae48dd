"""Ranker: closed requests become feeds in the outboxes of their partitions.

The rules about faults of our own, which cost as little as they can and are never silent:
- If ranking a micro-batch fails, each of its requests is ranked by itself. One that fails again
  gets a feed without items.
- A feed that cannot be encoded goes out without items.
- If not even that can be made, the partition is broken: `broken` names it, and the worker takes it
  out.
- A lack of memory and the end of the models' thread are no request's fault. They end the worker.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from workers.codec.feed_records import encode_feed_record, feed_record_headers
from workers.codec.feeds import EncodedFeed, feed_headers, fit_feed
from workers.codec.formats import Format
from workers.counts import Counts, FeedFacts, RankedCounts, StepTimes, note_letter
from workers.outcomes.records import feed_record
from workers.pipeline import Ranked, rank_requests
from workers.ranking.feed import Feed, unscored_feed
from workers.ranking.lookup import LookUp, LookupQuery, LookupResult
from workers.ranking.mix import Mix
from workers.ranking.removal import Removal, RemovalReason
from workers.ranking.request import Request
from workers.scoring.catalogue import Catalogue
from workers.scoring.registry import Registry, RegistryFailed
from workers.streaming.limits import OutputLimits
from workers.streaming.publisher import Output
from workers.streaming.ranking_partition import RankingPartition
from workers.streaming.topics import WorkerTopics
from workers.tracing.request_traces import NOT_TRACED
from workers.worker_errors import WorkerErrors

_MAX_CANDIDATES = 8192
"""In one micro-batch, and so in one transaction. What is closed beyond them waits for the next."""
_HELD_AGAIN_SECONDS = 0.5

_NOT_OF_A_REQUEST = (MemoryError, RegistryFailed)


class Closed(NamedTuple):
    """Closed requests of one partition, to be ranked in one micro-batch with those of others."""

    partition: RankingPartition
    requests: list[Request]


@dataclass
class Ranker:
    """Ranks what is closed. `registry`, `mix` and `look_up` are used once for each micro-batch.

    `broken`: by partition, why no feed can be made for it. Whoever reads it takes them out.
    """

    registry: Registry
    mix: Callable[[str], Mix]
    look_up: LookUp
    topics: WorkerTopics
    feeds_format: Format
    limits: OutputLimits
    counts: Counts
    errors: WorkerErrors
    ranked: RankedCounts = field(default_factory=RankedCounts)
    times: StepTimes = field(default_factory=StepTimes)
    broken: dict[int, str] = field(default_factory=dict)
    _catalogue: Catalogue | None = None
    _released_at: float = float("-inf")

    def has_room(self, partitions: Collection[RankingPartition]) -> bool:
        """Whether one micro-batch can take more than what is closed by now."""
        closed = 0
        for partition in partitions:
            if not partition.is_paused:
                closed += partition.assembler.closed_candidates
        return closed < _MAX_CANDIDATES

    def begin(self, partitions: Collection[RankingPartition], *, is_drain: bool) -> bool:
        """Let requests that wait for their models be ranked again, if the catalogue has changed or
        a while has passed.
        """
        waiting = [partition for partition in partitions if partition.assembler.held_requests]
        if not waiting:
            return True
        now = time.monotonic()
        catalogue = self.registry.catalogue
        if catalogue is self._catalogue and now - self._released_at < _HELD_AGAIN_SECONDS:
            return True
        self._catalogue = catalogue
        self._released_at = now
        for partition in waiting:
            partition.assembler.release_held()
        return True

    def emit(
        self, partitions: Collection[RankingPartition], is_failing: Callable[[int], bool]
    ) -> bool:
        """Rank one micro-batch into the outboxes. Return whether there was anything to rank.

        A partition that `is_failing` is left out as long as its outbox is not empty.
        """
        batch = _take_closed(partitions, is_failing)
        if not batch:
            return False

        requests: list[Request] = []
        for closed in batch:
            requests += closed.requests
        now = time.monotonic()
        self.ranked.requests += len(requests)
        self.ranked.batches.observe(sum([len(request.item_ids) for request in requests]))
        feeds = iter(self._rank(requests, batch, now))
        began = time.perf_counter_ns()
        for partition, taken in batch:
            ranked = [(request, next(feeds)) for request in taken]
            try:
                self._put_out(partition, ranked, now)
            except _NOT_OF_A_REQUEST:
                raise
            except Exception as error:  # noqa: BLE001 - our fault: must cost one partition only
                self.errors.note("publish", error, partition=partition.number)
                self.broken[partition.number] = repr(error)
        self.times.encode += time.perf_counter_ns() - began
        return True

    def _rank(
        self, requests: Sequence[Request], batch: Sequence[Closed], now: float
    ) -> list[Feed | None]:
        """The feed of each request, in their order; None if it has to wait for its models."""
        ranked_at = time.time_ns() // 1_000_000

        def is_overdue(request: Request) -> bool:
            return any(closed.partition.assembler.is_overdue(request, now) for closed in batch)

        def rank(some: Sequence[Request]) -> Ranked:
            began = time.perf_counter_ns()
            looked_up = self.times.look_up
            ranked = rank_requests(
                some, self.registry, self.mix, lambda _: ranked_at, is_overdue, self._timed_look_up
            )
            took = time.perf_counter_ns() - began - (self.times.look_up - looked_up)
            self._note_times(ranked, took)
            return ranked

        try:
            ranked = rank(requests)
        except _NOT_OF_A_REQUEST:
            raise
        except Exception as error:  # noqa: BLE001 - our fault: must cost one request only
            self.errors.note("rank", error, requests=len(requests))
            feeds: list[Feed | None] = []
            for request in requests:
                feeds += self._rank_alone(request, rank, ranked_at)
            return feeds
        self._count(ranked)
        return ranked.feeds

    def _rank_alone(
        self, request: Request, rank: Callable[[Sequence[Request]], Ranked], ranked_at: int
    ) -> list[Feed | None]:
        """Rank one request of a micro-batch that failed."""
        try:
            ranked = rank([request])
        except _NOT_OF_A_REQUEST:
            raise
        except Exception as error:  # noqa: BLE001 - see _rank
            self.errors.note(
                "rank", error, request_id=request.request_id, surface=request.surface.name
            )
            assignment = self.mix(request.surface.name).assign(request.user_id)
            return [unscored_feed(request, assignment, ranked_at, RemovalReason.WORKER_ERROR)]
        self._count(ranked)
        return ranked.feeds

    def count(self, published: Sequence[Output]) -> None:
        """Count the feeds and dead letters that went out."""
        now_ms = time.time_ns() // 1_000_000
        for output in published:
            if output.topic == self.topics.feeds:
                self.counts.feeds += 1
                if isinstance(output.counted_as, FeedFacts):
                    self.ranked.note_feed(output.counted_as, now_ms)
            elif output.topic == self.topics.dead_letters:
                self.counts.dead_letters += 1
                note_letter(self.ranked.letters, str(output.counted_as))

    def _timed_look_up(self, query: LookupQuery) -> LookupResult:
        began = time.perf_counter_ns()
        try:
            return self.look_up(query)
        finally:
            self.times.look_up += time.perf_counter_ns() - began

    def _note_times(self, ranked: Ranked, nanoseconds: int) -> None:
        """Note how long a micro-batch took, without its look-ups."""
        scored = 0
        for objective, took in ranked.score_ns.items():
            scored += took
            self.ranked.score_ns[objective] = self.ranked.score_ns.get(objective, 0) + took
        self.times.score += scored
        self.times.combine += nanoseconds - scored

    def _count(self, ranked: Ranked) -> None:
        self.counts.clipped_features += ranked.clipped
        self.counts.unscored += ranked.unscored
        self.counts.dropped += ranked.dropped
        self.counts.defaulted += ranked.defaulted
        self.counts.without_lookups += ranked.without_lookups
        self.counts.model_errors += ranked.model_errors

    def _put_out(
        self, partition: RankingPartition, ranked: Sequence[tuple[Request, Feed | None]], now: float
    ) -> None:
        """Encode a partition's feeds into its outbox, and the feed records of surfaces that count
        outcomes. Hold the requests that have none yet. Both carry on the trace of a traced request.
        """
        traces = partition.traces
        headers = feed_headers(self.feeds_format)
        record_headers = feed_record_headers(self.feeds_format)
        done: list[Request] = []
        held: list[Request] = []
        for request, feed in ranked:
            if feed is None:
                held.append(request)
                continue
            done.append(request)
            key = request.request_id.encode()
            encoded = self._encode(request, feed)
            trace = NOT_TRACED if traces is None else traces.rank(request, encoded.feed)
            partition.outbox.append(
                Output(
                    topic=self.topics.feeds,
                    partition=partition.number,
                    key=key,
                    value=encoded.value,
                    headers=[*headers, *trace],
                    counted_as=FeedFacts(
                        feed.surface, feed.arm, feed.completion, feed.requested_at
                    ),
                )
            )
            outcomes = request.surface.outcomes
            if outcomes is not None and self.topics.interactions is not None:
                record = feed_record(encoded.feed, outcomes.window_s)
                value = encode_feed_record(record, self.feeds_format)
                partition.outbox.append(
                    Output(
                        self.topics.interactions,
                        partition.number,
                        key,
                        value,
                        [*record_headers, *trace],
                    )
                )

        partition.assembler.publish(done)
        if held:
            partition.assembler.hold(held, now)
            self.counts.held += len(held)

    def _encode(self, request: Request, feed: Feed) -> EncodedFeed:
        """Encode a feed; without items, which are all removed, if it cannot be encoded."""
        limit = self.limits.record_bytes(self.topics.feeds)
        try:
            return fit_feed(feed, self.feeds_format, limit)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours: it must cost one feed, not all
            self.errors.note(
                "encode", error, request_id=request.request_id, surface=request.surface.name
            )

        removed = [
            Removal(item_id, RemovalReason.WORKER_ERROR) for item_id in sorted(request.item_ids)
        ]
        without_items = feed._replace(
            models={}, items=[], removed=removed, truncated=0, below_top_k=0, defaulted=[]
        )
        return fit_feed(without_items, self.feeds_format, limit)


def _take_closed(
    partitions: Collection[RankingPartition], is_failing: Callable[[int], bool]
) -> list[Closed]:
    """Closed requests of every partition, up to the bound of one micro-batch."""
    batch: list[Closed] = []
    room = _MAX_CANDIDATES
    for partition in partitions:
        if partition.outbox and is_failing(partition.number):
            continue  # what is ready has to go out first
        taken = partition.assembler.take_closed(room)
        if taken:
            batch.append(Closed(partition, taken))
            for request in taken:
                room -= max(1, len(request.item_ids))
        if room <= 0:
            break
    return batch
