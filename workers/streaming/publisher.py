"""Transactions: feeds, dead letters and offsets go out together or not at all.

What a failed transaction means is decided here. When an aborted one is tried again, and with which
partitions, is decided in retry.py.

| what failed                            | raised             | what the worker does           |
|----------------------------------------|--------------------|--------------------------------|
| a call; the transaction can be undone  | TransactionAborted | poll, pause, publish it again  |
| a record that the client does not take | TransactionAborted | the same; `partitions` names   |
|                                        |                    |   whose record it was          |
| a call did not return within its limit | ProducerLost       | a new producer; restore all    |
|                                        |                    |   from the log                 |
| anything with an unknown outcome       | ProducerLost       | the same                       |
| the broker fenced us, because the      | ProducerLost       | the same                       |
|   transaction took too long            |                    |                                |
| another producer took over our id      | Fenced             | the same; exit if fenced again |
|                                        |                    |   while the broker was well    |

Blocking calls run on a thread of the producer's own (hanging_calls.py). If one is overdue, the
thread and its producer are abandoned, and a new producer under the same transactional id fences the
old one: whatever the lost call does later, the broker refuses it.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from workers.counts import ClosedFacts, FeedFacts, StepTimes
from workers.streaming.clients import Cluster
from workers.streaming.hanging_calls import CallOverdue, CallThread
from workers.streaming.limits import OutputLimits
from workers.streaming.reachability import BrokerReachability
from workers.streaming.records import Headers
from workers.streaming.rights import Resource

CALL_SECONDS = 5.0
"""How long the client may take for one transactional call."""
GRACE_SECONDS = 2.0
"""How much longer we wait for it. A client that keeps its limits returns before."""
_ABORTED_BY_BROKER_SECONDS = 9.0
"""A transaction may take 10 s (clients.py). Then the broker aborts it, and fences us."""
_FULL_QUEUE_SECONDS = 15.0
"""Past the client's own limit for sending a record, which is that of the transaction: 10 s."""

# Causes that lie in the group, the broker or the time, and not in what was sent.
_NOT_OF_A_RECORD = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError._TIMED_OUT,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._STATE,
    }
)
_FENCED = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED})
# A transaction that has failed already takes no further record, whatever that is.
_HAS_FAILED_ALREADY = frozenset({KafkaError._STATE, KafkaError._FATAL, *_FENCED})
_PURGED = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})
_TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})


class TransactionFailed(Exception):
    """A transaction did not go through.

    `cause`: the same for failures of the same kind.
    `partitions`: those whose records were refused; empty if that is not known.
    `blames_records`: False if the group, the broker or the time was the reason, and not what was
    sent.
    `too_large`: a record was refused for its size.
    """

    def __init__(
        self,
        message: str,
        *,
        cause: str = "",
        partitions: Iterable[int] = (),
        blames_records: bool = False,
        too_large: bool = False,
    ) -> None:
        super().__init__(message)
        self.cause = cause or message
        self.partitions = frozenset(partitions)
        self.blames_records = blames_records
        self.too_large = too_large


class TransactionAborted(TransactionFailed):
    """The transaction is undone and may be tried again after a poll."""


class ProducerLost(TransactionFailed):
    """The outcome is unknown, or the producer can no longer be used: start again from what is
    committed.
    """


class Fenced(Exception):
    """Another producer took over our transactional id: two workers share a slot."""


class Output(NamedTuple):
    """One record to publish, encoded once: a retry sends the same bytes.

    `input_partition` is the partition that it comes from, if its own number is another one.
    `counted_as` is what is counted once it is committed: what is known of a feed, or the reason of
    a dead letter.
    """

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    input_partition: int | None = None
    counted_as: FeedFacts | ClosedFacts | str | None = None

    @property
    def source(self) -> int:
        """The partition that the record comes from. It is blamed if the record is refused."""
        return self.partition if self.input_partition is None else self.input_partition


class RecordRefused(Exception):
    """The client does not take a record. It was not sent."""

    def __init__(self, output: Output, error: KafkaError | None, message: str) -> None:
        super().__init__(message)
        self.output = output
        self.error = error


class _Session:
    """One transactional producer from its start until it is given up, with the thread of its
    blocking calls.
    """

    def __init__(self, producer: Producer, seconds: float) -> None:
        # In a list, so that the thread can drop the last reference: destroying a producer may wait
        # for a broker.
        self._producer = [producer]
        self._calls = CallThread("transactions")
        self._seconds = seconds
        self.delivery_failure: KafkaError | None = None
        self.refused_partitions: set[int] = set()
        self.ends: dict[tuple[str, int], int] = {}
        self.began = 0.0  # the transaction, in monotonic seconds

    def call(self, call: Callable[[Producer], object]) -> None:
        """Make a blocking call. Raises what it raises, and CallOverdue."""
        producer = self._producer
        self._calls.run(lambda: call(producer[0]), self._seconds)

    def begin(self) -> None:
        """Begin a transaction. Raises as `call` does."""
        self.delivery_failure = None
        self.refused_partitions.clear()
        self.ends.clear()
        self.began = time.monotonic()
        self.call(lambda producer: producer.begin_transaction())

    def produce(self, output: Output) -> None:
        """Queue one record; waits while the client's queue is full.

        Raises RecordRefused, and KafkaException if the transaction has failed already.
        """
        source = output.source
        deliver = self._delivered
        if source != output.partition:
            deliver = partial(self._delivered, source=source)
        waited = 0.0
        while True:
            try:
                self._producer[0].produce(
                    output.topic,
                    output.value,
                    output.key,
                    output.partition,
                    on_delivery=deliver,
                    headers=list(output.headers),
                )
            except BufferError as full:
                if waited >= _FULL_QUEUE_SECONDS:
                    raise RecordRefused(
                        output, None, f"the client's queue stays full: {full}"
                    ) from None
                self._producer[0].poll(0.05)
                waited += 0.05
            except KafkaException as refused:
                if refused.args[0].code() in _HAS_FAILED_ALREADY:
                    raise
                raise RecordRefused(output, refused.args[0], refused.args[0].str()) from None
            # The client's binding refuses what it cannot convert by various errors of Python.
            except Exception as error:
                raise RecordRefused(output, None, repr(error)) from error
            else:
                return

    def discard(self) -> None:
        """Give up the producer with everything in its queue, which must not be sent later. Does not
        wait.
        """
        producer = self._producer

        def destroy() -> None:
            producer[0].purge()
            producer.clear()

        self._calls.end(destroy)

    def _delivered(self, error: KafkaError | None, message: Any, source: int | None = None) -> None:
        if error is None:
            self.ends[message.topic(), message.partition()] = message.offset() + 1
        elif error.code() not in _PURGED:
            self.delivery_failure = self.delivery_failure or error
            if error.code() not in _NOT_OF_A_RECORD:
                self.refused_partitions.add(message.partition() if source is None else source)


class Publisher:
    """One transactional producer at a time.

    `ends`: by partition, the offset after our last record in `feeds_topic`. `times` takes how long
    it took to publish and to commit.
    """

    def __init__(
        self,
        cluster: Cluster,
        transactional_id: str,
        feeds_topic: str,
        limits: OutputLimits,
        reachability: BrokerReachability,
        call_seconds: float = CALL_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._cluster = cluster
        self._transactional_id = transactional_id
        self._feeds_topic = feeds_topic
        self._limits = limits
        self._reachability = reachability
        self._call_seconds = call_seconds
        self._grace_seconds = grace_seconds
        self._session: _Session | None = None
        self._starting: _Session | None = None
        self._was_started = False
        self.ends: dict[int, int] = {}
        self.times = StepTimes()

    def start(self) -> bool:
        """Start a producer, which fences whoever used our transactional id before. Return whether
        it has started.

        | the broker               | result                                                     |
        |--------------------------|------------------------------------------------------------|
        | accepts                  | True                                                       |
        | does not answer in time, | False. The next start goes on with the same producer: its  |
        |   or the error passes    |   request may still be under way, and of two producers the |
        |                          |   one whose request comes last would fence the other       |
        | holds up the call        | False; the producer is given up                            |
        | denies the first start   | RightMissing                                               |
        | denies a later start     | False; the producer is given up                            |
        | refuses otherwise        | KafkaException                                             |
        """
        session = self._starting
        self._starting = None
        if session is None:
            producer = self._cluster.transactional(
                self._transactional_id,
                batch_bytes=self._limits.batch_bytes,
                message_bytes=self._limits.message_bytes,
            )
            session = _Session(producer, self._call_seconds + self._grace_seconds)

        try:
            session.call(lambda producer: producer.init_transactions(self._call_seconds))
        except CallOverdue as overdue:
            session.discard()
            self._reachability.lost(f"init_transactions: {overdue}")
            return False
        except KafkaException as error:
            cause = error.args[0]
            if cause.retriable() or cause.code() == KafkaError._TIMED_OUT:
                self._starting = session
                self._reachability.lost(cause.str())
                return False
            session.discard()
            if not self._was_started:
                self._reachability.refuse(cause)
            elif self._reachability.denied(cause):
                return False
            raise

        self._reachability.heard()
        self._reachability.granted(Resource.TRANSACTIONAL_ID)
        self._was_started = True
        self._session = session
        return True

    def publish(
        self, outputs: Iterable[Output], offsets: Sequence[TopicPartition], consumer: Consumer
    ) -> None:
        """Publish in one transaction. Raises TransactionAborted, ProducerLost or Fenced."""
        session = self._session
        if session is None:
            raise ProducerLost("there is no producer")

        positions = list(offsets)
        seconds = self._call_seconds
        doing = "begin_transaction"
        began = time.perf_counter_ns()
        try:
            session.begin()
            doing = "produce"
            for output in outputs:
                session.produce(output)
            doing = "send_offsets_to_transaction"
            session.call(
                lambda producer: producer.send_offsets_to_transaction(
                    positions, consumer.consumer_group_metadata(), seconds
                )
            )
            doing = "commit_transaction"
            published = time.perf_counter_ns()
            self.times.publish += published - began
            session.call(lambda producer: producer.commit_transaction(seconds))
            self.times.commit += time.perf_counter_ns() - published
        except CallOverdue as overdue:
            self._discard()
            raise ProducerLost(f"{doing}: {overdue}", cause=doing) from None
        except RecordRefused as refused:
            self._abort(session, refused)
        except KafkaException as error:
            self._recover(session, error.args[0], has_failed_before=doing == "produce")

        # The offsets went out too, which takes the right on the group. So a denial that was met
        # here is over, without another join.
        self._reachability.granted(Resource.GROUP)
        for (topic, partition), end in session.ends.items():
            if topic == self._feeds_topic:
                self.ends[partition] = end

    def _abort(self, session: _Session, refused: RecordRefused) -> None:
        """Undo a transaction of which the client did not take one record. Always raises."""
        code = refused.error.code() if refused.error is not None else None
        failure = TransactionAborted(
            f"{refused.output.topic}: a record is not taken: {refused}",
            cause=refused.error.name() if refused.error is not None else "produce",
            partitions=[refused.output.source],
            blames_records=True,
            too_large=code in _TOO_LARGE,
        )
        self._undo(session)
        raise failure

    def _recover(self, session: _Session, error: KafkaError, has_failed_before: bool) -> None:
        """Turn a failed call into what has to be done about it. Always raises.

        `has_failed_before`: the transaction had failed before the call, for a reason that undoing
        it reports.
        """
        if error.code() in _FENCED:
            self._discard()
            raise self._fenced(session, error)

        can_be_undone = has_failed_before or (error.txn_requires_abort() and not error.fatal())
        if can_be_undone:
            self._undo(session)
        else:
            self._discard()

        # By now every failed delivery was reported: undoing reports those that were left.
        failed = session.delivery_failure
        root = failed or error
        message = self._reachability.explain(error)
        if failed is not None:
            message += f"; a delivery failed: {self._reachability.explain(failed)}"

        failure = TransactionAborted if can_be_undone else ProducerLost
        raise failure(
            message,
            cause=root.name(),
            partitions=session.refused_partitions,
            blames_records=not (root.retriable() or root.code() in _NOT_OF_A_RECORD),
            too_large=root.code() in _TOO_LARGE,
        )

    def _undo(self, session: _Session) -> None:
        """Abort the transaction. Raises Fenced, and ProducerLost if it is unknown whether it is
        undone.
        """
        seconds = self._call_seconds
        try:
            session.call(lambda producer: producer.abort_transaction(seconds))
        except CallOverdue as overdue:
            self._discard()
            raise ProducerLost(f"abort_transaction: {overdue}", cause="abort_transaction") from None
        except KafkaException as error:
            self._discard()
            if error.args[0].code() in _FENCED:
                raise self._fenced(session, error.args[0]) from None
            raise ProducerLost(
                self._reachability.explain(error.args[0]), cause=error.args[0].name()
            ) from None

    def _fenced(self, session: _Session, error: KafkaError) -> Fenced | ProducerLost:
        """What being fenced means: another worker did it, or the broker after a pause of ours."""
        if time.monotonic() - session.began > _ABORTED_BY_BROKER_SECONDS:
            return ProducerLost(
                f"the transaction took too long: {error.str()}", cause="transaction timeout"
            )
        return Fenced(error.str())

    def _discard(self) -> None:
        if self._session is not None:
            self._session.discard()
            self._session = None
