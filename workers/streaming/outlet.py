"""Outlet: closed requests become feeds, and what is ready goes out in one transaction with the offsets."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from confluent_kafka import Consumer

from workers.codec.feeds import encode_feed, feed_headers
from workers.observe.counts import Counts
from workers.observe.log import log
from workers.pipeline import rank_requests
from workers.ranking.mix import Mix
from workers.ranking.request import Request
from workers.scoring.scorer import Scorer
from workers.streaming.partition import Partition
from workers.streaming.publisher import Output, Publisher, TransactionAborted
from workers.streaming.route import Route

_MOST_CANDIDATES = 8192  # in one transaction; what is closed beyond them waits for the next
_COMMIT_SECONDS = 1.0

Chunk = Sequence[tuple[Partition, list[Request]]]


@dataclass
class Outlet:
    """Ranks and publishes. `scorer` and `mix` give the snapshot in force, once for each micro-batch."""

    publisher: Publisher
    consumer: Consumer
    scorer: Callable[[], Scorer]
    mix: Callable[[str], Mix]
    route: Route
    counts: Counts
    _committed: float = field(default_factory=time.monotonic)

    def publish(self, partitions: Collection[Partition]) -> None:
        """Rank what is closed and publish all that is ready; without either, commit offsets each second.

        Raises ProducerLost and Fenced. After an aborted transaction everything is still in its outbox.
        """
        while True:
            chunk = _take_closed(partitions)
            self._rank(chunk)
            if not self._transact(partitions) or not chunk:
                return

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
        ranked_at = time.time_ns() // 1_000_000
        ranked = rank_requests(requests, self.scorer(), self.mix, lambda _: ranked_at)
        self.counts.feeds += len(requests)
        self.counts.clipped_features += ranked.clipped
        feeds, headers = iter(ranked.feeds), feed_headers(self.route.feeds_format)
        for partition, taken in chunk:
            for request in taken:
                value = encode_feed(next(feeds), self.route.feeds_format, self.route.most_feed_bytes)
                key = request.request_id.encode()
                partition.outbox.append(Output(self.route.feeds, partition.number, key, value, headers))
            partition.assembler.publish(taken)

    def _transact(self, partitions: Collection[Partition]) -> bool:
        """Publish every outbox with the marks of its partitions; whether a transaction went through."""
        outputs = [output for partition in partitions for output in partition.outbox]
        if not outputs and time.monotonic() - self._committed < _COMMIT_SECONDS:
            return False
        self._committed = time.monotonic()
        positions = {p: found for p in partitions if (found := p.commit_position(self.route.candidates))}
        if not positions:
            return False
        try:
            self.publisher.publish(outputs, [where for where, _ in positions.values()], self.consumer)
        except TransactionAborted as aborted:
            log.warning("transaction_aborted", error=str(aborted))
            return False
        for partition, (_, mark) in positions.items():
            partition.committed(mark, self.publisher.ends.get(partition.number, 0))
        return True


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
