"""What `trimtab offsets` does to a partition that stands still: go on behind lost or unreadable
records.

`resume_from_earliest` is for offsets that retention removed: it commits the first offset that is
left. `skip_unreadable` is for records that the client cannot read.

The rules of skipping:
- No offset is moved. Requests that are open below the record still need their events. So the
  committed offset stays, and the pointer beside it names the span that workers pass over. They drop
  the span once their low-water mark is behind it.
- Only what the client really cannot read is skipped: it is tried here first.
- The client reads whole batches. If one record of a batch cannot be read, none can, so all are
  skipped: from the offset where the batch begins up to the first offset at which something else is
  found.
- The worker that passes over the span writes one dead letter for it, in the transaction that
  commits that it did so.
"""

import time
from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from msgspec.structs import replace

from workers.codec.pointer import MAX_SPANS, Pointer, Span, read_pointer, write_pointer
from workers.errors import Failure
from workers.streaming.clients import Cluster
from workers.streaming.log_reader import (
    SECONDS,
    LogReader,
    ReadError,
    Watermarks,
    answer_of,
    ask_earliest,
    ask_latest,
    ask_stable,
    raise_if_final,
)
from workers.streaming.ranking_restore import starting_mark
from workers.streaming.rights import (
    denials_named,
    denied_resource,
    offsets_rights,
    require_rights,
)

_SILENT_SECONDS = 10.0
"""How long a record may take to come, or to fail, before it counts as one that the client is silent
about."""


class OffsetNotMoved(Failure):
    """The broker did not take the new offset."""


class NotSkipped(Failure):
    """Nothing is skipped. The message says why."""


class Moved(NamedTuple):
    """A committed offset before and after."""

    before: int
    after: int


class Skipped(NamedTuple):
    """What is skipped, why it cannot be read, and the committed offset, which stays.

    `was_before`: it was skipped already.
    """

    span: Span
    why: str
    committed: int
    was_before: bool = False


# Going on at the earliest offset


def resume_from_earliest(cluster: Cluster, *, group: str, topic: str, partition: int) -> Moved:
    """Commit the earliest offset that is left, without a pointer: the next restore reads the whole
    output. Only the pointer of the join stays: nothing else knows which feeds are out.

    Raises OffsetNotMoved if the group still has members, RightMissing, and BrokerUnreachable or
    KafkaException if the broker does not answer.
    """
    needed = offsets_rights(topic, group)
    require_rights(cluster, needed)
    admin = cluster.admin()
    where = TopicPartition(topic, partition)
    with denials_named(cluster, needed):
        before = _committed(cluster, group, where)
        earliest = answer_of(ask_earliest(admin, where)).offset
        pointer = read_pointer(before.metadata)
        is_of_join = pointer is not None and pointer.out is not None
        metadata = before.metadata if is_of_join else ""
        _commit(admin, group, TopicPartition(topic, partition, earliest, metadata))
    return Moved(before.offset, earliest)


def _committed(cluster: Cluster, group: str, where: TopicPartition) -> TopicPartition:
    """What the group has committed. `error` says if a transaction on it is undecided. Raises
    KafkaException.

    A consumer is asked and not an admin client: see restore_steps.py.
    """
    with closing(cluster.reader(group)) as consumer:
        return consumer.committed([where], SECONDS)[0]


def _commit(admin: AdminClient, group: str, to: TopicPartition) -> None:
    """Commit an offset and its metadata for a group. Raises OffsetNotMoved if the group still has
    members, BrokerUnreachable, and KafkaException if the broker denies it.
    """
    request = ConsumerGroupTopicPartitions(group, [to])
    future = admin.alter_consumer_group_offsets([request], request_timeout=SECONDS)[group]
    error = answer_of(future).topic_partitions[0].error
    if error is None:
        return
    if denied_resource(error) is not None:
        raise KafkaException(error)
    raise OffsetNotMoved(
        f"partition {to.partition}: {error.str()}; are the group's workers stopped?"
    )


# Skipping what cannot be read


def skip_command(partition: int, offset: int, options: str = "") -> str:
    """The command that lets a partition go on behind a record that cannot be read, for people."""
    command = f"trimtab offsets skip --partition {partition} --offset {offset}{options}"
    return f"stop the group's workers, then: {command}"


def skip_unreadable(
    cluster: Cluster, *, group: str, candidates: str, feeds: str, partition: int, offset: int
) -> Skipped:
    """Let the workers of `group` pass over the batch that cannot be read at an offset of the topic
    `candidates`. `feeds` is the topic of their output.

    Raises NotSkipped, OffsetNotMoved if the group still has members, RightMissing, and
    BrokerUnreachable or KafkaException if the broker does not answer.
    """
    needed = offsets_rights(candidates, group)
    require_rights(cluster, needed)
    source = TopicPartition(candidates, partition)
    with denials_named(cluster, needed):
        return _skip(
            cluster, group, source=source, target=TopicPartition(feeds, partition), offset=offset
        )


def _skip(
    cluster: Cluster, group: str, *, source: TopicPartition, target: TopicPartition, offset: int
) -> Skipped:
    partition = source.partition
    admin = cluster.admin()
    position = _committed(cluster, group, source)
    if position.error is not None:
        raise NotSkipped(
            f"partition {partition}: the committed offset is not known: {position.error.str()}"
        )
    if position.offset >= 0:
        # Commit what is committed already. The broker takes it only from a group without members,
        # and this way we learn that before the slow reading.
        same = TopicPartition(source.topic, partition, position.offset, position.metadata)
        _commit(admin, group, same)

    inputs = _watermarks(admin, source)
    committed = position.offset if position.offset >= 0 else inputs.earliest
    _check_offset(partition, offset=offset, committed=committed, inputs=inputs)

    pointer = read_pointer(position.metadata)
    if pointer is None:
        # What a worker would start with: nothing is known of what was read.
        outputs = _watermarks(admin, target)
        mark = starting_mark(committed, None, inputs, outputs)
        pointer = Pointer(scan=mark.scan, time=mark.time, next=mark.next)

    first_possible = committed
    for span in pointer.skip:
        if span.first <= offset < span.end:
            return Skipped(span, "", committed, was_before=True)
        if span.end <= offset:
            first_possible = max(first_possible, span.end)

    damage = find_damage(cluster, source, offset, inputs)
    span = Span(max(damage.first, first_possible), damage.end)
    metadata = write_pointer(_with_span(pointer, span, committed))
    _commit(admin, group, TopicPartition(source.topic, partition, committed, metadata))
    return Skipped(span, damage.why, committed)


def _watermarks(admin: AdminClient, where: TopicPartition) -> Watermarks:
    earliest = answer_of(ask_earliest(admin, where)).offset
    latest = answer_of(ask_latest(admin, where)).offset
    return Watermarks(earliest, latest)


def _check_offset(partition: int, *, offset: int, committed: int, inputs: Watermarks) -> None:
    """Raises NotSkipped if no worker would come to the offset."""
    where = f"partition {partition}: offset {offset}"
    if not inputs.earliest <= committed <= inputs.latest:
        raise NotSkipped(
            f"partition {partition}: the committed offset {committed} is gone, the log holds"
            f" {inputs.earliest} to {inputs.latest}: trimtab offsets resume --partition {partition}"
        )
    if offset < committed:
        raise NotSkipped(
            f"{where}: below the committed offset {committed}, so nobody reads it again"
        )
    if offset >= inputs.latest:
        raise NotSkipped(f"{where}: not written yet, expected an offset below {inputs.latest}")


def _with_span(pointer: Pointer, span: Span, committed: int) -> Pointer:
    """The pointer with one more span. Spans below the committed offset are dropped."""
    spans = [kept for kept in pointer.skip if kept.end > committed]
    if len(spans) >= MAX_SPANS:
        raise NotSkipped(
            f"skipped already: {len(spans)} spans behind offset {committed}, expected at most"
            f" {MAX_SPANS}"
        )
    spans.append(span)
    spans.sort(key=lambda kept: kept.first)
    return replace(pointer, skip=tuple(spans))


# Finding the batch that cannot be read


class Damage(NamedTuple):
    """A batch that cannot be read: its offsets from `first` up to but not including `end`."""

    first: int
    end: int
    why: str


class _Failed(NamedTuple):
    """What came of reading at an offset that cannot be read. `batch` is where its batch begins;
    None if nothing came, not even an error.
    """

    batch: int | None
    why: str


def find_damage(
    cluster: Cluster, source: TopicPartition, offset: int, inputs: Watermarks
) -> Damage:
    """Find the batch around an offset of the log. Raises NotSkipped if the offset can be read."""

    def try_at(place: int) -> _Failed | None:
        return _try_to_read(cluster, TopicPartition(source.topic, source.partition, place))

    where = f"partition {source.partition}: offset {offset}"
    failed = try_at(offset)
    if failed is None:
        raise NotSkipped(f"{where}: can be read, expected one that cannot")
    if failed.batch is None:
        return _find_silence(try_at, where, offset, inputs, failed.why)

    def is_of_batch(place: int) -> bool:
        other = try_at(place)
        return other is not None and other.batch == failed.batch

    end = first_other(is_of_batch, offset, inputs.latest)
    return Damage(min(failed.batch, offset), end, failed.why)


def first_other(is_of_batch: Callable[[int], bool], offset: int, latest: int) -> int:
    """The first offset after `offset` that is not of its batch, searched by steps that double, then
    by halving. Every call of `is_of_batch` is a slow reading.
    """
    inside = offset
    step = 1
    while inside + step < latest and is_of_batch(inside + step):
        inside += step
        step *= 2
    outside = min(inside + step, latest)

    while outside - inside > 1:
        middle = (inside + outside) // 2
        if is_of_batch(middle):
            inside = middle
        else:
            outside = middle
    return outside


def _find_silence(
    try_at: Callable[[int], _Failed | None], where: str, offset: int, inputs: Watermarks, why: str
) -> Damage:
    """Find a batch about which the client reports nothing, not even where it begins. So offset
    after offset is tried.

    The silence may also be the broker's. It is the record's if a later one can be read at once.
    """
    end = offset + 1
    while end < inputs.latest and try_at(end) is not None:
        end += 1
    if end >= inputs.latest:
        raise NotSkipped(
            f"{where}: {why}, and nothing after it can be read either: is it the broker?"
        )

    first = offset
    while first > inputs.earliest and try_at(first - 1) is not None:
        first -= 1
    if try_at(offset) is None:
        raise NotSkipped(f"{where}: can be read by now")
    return Damage(first, end, why)


def _try_to_read(cluster: Cluster, where: TopicPartition) -> _Failed | None:
    """Read at an offset. None if a record, or the end, can be read there.

    Each try has a reader of its own: nothing that was fetched at one place can be taken for
    another's.
    """
    with closing(LogReader(cluster)) as reader:
        reader.start(where.topic, where.partition, where.offset)
        deadline = time.monotonic() + _SILENT_SECONDS
        while time.monotonic() < deadline:
            for event in reader.poll(0.1):
                if event.topic != where.topic:
                    continue
                if not isinstance(event, ReadError):
                    if event.offset >= where.offset:
                        return None
                elif event.is_unreadable:
                    return _Failed(event.offset, event.error.str())
                else:
                    raise_if_final(cluster, where.topic, event)

    # Held until the answer: a client that is collected answers nothing any more.
    admin = cluster.admin()
    stable = answer_of(ask_stable(admin, where)).offset
    if stable <= where.offset:
        raise NotSkipped(
            f"partition {where.partition}: offset {where.offset}: belongs to a transaction that is"
            " not decided yet"
        )
    return _Failed(None, f"nothing came of it for {_SILENT_SECONDS:g} s")
