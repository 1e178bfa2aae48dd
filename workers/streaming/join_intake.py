"""The intake of the join: a record opens a feed, becomes an outcome of one, or a dead letter.

| record                                   | what becomes of it                             |
|------------------------------------------|------------------------------------------------|
| feed record                              | opens its request; a further one is counted    |
| interaction of a surface that does not   | counted and skipped                            |
|   count outcomes                         |                                                |
| interaction of a kind that the surface   | counted and ignored                            |
|   does not name                          |                                                |
| interaction of an item of an open feed   | joined                                         |
| anything else                            | a dead letter, unless this is a replay         |

`take` is on the hot path: it runs once for each record.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from workers.codec.feed_records import decode_feed_record, is_feed_record
from workers.codec.interactions import InteractionDecoder
from workers.codec.pointer import Span
from workers.counts import JoinCounts
from workers.errors import Failure
from workers.outcomes.join import OpenFeeds
from workers.outcomes.records import Interaction
from workers.ranking.outcome_rules import OutcomeRules
from workers.ranking.refusal import EventRefused, Reason
from workers.streaming.dead_letters import DeadLetters, explain_without_headers
from workers.streaming.join_partition import JoinPartition
from workers.streaming.placement import Placement
from workers.streaming.records import Fetched, Headers, note_unreadable_headers, read_headers
from workers.worker_errors import WorkerErrors


class TooManyOpenFeeds(Failure):
    """More open feeds are held than the settings allow. Nothing is evicted: the counts would then
    depend on the process.
    """


@dataclass(frozen=True)
class JoinIntake:
    """Decodes and joins. `rules` has the outcome rules of each surface that counts outcomes.
    `max_bytes`: how much all open feeds of this process may take.
    """

    decoder: InteractionDecoder
    rules: Mapping[str, OutcomeRules]
    open_feeds: OpenFeeds
    max_bytes: int
    placement: Placement
    counts: JoinCounts
    dead_letters: DeadLetters
    errors: WorkerErrors

    def take(self, partition: JoinPartition, message: Fetched, offset: int, timestamp: int) -> bool:
        """Take one record, which is at `offset`. `timestamp` is in ms. Return whether more is held
        than the settings allow.
        """
        join = partition.join
        join.observe(offset, timestamp)
        self.counts.records += 1

        headers = read_headers(message)
        is_decoded = False
        try:
            if is_feed_record(headers):
                record = decode_feed_record(message.value(), message.key(), headers)
                is_decoded = True
                if join.take_feed(record, offset):
                    self.counts.feeds += 1
                else:
                    self.counts.duplicate_feeds += 1
                return self.open_feeds.bytes_held > self.max_bytes

            interaction = self._decode(message, headers)
            is_decoded = True
            rules = self.rules.get(interaction.surface)
            if rules is None:
                self.counts.skipped += 1
            elif not rules.names_kind(interaction.kind):
                self.counts.ignored += 1
            else:
                self._join(partition, interaction, timestamp)
        except EventRefused as refusal:
            self._dead_letter(partition, message, headers, refusal.reason, refusal.message)
        except MemoryError:
            raise  # no record's fault
        except Exception as error:
            if is_decoded:
                raise  # the join failed, and what it holds is not to be trusted
            where = f"{message.topic()}/{message.partition()}@{message.offset()}"
            self.errors.note("decode", error, record=where)
            why = f"record: the join failed to decode it: {error!r}; please report it with this record"
            self._dead_letter(partition, message, headers, Reason.WORKER_ERROR, why)
        return False

    def pass_over(self, partition: JoinPartition, span: Span) -> None:
        """Go on behind records that cannot be read, and that an operator has skipped."""
        self.dead_letters.pass_over(partition, span)

    def keep_limits(self, partitions: Collection[JoinPartition]) -> None:
        """Raise TooManyOpenFeeds."""
        raise TooManyOpenFeeds(
            f"max_outcomes_mb: {self.open_feeds.feeds:,} open feeds take more than"
            f" {self.max_bytes // (1024 * 1024)} MiB; raise it with --max-outcomes-mb or"
            " TRIMTAB_MAX_OUTCOMES_MB, run more processes, or shorten window_s of the surfaces"
        )

    def _join(self, partition: JoinPartition, interaction: Interaction, timestamp: int) -> None:
        try:
            partition.join.take_interaction(interaction, timestamp)
        except EventRefused as refusal:
            if refusal.reason is Reason.NO_FEED:
                # An interaction in another partition than its feed finds none.
                self.placement.check(partition.number, interaction.request_id)
            raise
        self.counts.joined += 1

    def _decode(self, message: Fetched, headers: Headers | None) -> Interaction:
        """Decode an interaction. One whose headers cannot be read is decoded by its bytes: a header
        of its producer's tracing must not cost the outcome.
        """
        if headers is not None:
            return self.decoder.decode(message.value(), message.key(), headers)

        note_unreadable_headers(message, self.counts)
        return self.decoder.decode_as_seen(message.value(), message.key())

    def _dead_letter(
        self,
        partition: JoinPartition,
        message: Fetched,
        headers: Headers | None,
        reason: Reason,
        why: str,
    ) -> None:
        """Put a dead letter into the outbox, unless this is a replay: then it is out already."""
        if partition.join.is_replayed(message.offset()):
            return
        if headers is None:
            why = explain_without_headers(why)
        self.dead_letters.put(partition, message, headers, reason, why)
