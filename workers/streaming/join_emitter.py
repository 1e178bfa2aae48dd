"""The emitter of the join: closed feeds become request outcomes and sums in the outboxes.

Rules:
- One transaction a second is enough: a record of sums has 5 to 10 kB. Only if there is more to go
  out than one transaction takes, the next one follows at once.
- The sums of a key are written after the feeds that changed them were added, in the same
  transaction. They are absolute, so the latest record of a key counts.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from workers.codec.formats import Format
from workers.codec.outcomes import (
    encode_feed_outcomes,
    encode_request_outcomes,
    encode_sums_key,
    outcome_headers,
)
from workers.codec.partitioner import partition_of
from workers.counts import ClosedFacts, JoinCounts, JoinedCounts, note_letter
from workers.outcomes.records import ClosedFeed
from workers.ranking.outcome_rules import SEEN_BIT, TAKE_BIT
from workers.streaming.join_partition import JoinPartition
from workers.streaming.limits import OutputLimits
from workers.streaming.publisher import Output
from workers.streaming.topics import JoinTopics
from workers.worker_errors import WorkerErrors

_INTERVAL_SECONDS = 1.0
_MAX_FEEDS = 2000
"""In one transaction."""
_NOT_SEEN = bytes(bits for bits in range(256) if not bits & SEEN_BIT)
_NOT_TAKEN = bytes(bits for bits in range(256) if not bits & TAKE_BIT)


@dataclass
class JoinEmitter:
    """Publishes what closed feeds came to. `request_partitions` is the partition count of
    request-outcomes.
    """

    topics: JoinTopics
    request_partitions: int
    outcomes_format: Format
    limits: OutputLimits
    counts: JoinCounts
    errors: WorkerErrors
    joined: JoinedCounts = field(default_factory=JoinedCounts)
    broken: dict[int, str] = field(default_factory=dict)
    _emitted_at: float = float("-inf")
    _has_more: bool = False

    def has_room(self, partitions: Collection[JoinPartition]) -> bool:
        """Always: what is closed waits in the join and takes no further room."""
        return True

    def begin(self, partitions: Collection[JoinPartition], *, is_drain: bool) -> bool:
        """Whether a second has passed, or there was more to go out than one transaction took."""
        now = time.monotonic()
        if not (is_drain or self._has_more or now - self._emitted_at >= _INTERVAL_SECONDS):
            return False
        self._emitted_at = now
        return True

    def emit(
        self, partitions: Collection[JoinPartition], is_failing: Callable[[int], bool]
    ) -> bool:
        """Put closed feeds into the outboxes. Always returns False: one transaction a turn."""
        room = _MAX_FEEDS
        for partition in partitions:
            # What is ready has to go out first, but feeds that go out at once are not held back.
            is_held_back = bool(partition.outbox) and is_failing(partition.number)
            closed = partition.join.take_due(0 if is_held_back else room)
            room = max(0, room - len(closed))
            if not closed:
                continue
            try:
                self._put_out(partition, closed)
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - our fault: must cost one partition only
                self.errors.note("publish", error, partition=partition.number)
                self.broken[partition.number] = repr(error)
        self._has_more = room == 0
        return False

    def count(self, published: Sequence[Output]) -> None:
        """Count the outcomes and dead letters that went out."""
        for output in published:
            if output.topic == self.topics.request_outcomes:
                self.counts.closed += 1
                if isinstance(output.counted_as, ClosedFacts):
                    self.joined.note_closed(output.counted_as)
            elif output.topic == self.topics.dead_letters:
                self.counts.dead_letters += 1
                note_letter(self.joined.letters, str(output.counted_as))

    def _put_out(self, partition: JoinPartition, closed: Sequence[ClosedFeed]) -> None:
        number = partition.number
        headers = outcome_headers(self.outcomes_format)
        limit = self.limits.record_bytes(self.topics.request_outcomes)
        for feed in closed:
            key = feed.user_id.encode()
            partition.outbox.append(
                Output(
                    topic=self.topics.request_outcomes,
                    partition=partition_of(key, self.request_partitions),
                    key=key,
                    value=encode_request_outcomes(feed, self.outcomes_format, limit),
                    headers=headers,
                    input_partition=number,
                    counted_as=_facts_of(feed),
                )
            )

        changed = partition.ledger.add(closed)
        closed_until = partition.join.closed_until
        for sums_key, sums in changed.items():
            value = encode_feed_outcomes(sums_key, number, closed_until, sums, self.outcomes_format)
            partition.outbox.append(
                Output(
                    topic=self.topics.feed_outcomes,
                    partition=number,
                    key=encode_sums_key(sums_key),
                    value=value,
                    headers=headers,
                    input_partition=number,
                )
            )


def _facts_of(feed: ClosedFeed) -> ClosedFacts:
    seen = len(feed.marks.translate(None, _NOT_SEEN))
    takes = len(feed.marks.translate(None, _NOT_TAKEN))
    return ClosedFacts(feed.key.surface, feed.key.arm, seen, takes)
