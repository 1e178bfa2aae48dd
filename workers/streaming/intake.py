"""Intake: a record becomes part of an open request, or a dead letter. The hot path: once for each event."""

from collections.abc import Collection
from dataclasses import dataclass

from workers.assembly.budget import Budget
from workers.codec.dead_letters import dead_letter_headers, fit_dead_letter
from workers.codec.decoder import Decoder
from workers.observe.counts import Counts
from workers.ranking.refusal import EventRefused, Reason, candidates_message
from workers.streaming.partition import Partition
from workers.streaming.publisher import Output
from workers.streaming.records import Fetched
from workers.streaming.route import Route


@dataclass(frozen=True)
class Intake:
    """Decodes and assembles. Whatever is wrong with a record is its producer's fault and stops nothing."""

    decoder: Decoder
    budget: Budget
    counts: Counts
    route: Route

    def take(self, partition: Partition, message: Fetched, timestamp: int) -> None:
        """Take one record of a partition; `timestamp` in ms. What it closes waits in the partition's assembler."""
        assembler, offset, counts = partition.assembler, message.offset(), self.counts
        assembler.observe(offset, timestamp)
        counts.events += 1
        try:
            event = self.decoder.decode(message.value(), message.key(), message.headers())
            refused = assembler.take(event, offset, timestamp)
        except EventRefused as refusal:
            self._dead_letter(partition, message, refusal.reason, refusal.message)
            return
        counts.candidates += len(event.candidates)
        if event.missing or event.unknown:
            counts.missing_features += event.missing
            counts.unknown_features += event.unknown
        if refused:
            self._dead_letter(partition, message, Reason.CANDIDATES, candidates_message(refused))

    def evict(self, partitions: Collection[Partition]) -> None:
        """Close the oldest open requests of all partitions until what is held is within its bounds.

        First those go that wait for models: closing another surface's requests would not make them wait any less.
        """
        while self.budget.exceeded:
            waiting = [p.assembler for p in partitions if p.assembler.held]
            if waiting:
                waiting[0].give_up_oldest_held()
                continue
            held = [p.assembler for p in partitions if p.assembler.open_requests]
            min(held, key=lambda assembler: assembler.oldest_opened_at).evict_oldest()
            self.counts.evicted += 1

    def _dead_letter(self, partition: Partition, message: Fetched, reason: Reason, why: str) -> None:
        if partition.assembler.replaying(message.offset()):
            return  # it went out with the commit that moved past it
        self.counts.dead_letters += 1
        headers = dead_letter_headers(
            message.headers(), reason, why, message.topic(), message.partition(), message.offset()
        )
        value, headers = fit_dead_letter(message.key(), message.value(), headers, self.route.most_letter_bytes)
        partition.outbox.append(Output(self.route.dead_letters, partition.number, message.key(), value, headers))
