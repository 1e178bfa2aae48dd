"""Intake: a record becomes part of an open request, or a dead letter.

Rules:
- Whatever is wrong with a record is its producer's fault. It costs a dead letter and stops nothing.
- An event that is read again after a restart is judged as the first time. What came of it then is
  out already: its dead letter is not written again, and settled events are only counted.
- If the bounds of what is held are passed, the oldest open request of all partitions is closed.

`take` is on the hot path: it runs once for each event.
"""

from collections.abc import Collection
from dataclasses import dataclass

from workers.assembly.held import Budget
from workers.codec.dead_letters import dead_letter_headers, fit_dead_letter
from workers.codec.decoder import Decoder
from workers.codec.pointer import Span
from workers.counts import Counts
from workers.log import log
from workers.ranking.refusal import EventRefused, Reason, candidates_message
from workers.ranking.request import Event
from workers.streaming.limits import OutputLimits
from workers.streaming.partition import Partition
from workers.streaming.publisher import Output
from workers.streaming.records import Fetched, Headers, read_headers
from workers.streaming.topics import WorkerTopics
from workers.worker_errors import WorkerErrors


@dataclass(frozen=True)
class Intake:
    """Decodes and assembles."""

    decoder: Decoder
    budget: Budget
    counts: Counts
    topics: WorkerTopics
    limits: OutputLimits
    errors: WorkerErrors

    def take(self, partition: Partition, message: Fetched, timestamp: int) -> None:
        """Take one record of a partition; `timestamp` in ms. What it closes waits in the
        partition's assembler.
        """
        assembler = partition.assembler
        offset = message.offset()
        counts = self.counts
        assembler.observe(offset, timestamp)
        counts.events += 1

        replay = partition.replay
        if offset < replay.settled_until and replay.is_settled(
            offset, message.key(), message.value()
        ):
            counts.settled += 1
            return

        headers = read_headers(message)
        event: Event | None = None
        try:
            if headers is None:
                event = self._decode_without_headers(message)
            else:
                event = self.decoder.decode(message.value(), message.key(), headers)
            refused = assembler.take(event, offset, timestamp)
        except EventRefused as refusal:
            self._dead_letter(partition, message, headers, refusal.reason, refusal.message)
            return
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
            return

        counts.candidates += len(event.candidates)
        if event.missing or event.unknown:
            counts.missing_features += event.missing
            counts.unknown_features += event.unknown
        if refused:
            self._dead_letter(
                partition, message, headers, Reason.CANDIDATES, candidates_message(refused)
            )

    def pass_over(self, partition: Partition, span: Span) -> None:
        """Go on behind records that cannot be read, and that `trimtab offsets skip` let be skipped.
        They get one dead letter together.
        """
        first = span.first
        last = span.end - 1
        if not span.is_reported:
            where = f"offset {first}" if first == last else f"offsets {first} to {last}"
            why = (
                f"{where}: cannot be read, and skipped by `trimtab offsets skip`;"
                " what they held is not known"
            )
            headers = dead_letter_headers(
                None, Reason.UNREADABLE, why, self.topics.candidates, partition.number, first
            )
            partition.outbox.append(
                Output(self.topics.dead_letters, partition.number, None, None, headers)
            )
        partition.pass_over(span)
        log.warning("skipped", partition=partition.number, first=first, last=last)

    def evict(self, partitions: Collection[Partition]) -> None:
        """Close the oldest requests of all partitions until what is held is within its bounds.

        Those that wait for models go first: closing another surface's requests would not make them
        wait any less.
        """
        while self.budget.exceeded:
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
        self.counts.unreadable_headers += 1
        if self.counts.unreadable_headers == 1:
            log.warning(
                "headers_unreadable",
                partition=message.partition(),
                offset=message.offset(),
                error="got a header name that is not UTF-8, expected UTF-8",
                doing="reading the format from the bytes;"
                " counted from now on, and not logged again",
            )
        return self.decoder.decode_as_seen(message.value(), message.key())

    def _dead_letter(
        self, partition: Partition, message: Fetched, own: Headers | None, reason: Reason, why: str
    ) -> None:
        """Put a dead letter into the outbox, unless it is out already. `own`: the event's headers;
        None if they cannot be read.
        """
        if own is None:
            why = f"headers: a name is not UTF-8, so this letter has none of the event's own; {why}"
        offset = message.offset()
        key = message.key()
        value = message.value()
        if offset < partition.replay.until:
            is_partial = reason is Reason.CANDIDATES
            if partition.replay.is_out(offset, key, value, is_partial=is_partial, message=why):
                return

        headers = dead_letter_headers(
            own, reason, why, message.topic(), message.partition(), offset
        )
        letter = fit_dead_letter(key, value, headers, self.limits.letter_bytes)
        partition.outbox.append(
            Output(
                self.topics.dead_letters, partition.number, letter.key, letter.value, letter.headers
            )
        )
