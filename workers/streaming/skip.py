"""Skipping a record that cannot be read: what cannot be read is found out, and written beside the
committed offset.

- Nothing is moved. Requests that are open below the record still need their events, so the
  committed offset stays, and the pointer beside it names the span that workers pass over. They drop
  it once their low-water mark is behind it.
- Only what the client really cannot read is skipped: it is tried here first.
- The client reads whole batches. So all records of the batch cannot be read, and all are skipped:
  from the offset where the batch begins up to the first offset at which something else is found.
- The worker that passes over the span writes one dead letter for it, in the transaction that says
  so.
"""

import time
from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from workers.codec.pointer import MAX_SPANS, Pointer, Span, read_pointer, write_pointer
from workers.errors import Failure
from workers.streaming.clients import Cluster
from workers.streaming.offsets import (
    answer_of,
    ask_earliest,
    ask_latest,
    ask_stable,
    committed_of,
    move,
)
from workers.streaming.read import check_denied
from workers.streaming.records import fetched, is_end
from workers.streaming.restore import Watermarks, starting_mark
from workers.streaming.rights import denials_named, offsets_rights, require_rights
from workers.streaming.unreadable import is_unreadable

_SILENT_SECONDS = 10.0


class NotSkipped(Failure):
    """Nothing is skipped; the message says why."""


class Skipped(NamedTuple):
    """What is skipped, why it cannot be read, and the committed offset, which stays.

    `was_before` if it was skipped already.
    """

    span: Span
    why: str
    committed: int
    was_before: bool = False


class SkipTopics(NamedTuple):
    """Which group reads which topic, and where its feeds are."""

    group: str
    candidates: str
    feeds: str


def skip_unreadable(cluster: Cluster, topics: SkipTopics, partition: int, offset: int) -> Skipped:
    """Let workers pass over the batch that cannot be read at an offset.

    Raises NotSkipped, OffsetNotMoved if the group still has members, RightMissing, and
    BrokerUnreachable or KafkaException if the broker does not answer.
    """
    needed = offsets_rights(topics.candidates, topics.group)
    require_rights(cluster, needed)
    with denials_named(cluster, needed):
        return _skip(cluster, topics, partition, offset)


def _skip(cluster: Cluster, topics: SkipTopics, partition: int, offset: int) -> Skipped:
    admin = cluster.admin()
    source = TopicPartition(topics.candidates, partition)
    found = committed_of(cluster, topics.group, source)
    if found.error is not None:
        raise NotSkipped(
            f"partition {partition}: the committed offset is not known: {found.error.str()}"
        )
    if found.offset >= 0:
        # The same as before: only a group without members lets it be written, and we hear of that
        # before we read.
        move(
            admin,
            topics.group,
            TopicPartition(topics.candidates, partition, found.offset, found.metadata),
        )
    inputs = _watermarks(admin, source)
    committed = found.offset if found.offset >= 0 else inputs.earliest
    _check_place(partition, offset, committed, inputs)

    pointer = read_pointer(found.metadata)
    if pointer is None:
        # What a worker would begin with: nothing is known of what was read.
        mark = starting_mark(
            committed, None, inputs, _watermarks(admin, TopicPartition(topics.feeds, partition))
        )
        pointer = Pointer(scan=mark.scan, time=mark.time, next=mark.next)
    for span in pointer.skip:
        if span.first <= offset < span.end:
            return Skipped(span, "", committed, was_before=True)

    damage = find_damage(cluster, source, offset, inputs)
    first = max(damage.first, committed, *(span.end for span in pointer.skip if span.end <= offset))
    span = Span(first, damage.end)
    metadata = write_pointer(_with(pointer, span, committed))
    move(admin, topics.group, TopicPartition(topics.candidates, partition, committed, metadata))
    return Skipped(span, damage.why, committed)


def _check_place(partition: int, offset: int, committed: int, inputs: Watermarks) -> None:
    where = f"partition {partition}: offset {offset}"
    if not inputs.earliest <= committed <= inputs.latest:
        gone = f"the committed offset {committed} is gone, the log holds {inputs.earliest} to {inputs.latest}"
        raise NotSkipped(
            f"partition {partition}: {gone}: trimtab offsets resume --partition {partition}"
        )
    if offset < committed:
        raise NotSkipped(
            f"{where}: below the committed offset {committed}, so nobody reads it again"
        )
    if offset >= inputs.latest:
        raise NotSkipped(f"{where}: not written yet, expected an offset below {inputs.latest}")


def _with(pointer: Pointer, span: Span, committed: int) -> Pointer:
    kept = [one for one in pointer.skip if one.end > committed]
    if len(kept) >= MAX_SPANS:
        raise NotSkipped(
            f"skipped already: {len(kept)} spans behind offset {committed}, expected at most {MAX_SPANS}"
        )
    skip = tuple(sorted((*kept, span), key=lambda one: one.first))
    return Pointer(
        scan=pointer.scan, time=pointer.time, next=pointer.next, rules=pointer.rules, skip=skip
    )


def _watermarks(admin: AdminClient, where: TopicPartition) -> Watermarks:
    earliest = answer_of(ask_earliest(admin, where)).offset
    latest = answer_of(ask_latest(admin, where)).offset
    return Watermarks(earliest, latest)


# What cannot be read


class Damage(NamedTuple):
    """A batch that cannot be read: its offsets from `first` to, not with, `end`."""

    first: int
    end: int
    why: str


class _Tried(NamedTuple):
    """What came of reading at an offset. `batch` is where the batch begins that cannot be read;
    None if nothing came, not even an error.
    """

    batch: int | None
    why: str


def find_damage(
    cluster: Cluster, source: TopicPartition, offset: int, inputs: Watermarks
) -> Damage:
    """Find the batch around an offset of the log. Raises NotSkipped if the offset can be read."""

    def read_at(place: int) -> _Tried | None:
        return _read(cluster, TopicPartition(source.topic, source.partition, place))

    where = f"partition {source.partition}: offset {offset}"
    tried = read_at(offset)
    if tried is None:
        raise NotSkipped(f"{where}: can be read, expected one that cannot")
    if tried.batch is None:
        return _find_silence(read_at, where, offset, inputs, tried.why)

    def is_of_it(place: int) -> bool:
        other = read_at(place)
        return other is not None and other.batch == tried.batch

    end = first_other(is_of_it, offset, inputs.latest)
    return Damage(min(tried.batch, offset), end, tried.why)


def first_other(is_of_it: Callable[[int], bool], offset: int, latest: int) -> int:
    """The first offset after `offset` that is not of its batch: by steps that double, then by
    halves.
    """
    inside, step = offset, 1
    while inside + step < latest and is_of_it(inside + step):
        inside += step
        step *= 2
    outside = min(inside + step, latest)
    while outside - inside > 1:
        middle = (inside + outside) // 2
        if is_of_it(middle):
            inside = middle
        else:
            outside = middle
    return outside


def _find_silence(
    read_at: Callable[[int], _Tried | None], where: str, offset: int, inputs: Watermarks, why: str
) -> Damage:
    """The client says nothing of such a batch, not even where it begins: so offset after offset is
    tried.

    Silence may also be the broker's. It is the record's if a later one can be read at once.
    """
    end = next(
        (place for place in range(offset + 1, inputs.latest) if read_at(place) is None), None
    )
    if end is None:
        raise NotSkipped(
            f"{where}: {why}, and nothing after it can be read either: is it the broker?"
        )
    first = offset
    while first > inputs.earliest and read_at(first - 1) is not None:
        first -= 1
    if read_at(offset) is None:
        raise NotSkipped(f"{where}: can be read by now")
    return Damage(first, end, why)


def _read(cluster: Cluster, where: TopicPartition) -> _Tried | None:
    """Read one record, or the end, at an offset; None if that can be read.

    A consumer of its own each time: nothing that was fetched at one place can be taken for
    another's.
    """
    with closing(cluster.reader()) as consumer:
        consumer.incremental_assign([where])
        deadline = time.monotonic() + _SILENT_SECONDS
        while time.monotonic() < deadline:
            for message in fetched(consumer.consume(1, 0.1)):
                error = message.error()
                if message.topic() != where.topic:
                    continue
                if error is None or is_end(message):
                    if message.offset() >= where.offset:
                        return None
                    continue
                check_denied(cluster, error, where.topic)
                if is_unreadable(error):
                    return _Tried(message.offset(), error.str())
    admin = (
        cluster.admin()
    )  # held until the answer: a client that is collected answers nothing any more
    stable = answer_of(ask_stable(admin, where)).offset
    if stable <= where.offset:
        raise NotSkipped(
            f"partition {where.partition}: offset {where.offset}: belongs to a transaction that is not decided yet"
        )
    return _Tried(None, f"nothing came of it for {_SILENT_SECONDS:g} s")
