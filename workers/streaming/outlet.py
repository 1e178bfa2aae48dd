"""Outlet: closed requests become feeds, and what is ready goes out in one transaction with the
offsets.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from confluent_kafka import Consumer

from workers.codec.feeds import encode_feed, feed_headers
from workers.codec.formats import Format
from workers.counts import Counts
from workers.pipeline import Ranked, rank_requests
from workers.ranking.feed import Feed, unscored
from workers.ranking.lookup import LookUp
from workers.ranking.mix import Mix
from workers.ranking.removal import Removal, RemovalReason
from workers.ranking.request import Request
from workers.scoring.catalogue import Catalogue
from workers.scoring.registry import Registry, RegistryFailed
from workers.streaming.limits import OutputLimits
from workers.streaming.partition import Partition
from workers.streaming.publisher import (
    Output,
    ProducerLost,
    Publisher,
    TransactionAborted,
    TransactionFailed,
)
from workers.streaming.retry import Retries
from workers.streaming.topics import WorkerTopics
from workers.worker_errors import WorkerErrors

_MOST_CANDIDATES = 8192  # in one transaction; what is closed beyond them waits for the next
_COMMIT_SECONDS = 1.0
_HELD_AGAIN_SECONDS = 0.5

# Errors that no request is to blame for: they end the worker.
_NOT_OF_A_RECORD = (MemoryError, RegistryFailed)

Chunk = Sequence[tuple[Partition, list[Request]]]


@dataclass
class Outlet:
    """Ranks and publishes. `library`, `mix` and `look_up` are asked once for each micro-batch.

    `broken` gets the partitions of which not even a feed without items could be made, and why:
    whoever reads it takes them out.
    """

    publisher: Publisher
    consumer: Consumer
    registry: Registry
    mix: Callable[[str], Mix]
    look_up: LookUp
    topics: WorkerTopics
    feeds_format: Format
    limits: OutputLimits
    counts: Counts
    errors: WorkerErrors
    retries: Retries = field(default_factory=Retries)
    broken: dict[int, str] = field(default_factory=dict)
    _committed: float = field(default_factory=time.monotonic)
    _seen: Catalogue | None = None
    _released: float = float("-inf")

    def publish(self, partitions: Collection[Partition]) -> None:
        """Rank what is closed and publish all that is ready; without either, commit offsets each
        second.

        Raises ProducerLost and Fenced. After an aborted transaction everything is still in its
        outbox.
        """
        self._release_held(partitions)
        while True:
            chunk = self._take_closed(partitions)
            self._rank(chunk)
            self._transact(partitions)
            if not chunk or any(partition.outbox for partition in partitions):
                return

    def _release_held(self, partitions: Collection[Partition]) -> None:
        """Look again at what waits for its models, where something has changed or a while has
        passed.
        """
        waiting = [partition for partition in partitions if partition.assembler.held_requests]
        now, catalogue = time.monotonic(), self.registry.catalogue
        if not waiting or (catalogue is self._seen and now - self._released < _HELD_AGAIN_SECONDS):
            return
        self._seen, self._released = catalogue, now
        for partition in waiting:
            partition.assembler.release_held()

    def has_room(self, partitions: Collection[Partition]) -> bool:
        """Whether one transaction can take more than what is closed by now."""
        closed = sum(
            partition.assembler.closed_candidates
            for partition in partitions
            if not partition.is_paused
        )
        return closed < _MOST_CANDIDATES

    def drain(self, partitions: Collection[Partition]) -> None:
        """Publish, and commit where a commit is not due yet."""
        self._committed = float("-inf")
        self.publish(partitions)

    # Ranking

    def _take_closed(self, partitions: Collection[Partition]) -> Chunk:
        """Closed requests of every partition, up to the bound of one transaction."""
        chunk = []
        room = _MOST_CANDIDATES
        for partition in partitions:
            if partition.outbox and self.retries.is_failing(partition.number):
                continue  # what is ready is to go out first
            taken = partition.assembler.take_closed(room)
            if taken:
                chunk.append((partition, taken))
                room -= sum(max(1, len(request.item_ids)) for request in taken)
            if room <= 0:
                break
        return chunk

    def _rank(self, chunk: Chunk) -> None:
        requests = [request for _, taken in chunk for request in taken]
        if not requests:
            return
        now, ranked_at = time.monotonic(), time.time_ns() // 1_000_000

        def is_overdue(request: Request) -> bool:
            return any(partition.assembler.is_overdue(request, now) for partition, _ in chunk)

        def rank(some: Sequence[Request]) -> Ranked:
            return rank_requests(
                some, self.registry, self.mix, lambda _: ranked_at, is_overdue, self.look_up
            )

        try:
            ranked = rank(requests)
        except _NOT_OF_A_RECORD:
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours: it must cost one request, not all
            self.errors.note("rank", error, requests=len(requests))
            feeds = [
                feed for request in requests for feed in self._rank_alone(request, rank, ranked_at)
            ]
        else:
            self._count(ranked)
            feeds = ranked.feeds

        left = iter(feeds)
        for partition, taken in chunk:
            ranked_here = [(request, next(left)) for request in taken]
            try:
                self._put_out(partition, ranked_here, now)
            except _NOT_OF_A_RECORD:
                raise
            except Exception as error:  # noqa: BLE001 - a fault of ours: it must cost one partition, not all
                self.errors.note("publish", error, partition=partition.number)
                self.broken[partition.number] = repr(error)

    def _rank_alone(
        self, request: Request, rank: Callable[[Sequence[Request]], Ranked], ranked_at: int
    ) -> list[Feed | None]:
        """Rank one request of a micro-batch that failed; the one that fails again gets a feed
        without items.
        """
        try:
            ranked = rank([request])
        except _NOT_OF_A_RECORD:
            raise
        except Exception as error:  # noqa: BLE001 - see _rank
            self.errors.note(
                "rank", error, request_id=request.request_id, surface=request.surface.name
            )
            under = self.mix(request.surface.name).assign(request.user_id)
            return [unscored(request, under, ranked_at, RemovalReason.WORKER_ERROR)]
        self._count(ranked)
        return ranked.feeds

    def _count(self, ranked: Ranked) -> None:
        self.counts.clipped_features += ranked.clipped
        self.counts.unscored += ranked.unscored
        self.counts.dropped += ranked.dropped
        self.counts.defaulted += ranked.defaulted
        self.counts.without_lookups += ranked.without_lookups
        self.counts.model_errors += ranked.model_errors

    # Publishing

    def _put_out(
        self, partition: Partition, ranked: Sequence[tuple[Request, Feed | None]], now: float
    ) -> None:
        """Encode a partition's feeds into its outbox; hold what has none yet."""
        headers = feed_headers(self.feeds_format)
        for request, feed in ranked:
            if feed is not None:
                value = self._encode(request, feed)
                key = request.request_id.encode()
                partition.outbox.append(
                    Output(self.topics.feeds, partition.number, key, value, headers)
                )
        done = [request for request, feed in ranked if feed is not None]
        partition.assembler.publish(done)
        if len(done) < len(ranked):
            held = [request for request, feed in ranked if feed is None]
            partition.assembler.hold(held, now)
            self.counts.held += len(held)

    def _encode(self, request: Request, feed: Feed) -> bytes:
        """Encode a feed. One that cannot be encoded goes out without items, which are all removed."""
        form, limit = self.feeds_format, self.limits.feed_bytes
        try:
            return encode_feed(feed, form, limit)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours: it must cost one feed, not all
            self.errors.note(
                "encode", error, request_id=request.request_id, surface=request.surface.name
            )
        removed = [
            Removal(item_id, RemovalReason.WORKER_ERROR) for item_id in sorted(request.item_ids)
        ]
        bare = replace(
            feed, models={}, items=[], removed=removed, truncated=0, below_top_k=0, defaulted=[]
        )
        return encode_feed(bare, form, limit)

    def _transact(self, partitions: Collection[Partition]) -> None:
        """Publish every outbox with the marks of its partitions; after an aborted transaction they
        are as they were.
        """
        now = time.monotonic()
        if (
            not any(partition.outbox for partition in partitions)
            and now - self._committed < _COMMIT_SECONDS
        ):
            return
        ready = {
            p.number: p for p in partitions if p.commit_position(self.topics.candidates) is not None
        }
        self._committed = now
        for group in self.retries.groups(ready, now):
            self._transact_together([ready[number] for number in group])

    def _transact_together(self, group: Sequence[Partition]) -> None:
        """Publish some partitions in one transaction. Raises ProducerLost and Fenced."""
        positions = {
            p: found for p in group if (found := p.commit_position(self.topics.candidates))
        }
        outputs = [output for partition in group for output in partition.outbox]
        numbers = [partition.number for partition in group]
        try:
            self.publisher.publish(
                outputs, [where for where, _ in positions.values()], self.consumer
            )
        except TransactionFailed as failure:
            self._note_failure(numbers, failure)
            return
        for partition, (_, mark) in positions.items():
            self._count_out(partition.outbox)
            partition.committed(mark, self.publisher.ends.get(partition.number, 0))
        self.retries.succeeded(numbers)

    def _note_failure(self, numbers: Sequence[int], failure: TransactionFailed) -> None:
        """Decide what comes of a failed transaction. Raises ProducerLost if everything must start
        again.
        """
        self.retries.failed(numbers, failure, time.monotonic())
        if failure.too_large and self.limits.read_again():
            # What is encoded by now is too large, and so may be the producer's batches.
            raise ProducerLost(f"a record is too large: {failure}", cause=failure.cause)
        if not isinstance(failure, TransactionAborted):
            raise failure

    def _count_out(self, outbox: Sequence[Output]) -> None:
        feeds = sum(output.topic == self.topics.feeds for output in outbox)
        self.counts.feeds += feeds
        self.counts.dead_letters += len(outbox) - feeds
