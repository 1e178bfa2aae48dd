"""Dead letters of a stage: refused records go out with the next transaction, once each."""

from dataclasses import dataclass

from workers.codec.dead_letters import dead_letter_headers, fit_dead_letter
from workers.codec.pointer import Span
from workers.log import log
from workers.ranking.refusal import Reason
from workers.streaming.limits import OutputLimits
from workers.streaming.partition import Partition
from workers.streaming.publisher import Output
from workers.streaming.records import Fetched, Headers


@dataclass(frozen=True)
class DeadLetters:
    """Puts dead letters into outboxes. `source` and `topic`: from where and to where."""

    source: str
    topic: str
    limits: OutputLimits

    def put(
        self,
        partition: Partition,
        message: Fetched,
        headers: Headers | None,
        reason: Reason,
        why: str,
    ) -> None:
        """Put the dead letter of a record. `headers` are its own, None if they cannot be read."""
        letter_headers = dead_letter_headers(
            headers, reason, why, message.topic(), message.partition(), message.offset()
        )
        letter = fit_dead_letter(
            message.key(), message.value(), letter_headers, self.limits.record_bytes(self.topic)
        )
        partition.outbox.append(
            Output(
                topic=self.topic,
                partition=partition.number,
                key=letter.key,
                value=letter.value,
                headers=letter.headers,
                counted_as=reason,
            )
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
                None, Reason.UNREADABLE, why, self.source, partition.number, first
            )
            partition.outbox.append(
                Output(
                    topic=self.topic,
                    partition=partition.number,
                    key=None,
                    value=None,
                    headers=headers,
                    counted_as=Reason.UNREADABLE,
                )
            )
        partition.pass_over(span)
        log.warning("skipped", partition=partition.number, first=first, last=last)


def explain_without_headers(why: str) -> str:
    """The message of a dead letter whose record has headers that cannot be read."""
    return f"headers: a name is not UTF-8, so this letter has none of the event's own; {why}"
