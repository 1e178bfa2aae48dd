"""The worker's loop: consume, assemble, close, rank, publish; one thread, which owns the consumer.

A step never spans a poll with a transaction. Everything a partition holds lives in its `Partition`: losing it drops
what is not committed, and the next owner replays that from the log.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from workers.assembly.assembler import Assembler
from workers.assembly.budget import Budget
from workers.codec.dead_letters import dead_letter_headers, fit_dead_letter
from workers.codec.decoder import Decoder
from workers.codec.feeds import encode_feed, feed_headers
from workers.codec.formats import Format
from workers.observe.counts import Counts
from workers.observe.log import log
from workers.pipeline import rank_requests
from workers.ranking.refusal import EventRefused, Reason, candidates_message
from workers.ranking.request import Request
from workers.ranking.weights import Weights
from workers.scoring.scorer import Scorer
from workers.streaming.partition import Partition
from workers.streaming.publisher import Fenced, Output, ProducerLost, Publisher, TransactionAborted
from workers.streaming.reach import Reach
from workers.streaming.records import Fetched, fetched, is_create_time, is_end
from workers.streaming.restore import OffsetsLost, Restored, Restorer

_POLL_SECONDS = 0.05
_MOST_MESSAGES = 4000
_MOST_CANDIDATES = 8192  # in one transaction; what is closed beyond them waits for the next
_COMMIT_SECONDS = 1.0
_FENCED_AGAIN_SECONDS = 60.0


@dataclass(frozen=True)
class Route:
    """Between which topics, in which format, and how large a feed's value and a dead letter may be."""

    candidates: str
    feeds: str
    dead_letters: str
    feeds_format: Format
    most_feed_bytes: int
    most_letter_bytes: int


@dataclass(frozen=True)
class Parts:
    """What the loop is made of."""

    consumer: Consumer
    reach: Reach
    publisher: Publisher
    restorer: Restorer
    decoder: Decoder
    scorer: Callable[[], Scorer]
    weights: Callable[[str], Weights]
    route: Route
    budget: Budget
    counts: Counts
    cooperative: bool


class Worker:
    """Runs until `stop` is called; see ARCHITECTURE.md for the order of a step and why it is so."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._partitions: dict[int, Partition] = {}
        self._stopping = False
        self._polled = time.monotonic()
        self._committed = time.monotonic()
        self._fenced: float | None = None

    def run(self) -> None:
        """Consume until stopped, then drain. Raises Fenced where another worker runs in our slot."""
        parts = self._parts
        while not self._stopping and not parts.publisher.start():
            pass
        parts.consumer.subscribe(
            [parts.route.candidates], on_assign=self._assign, on_revoke=self._revoke, on_lost=self._revoke
        )
        try:
            while not self._stopping:
                self.step()
            self._drain()
        finally:
            parts.restorer.close()
            parts.consumer.close()

    def stop(self) -> None:
        """Finish the step, publish what is closed, leave the group."""
        self._stopping = True

    @property
    def partitions(self) -> list[int]:
        """The partitions that are owned and restored."""
        return sorted(self._partitions)

    @property
    def counts(self) -> Counts:
        """What was counted so far."""
        return self._parts.counts

    def report(self) -> Mapping[str, object]:
        """What the worker adds to its status in Redis; called from another thread, so it only looks."""
        return {"partitions": self.partitions, "models": self._parts.scorer().models, "counts": asdict(self.counts)}

    def step(self) -> None:
        """One turn of the loop."""
        self._consume()
        self._restore()
        self._close_idle()
        self._publish()

    # Consume and assemble

    def _consume(self) -> None:
        first = self._parts.consumer.poll(0.001 if self._parts.restorer.busy else _POLL_SECONDS)
        messages = [] if first is None else fetched([first, *self._parts.consumer.consume(_MOST_MESSAGES, 0)])
        now = time.monotonic()
        for partition in self._partitions.values():
            partition.pass_idle((now - self._polled) * 1000)
        self._polled = now
        for message in messages:
            self._take(message)
        if messages and messages[-1].error() is None:
            self._parts.reach.heard()

    def _take(self, message: Fetched) -> None:
        number = message.partition()
        partition = self._partitions.get(number)
        error = message.error()
        if error is not None:
            self._note(message, error, partition)
            return
        if partition is None:
            return
        assembler, offset = partition.assembler, message.offset()
        if offset < assembler.next:
            return  # fetched before the seek to the low-water mark
        partition.read_on()
        timestamp = message.timestamp()[1]
        if is_create_time(message):
            timestamp = min(timestamp, _now_ms())
        assembler.observe(offset, timestamp)
        counts = self._parts.counts
        counts.events += 1
        try:
            event = self._parts.decoder.decode(message.value(), message.key(), message.headers())
            refused = assembler.take(event, offset, timestamp)
        except EventRefused as refusal:
            self._dead_letter(partition, message, refusal.reason, refusal.message)
            return
        counts.candidates += len(event.candidates)
        counts.missing_features += event.missing
        counts.unknown_features += event.unknown
        if refused:
            self._dead_letter(partition, message, Reason.CANDIDATES, candidates_message(refused))
        while self._parts.budget.exceeded:
            self._evict()

    def _dead_letter(self, partition: Partition, message: Fetched, reason: Reason, why: str) -> None:
        if partition.assembler.replaying(message.offset()):
            return  # it went out with the commit that moved past it
        self._parts.counts.dead_letters += 1
        headers = dead_letter_headers(
            message.headers() or [], reason, why, message.topic(), message.partition(), message.offset()
        )
        route = self._parts.route
        value, headers = fit_dead_letter(message.key(), message.value(), headers, route.most_letter_bytes)
        partition.outbox.append(Output(route.dead_letters, partition.number, message.key(), value, headers))

    def _evict(self) -> None:
        held = [p.assembler for p in self._partitions.values() if p.assembler.open_requests]
        min(held, key=lambda assembler: assembler.oldest_opened_at).evict_oldest()
        self._parts.counts.evicted += 1

    def _note(self, message: Fetched, error: KafkaError, partition: Partition | None) -> None:
        if is_end(message):
            if partition is not None:
                partition.reached_end(message.offset())
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            if partition is not None:
                self._stand_still(partition.number, error.str())
        elif error.fatal():
            raise KafkaException(error)
        else:
            self._parts.reach.error(error)

    # Close

    def _close_idle(self) -> None:
        """Close by the idle clock, once the broker has confirmed that nothing more is there to be read."""
        for partition in self._partitions.values():
            end = partition.due_at_end()
            if end is None:
                continue
            where = TopicPartition(self._parts.route.candidates, partition.number)
            try:
                _, latest = self._parts.consumer.get_watermark_offsets(where, timeout=1.0)
            except KafkaException:
                continue  # a broker that cannot be asked proves nothing: wait
            if latest <= end:
                partition.close_idle()

    # Rank and publish

    def _publish(self) -> None:
        while True:
            chunk = self._take_closed()
            self._rank(chunk)
            if not self._transact(bool(chunk)) or not chunk:
                return

    def _take_closed(self) -> list[tuple[Partition, list[Request]]]:
        """Closed requests of every partition, up to the bound of one transaction."""
        chunk, room = [], _MOST_CANDIDATES
        for partition in self._partitions.values():
            taken: list[Request] = []
            while room > 0 and (one := partition.assembler.take_closed(1)):
                taken += one
                room -= max(1, len(one[0].item_ids))
            if taken:
                chunk.append((partition, taken))
        return chunk

    def _rank(self, chunk: Sequence[tuple[Partition, list[Request]]]) -> None:
        requests = [request for _, taken in chunk for request in taken]
        if not requests:
            return
        parts, ranked_at = self._parts, _now_ms()
        ranked = rank_requests(requests, parts.scorer(), parts.weights, lambda _: ranked_at)
        feeds = iter(ranked.feeds)
        headers = feed_headers(parts.route.feeds_format)
        for partition, taken in chunk:
            for request in taken:
                value = encode_feed(next(feeds), parts.route.feeds_format, parts.route.most_feed_bytes)
                key = request.request_id.encode()
                partition.outbox.append(Output(parts.route.feeds, partition.number, key, value, headers))
            partition.assembler.publish(taken)
        parts.counts.feeds += len(requests)
        parts.counts.clipped_features += ranked.clipped

    def _transact(self, urgent: bool) -> bool:
        """Publish every outbox with the marks of all partitions; whether a transaction went through."""
        outputs = [output for partition in self._partitions.values() for output in partition.outbox]
        if not outputs and not urgent and time.monotonic() - self._committed < _COMMIT_SECONDS:
            return False
        topic = self._parts.route.candidates
        found = {p: position for p in self._partitions.values() if (position := p.commit_position(topic))}
        self._committed = time.monotonic()
        if not found:
            return False
        try:
            self._parts.publisher.publish(outputs, [where for where, _ in found.values()], self._parts.consumer)
        except TransactionAborted as aborted:
            log.warning("transaction_aborted", error=str(aborted))
            return False
        except (ProducerLost, Fenced) as lost:
            self._start_anew(lost)
            return False
        self._parts.reach.heard()
        for partition, (_, mark) in found.items():
            partition.committed(mark)
            partition.assembler.ledger_end = max(
                partition.assembler.ledger_end, self._parts.publisher.ends.get(partition.number, 0)
            )
        return True

    def _drain(self) -> None:
        self._committed = float("-inf")
        self._publish()
        log.info("drained", partitions=self.partitions)

    # Own, restore, lose

    def _assign(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        numbers = [where.partition for where in assigned]
        log.info("assigned", partitions=numbers)
        # Paused until the restore has said where to begin; the offset here is only a place to stand.
        start = [TopicPartition(where.topic, where.partition, OFFSET_END) for where in assigned]
        if self._parts.cooperative:
            consumer.incremental_assign(start)
        else:
            consumer.assign(start)
        consumer.pause(start)
        self._parts.restorer.begin(numbers)

    def _revoke(self, consumer: Consumer, revoked: list[TopicPartition]) -> None:
        numbers = [where.partition for where in revoked]
        log.info("revoked", partitions=numbers)
        self._parts.restorer.cancel(numbers)
        for number in numbers:
            self._drop(number)
        if self._parts.cooperative:
            consumer.incremental_unassign(revoked)
        else:
            consumer.unassign()

    def _drop(self, number: int) -> None:
        partition = self._partitions.pop(number, None)
        if partition is not None:
            partition.assembler.abandon()

    def _restore(self) -> None:
        if not self._parts.restorer.busy:
            return
        for found in self._parts.restorer.advance():
            if isinstance(found, OffsetsLost):
                span = f"{found.earliest} to {found.latest}"
                self._stand_still(found.partition, f"offset {found.committed} is gone, the log holds {span}")
            else:
                self._begin(found)

    def _begin(self, restored: Restored) -> None:
        where = TopicPartition(self._parts.route.candidates, restored.partition, restored.mark.low_water)
        try:
            self._parts.consumer.seek(where)
        except KafkaException as error:
            log.info("restoring_again", partition=restored.partition, error=str(error))
            self._parts.restorer.begin([restored.partition])
            return
        assembler = Assembler(restored.mark, self._parts.budget)
        for request_id, expires, ledger in restored.published:
            assembler.remember(request_id, expires, ledger)
        assembler.ledger_end = restored.end
        self._partitions[restored.partition] = Partition(restored.partition, assembler)
        self._parts.consumer.resume([where])
        log.info(
            "restored",
            partition=restored.partition,
            low_water=restored.mark.low_water,
            next=restored.mark.next,
            published=len(restored.published),
        )

    def _stand_still(self, number: int, why: str) -> None:
        """Stop one partition: retention removed what was not yet ranked. Nothing is skipped silently."""
        where = TopicPartition(self._parts.route.candidates, number)
        self._parts.consumer.pause([where])
        self._drop(number)
        log.error(
            "offsets_lost",
            partition=number,
            error=why,
            resume=f"stop the group's workers, then: trimtab offsets resume --partition {number}",
        )

    def _start_anew(self, cause: ProducerLost | Fenced) -> None:
        """The outcome of a transaction is unknown: believe the log, and nothing that we hold."""
        if isinstance(cause, Fenced):
            now = time.monotonic()
            if self._fenced is not None and now - self._fenced < _FENCED_AGAIN_SECONDS:
                raise cause
            self._fenced = now
        log.warning("starting_anew", cause=type(cause).__name__, error=str(cause))
        numbers = self.partitions
        for number in numbers:
            self._drop(number)
        where = [TopicPartition(self._parts.route.candidates, number) for number in numbers]
        if where:
            self._parts.consumer.pause(where)
        while not self._parts.publisher.start():
            if self._stopping:
                raise cause
        self._parts.restorer.begin(numbers)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
