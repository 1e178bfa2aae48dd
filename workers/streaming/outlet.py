"""Outlet: closed requests become feeds, and what is ready goes out in one transaction with the offsets."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from confluent_kafka import Consumer

from workers.codec.feeds import encode_feed, feed_headers
from workers.observe.counts import Counts
from workers.observe.log import log
from workers.pipeline import Ranked, rank_requests
from workers.ranking.feed import Feed
from workers.ranking.lookup import LookUp
from workers.ranking.mix import Mix
from workers.ranking.request import Request
from workers.scoring.catalogue import Catalogue
from workers.scoring.library import Library
from workers.streaming.partition import Partition
from workers.streaming.publisher import Output, Publisher, TransactionAborted
from workers.streaming.route import Route

_MOST_CANDIDATES = 8192  # in one transaction; what is closed beyond them waits for the next
_COMMIT_SECONDS = 1.0
_HELD_AGAIN_SECONDS = 0.5

Chunk = Sequence[tuple[Partition, list[Request]]]


@dataclass
class Outlet:
    """Ranks and publishes. `library`, `mix` and `look_up` are asked once for each micro-batch."""

    publisher: Publisher
    consumer: Consumer
    library: Library
    mix: Callable[[str], Mix]
    look_up: LookUp
    route: Route
    counts: Counts
    _committed: float = field(default_factory=time.monotonic)
    _seen: Catalogue | None = None
    _released: float = float("-inf")

    def publish(self, partitions: Collection[Partition]) -> None:
        """Rank what is closed and publish all that is ready; without either, commit offsets each second.

        Raises ProducerLost and Fenced. After an aborted transaction everything is still in its outbox.
        """
        self._release_held(partitions)
        while True:
            chunk = _take_closed(partitions)
            self._rank(chunk)
            self._transact(partitions)
            if not chunk or any(partition.outbox for partition in partitions):
                return

    def _release_held(self, partitions: Collection[Partition]) -> None:
        """Look again at what waits for its models, where something has changed or a while has passed."""
        waiting = [partition for partition in partitions if partition.assembler.held]
        now, catalogue = time.monotonic(), self.library.catalogue
        if not waiting or (catalogue is self._seen and now - self._released < _HELD_AGAIN_SECONDS):
            return
        self._seen, self._released = catalogue, now
        for partition in waiting:
            partition.assembler.release_held()

    def has_room(self, partitions: Collection[Partition]) -> bool:
        """Whether one transaction can take more than what is closed by now."""
        return sum(partition.assembler.closed_candidates for partition in partitions) < _MOST_CANDIDATES

    def drain(self, partitions: Collection[Partition]) -> None:
        """Publish, and commit where a commit is not due yet."""
        self._committed = float("-inf")
        self.publish(partitions)

    def _rank(self, chunk: Chunk) -> None:
        requests = [request for _, taken in chunk for request in taken]
        if not requests:
            return
        now, ranked_at = time.monotonic(), time.time_ns() // 1_000_000

        def is_overdue(request: Request) -> bool:
            return any(partition.assembler.held.is_overdue(request, now) for partition, _ in chunk)

        ranked = rank_requests(requests, self.library, self.mix, lambda _: ranked_at, is_overdue, self.look_up)
        self._count(ranked)
        feeds = iter(ranked.feeds)
        for partition, taken in chunk:
            self._put_out(partition, [(request, next(feeds)) for request in taken], now)

    def _count(self, ranked: Ranked) -> None:
        self.counts.clipped_features += ranked.clipped
        self.counts.unscored += ranked.unscored
        self.counts.dropped += ranked.dropped
        self.counts.defaulted += ranked.defaulted
        self.counts.without_lookups += ranked.without_lookups

    def _put_out(self, partition: Partition, ranked: Sequence[tuple[Request, Feed | None]], now: float) -> None:
        """Encode a partition's feeds into its outbox; hold what has none yet."""
        headers = feed_headers(self.route.feeds_format)
        for request, feed in ranked:
            if feed is not None:
                value = encode_feed(feed, self.route.feeds_format, self.route.most_feed_bytes)
                key = request.request_id.encode()
                partition.outbox.append(Output(self.route.feeds, partition.number, key, value, headers))
        done = [request for request, feed in ranked if feed is not None]
        partition.assembler.publish(done)
        self.counts.feeds += len(done)
        if len(done) < len(ranked):
            held = [request for request, feed in ranked if feed is None]
            partition.assembler.held.hold(held, now)
            self.counts.held += len(held)

    def _transact(self, partitions: Collection[Partition]) -> None:
        """Publish every outbox with the marks of its partitions; after an aborted transaction they are as they were."""
        outputs = [output for partition in partitions for output in partition.outbox]
        if not outputs and time.monotonic() - self._committed < _COMMIT_SECONDS:
            return
        self._committed = time.monotonic()
        positions = {p: found for p in partitions if (found := p.commit_position(self.route.candidates))}
        if not positions:
            return
        try:
            self.publisher.publish(outputs, [where for where, _ in positions.values()], self.consumer)
        except TransactionAborted as aborted:
            log.warning("transaction_aborted", error=str(aborted))
            return
        for partition, (_, mark) in positions.items():
            partition.committed(mark, self.publisher.ends.get(partition.number, 0))


def _take_closed(partitions: Collection[Partition]) -> Chunk:
    """Closed requests of every partition, up to the bound of one transaction."""
    chunk, room = [], _MOST_CANDIDATES
    for partition in partitions:
        taken = partition.assembler.take_closed(room)
        if taken:
            chunk.append((partition, taken))
            room -= sum(max(1, len(request.item_ids)) for request in taken)
        if room <= 0:
            break
    return chunk
