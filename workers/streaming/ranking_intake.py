"""Intake: a record becomes part of an open request, or a dead letter.

Rules:
- Whatever is wrong with a record is its producer's fault. It costs a dead letter and stops nothing.
- An event that is read again after a restart is judged as the first time. What came of it then is
  out already: its dead letter is not written again, and settled events are only counted.
- If the bounds of what is held are passed, the oldest open request of all partitions is closed.

`take` is on the hot path: it runs once for each event.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass, field

from workers.assembly.held import Budget
from workers.codec.decoder import Decoder
from workers.codec.pointer import Span
from workers.counts import TIMED_RECORDS, Counts, StepTimes
from workers.ranking.refusal import EventRefused, Reason, candidates_message
from workers.ranking.request import Event
from workers.streaming.dead_letters import DeadLetters, explain_without_headers
from workers.streaming.ranking_partition import RankingPartition
from workers.streaming.records import Fetched, Headers, note_unreadable_headers, read_headers
from workers.worker_errors import WorkerErrors


@dataclass(frozen=True)
class RankingIntake:
    """Decodes and assembles."""

    decoder: Decoder
    budget: Budget
    counts: Counts
    dead_letters: DeadLetters
    errors: WorkerErrors
    times: StepTimes = field(default_factory=StepTimes)

    def take(
        self, partition: RankingPartition, message: Fetched, offset: int, timestamp: int
    ) -> bool:
        """Take one record of a partition, which is at `offset`; `timestamp` in ms. What it closes
        waits in the partition's assembler. Return whether more is held than the worker may hold.
        """
        assembler = partition.assembler
        counts = self.counts
        assembler.observe(offset, timestamp)
        counts.events += 1

        replay = partition.replay
        if offset < replay.settled_until and replay.is_settled(
            offset, message.key(), message.value()
        ):
            counts.settled += 1
            return False

        is_timed = counts.events % TIMED_RECORDS == 0
        began = time.perf_counter_ns() if is_timed else 0
        headers = read_headers(message)
        event: Event | None = None
        try:
            if headers is None:
                event = self._decode_without_headers(message)
            else:
                event = self.decoder.decode(message.value(), message.key(), headers)
            decoded = time.perf_counter_ns() if is_timed else 0
            refused = assembler.take(event, offset, timestamp)
            if is_timed:
                self.times.decode += TIMED_RECORDS * (decoded - began)
                self.times.assemble += TIMED_RECORDS * (time.perf_counter_ns() - decoded)
        except EventRefused as refusal:
            self._dead_letter(partition, message, headers, refusal.reason, refusal.message)
            return False
        except MemoryError:
            raise  # no record's fault
        except Exception as error:
            if event is not None:
                raise  # assembly failed, and what it holds is not to be trusted
            where = f"{message.topic()}/{message.partition()}@{message.offset()}"
            self.errors.note("decode", error, record=where)
            why = (
                f"event: the worker failed to decode it: {error!r};"
                " please report it with this event"
            )
            self._dead_letter(partition, message, headers, Reason.WORKER_ERROR, why)
            return False

        if partition.traces is not None:
            partition.traces.take(event.request_id, headers, offset)
        counts.candidates += len(event.item_ids)
        if event.missing or event.unknown:
            counts.missing_features += event.missing
            counts.unknown_features += event.unknown
        if refused:
            self._dead_letter(
                partition, message, headers, Reason.CANDIDATES, candidates_message(refused)
            )
        return self.budget.is_exceeded()

    def pass_over(self, partition: RankingPartition, span: Span) -> None:
        """Go on behind records that cannot be read, and that an operator has skipped."""
        self.dead_letters.pass_over(partition, span)

    def keep_limits(self, partitions: Collection[RankingPartition]) -> None:
        """Close the oldest requests of all partitions until what is held is within its bounds.

        Those that wait for models go first: closing another surface's requests would not make them
        wait any less.
        """
        while self.budget.is_exceeded():
            waiting = [p.assembler for p in partitions if p.assembler.held_requests]
            if waiting:
                waiting[0].give_up_oldest_held()
                continue
            collecting = [p.assembler for p in partitions if p.assembler.open_requests]
            oldest = min(collecting, key=lambda assembler: assembler.oldest_opened_at)
            oldest.evict_oldest()
            self.counts.evicted += 1

    def _decode_without_headers(self, message: Fetched) -> Event:
        """Decode an event whose headers cannot be read: a header of its producer's tracing must not
        cost the feed.
        """
        note_unreadable_headers(message, self.counts)
        return self.decoder.decode_as_seen(message.value(), message.key())

    def _dead_letter(
        self,
        partition: RankingPartition,
        message: Fetched,
        headers: Headers | None,
        reason: Reason,
        why: str,
    ) -> None:
        """Put a dead letter into the outbox, unless it is out already. `headers`: the event's own,
        None if they cannot be read.
        """
        if headers is None:
            why = explain_without_headers(why)
        offset = message.offset()
        if offset < partition.replay.until and partition.replay.is_out(
            offset,
            message.key(),
            message.value(),
            is_partial=reason is Reason.CANDIDATES,
            message=why,
        ):
            return
        self.dead_letters.put(partition, message, headers, reason, why)
        if partition.traces is not None:
            partition.traces.refuse(headers, offset, reason)
