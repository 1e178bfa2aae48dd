"""What the users stage does with records, checkpoints and rebalances. It does not know Faust.

Rules:
1. An offset is committed only when every entry, every sum and the progress that stand for it are
   delivered. So whatever is lost in a crash is replayed.
2. Entries may be ahead of the committed offset. A replay does not count them again
   (`counting.py`).
3. At each rebalance all books are closed, and those that are assigned are read from the changelog
   again, also if the partition was ours before: another process may have had it in between.
4. Sums that may not be published are published after each recovery: all that have a feed at or
   above the committed offset.
5. A record is counted only if nothing before it is missing. Each says from which offset on it covers
   the partition, because a transactional log has offsets without records. One behind a gap is
   dropped. Faust does drop records: it clears its queues when it ends a recovery. So once a second
   the stage looks whether records were given out that never came, and reads again from there.
6. A delivery that fails ends the stage. What is in memory is then no longer what is in the log.
7. Nothing is written during a recovery. What is read back by then may be an older state.
"""

import asyncio
import time
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import NamedTuple, Protocol

from workers.codec.formats import Headers
from workers.codec.outcomes import decode_request_outcomes
from workers.codec.partitioner import partition_of
from workers.codec.user_outcomes import (
    PROGRESS_KEY,
    encode_user_progress,
    encode_user_sums,
    encode_user_sums_key,
)
from workers.log import log
from workers.outcomes.user_sums import UserProgress, UserSums, UserSumsKey
from workers.steering.stage_status import StageReport
from workers.streaming.topics import UsersTopics
from workers.users.changelog import ChangelogDamaged, decode_entry, encode_entry, encode_key
from workers.users.counting import DAY_MS, Books
from workers.users.experiments import Experiments
from workers.users.faults import (
    Misplaced,
    StageFailed,
    TopicReplaced,
    Undecodable,
    UsersFault,
)

CHECKPOINT_SECONDS = 1.0
_STALLED_SECONDS = 10.0
"""How long a record may be there that the client does not give out, before it is told to again."""
_MISSING_SECONDS = 60.0
"""How long a record may be missing that the client gave out, however often it is read again."""
_CLEANING_MS = 3600 * 1000
"""How much stream time passes between two deletions of what is over."""


class UserRecord(NamedTuple):
    """A record of `request-outcomes`.

    No other record of its partition is in the offsets from `covers_from` to its own. None: that is
    not known.
    """

    partition: int
    offset: int
    covers_from: int | None
    value: bytes | None
    headers: Headers | None


class Log(Protocol):
    """What the stage needs of Kafka. Each write returns when it is delivered, or raises."""

    def write_entry(self, partition: int, key: bytes, value: bytes | None) -> Awaitable[object]:
        """Write a state of an entry to the changelog. None deletes it."""

    def publish(self, partition: int, key: bytes, value: bytes) -> Awaitable[object]:
        """Write a record to `user-outcomes`."""

    async def commit(self, offsets: Mapping[int, int]) -> bool:
        """Commit the next offsets of partitions. False if they may be ours no more."""

    def given_out(self, partition: int) -> int | None:
        """The offset behind the last record that the client gave out. None: not known."""

    def unread(self, partition: int) -> int | None:
        """How many decided offsets the client has not given out. None: not known."""

    async def read_again(self, partition: int, offset: int) -> None:
        """Read a partition of the input from this offset on."""


class _Missing(NamedTuple):
    """A partition has come to `offset`, and no further `since` then. `read_at` is when it was read
    again, or else `since`.
    """

    offset: int
    since: float
    read_at: float


@dataclass
class UserCounts:
    """Counters of one process of the users stage."""

    feeds: int = 0
    """Feeds that were counted, again after a restart."""
    unchecked: int = 0
    """Feeds whose phase's document was not found."""
    entries: int = 0
    """States of entries that were written to the changelog."""
    deleted: int = 0
    """Entries of phases and hours that are over."""
    restored: int = 0
    """Records of the changelog that were read back."""
    read_again: int = 0
    """How often a partition was read again, because Faust had dropped records."""


@dataclass
class UsersStage:
    """One process. All of it runs in one event loop.

    `partitions` is the partition count of `request-outcomes`, `days` how long users of a phase are
    kept that is not seen any more. `failure` is why the stage has ended by itself.
    """

    topics: UsersTopics
    partitions: int
    days: int
    experiments: Experiments
    kafka: Log
    counts: UserCounts = field(default_factory=UserCounts)
    books: dict[int, Books] = field(default_factory=dict)
    failure: UsersFault | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    is_recovering: bool = True
    _unread: dict[int, int] = field(default_factory=dict)
    _committed: dict[int, int] = field(default_factory=dict)
    _unpublished: dict[int, set[UserSumsKey]] = field(default_factory=dict)
    _cleaned_at: dict[int, int] = field(default_factory=dict)
    _missing: dict[int, "_Missing"] = field(default_factory=dict)
    _must_read_again: bool = False
    _is_restored: bool = False
    _generation: int = 0
    _checkpointing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def fail(self, fault: UsersFault) -> None:
        """End the stage. The first fault counts."""
        if self.failure is None:
            self.failure = fault
        self.ended.set()

    # Records

    async def take(self, record: UserRecord) -> None:
        """Count a record of `request-outcomes`. Raises UsersFault.

        | the record                                | what happens             |
        |-------------------------------------------|--------------------------|
        | comes before the partition is restored    | dropped, it comes again  |
        | is behind a gap                           | dropped, it comes again  |
        | was counted by this process               | dropped                  |
        | cannot be decoded, is in a wrong partition| UsersFault               |
        | any other                                 | counted                  |
        """
        partition, offset, covers_from, value, headers = record
        books = self.books.get(partition)
        if books is None or books.next_offset is None or self.is_recovering:
            return
        if covers_from is None or covers_from > books.next_offset:
            return
        if offset < books.next_offset or self.failure is not None:
            return

        topic = self.topics.request_outcomes
        try:
            feed = decode_request_outcomes(value, headers)
        except ValueError as error:
            raise Undecodable(topic, partition, offset, error) from None

        expected = partition_of(feed.user_id.encode(), self.partitions)
        if expected != partition:
            raise Misplaced(
                topic,
                partition=partition,
                offset=offset,
                expected=expected,
                count=self.partitions,
            )

        experiment = None
        if feed.experiment is not None:
            experiment = await self.experiments.find(feed.surface, feed.experiment)
            if self.books.get(partition) is not books:
                return  # the partition was lost while Redis was asked, so it is replayed
            self.counts.unchecked += experiment is None

        books.count(feed, offset, experiment)
        self.counts.feeds += 1

    # Rebalances

    async def close_books(self, seconds: float) -> None:
        """Before a rebalance: write down what is counted, for at most `seconds`, and forget it."""
        if self.failure is None:
            checkpoint = asyncio.ensure_future(self.checkpoint())
            await asyncio.wait([checkpoint], timeout=seconds)

        self._generation += 1
        self.books.clear()
        self._committed.clear()
        self._unpublished.clear()
        self._cleaned_at.clear()
        self._missing.clear()
        self._is_restored = False
        self.is_recovering = True

    def open_books(self, partitions: Iterable[int]) -> None:
        """These partitions are ours. Their entries are restored next."""
        self.books = {partition: Books(partition) for partition in partitions}

    def restore(self, partition: int, key: bytes | None, value: bytes | None) -> None:
        """Take in a record of the changelog."""
        books = self.books.get(partition)
        if books is None:
            return
        try:
            books.restore(*decode_entry(key, value))
        except (ChangelogDamaged, TypeError) as error:
            self.fail(StageFailed(f"topic {self.topics.changelog!r}: {error}"))
        self.counts.restored += 1

    def restored(self) -> None:
        """The changelog is read to its end."""
        self._is_restored = True

    def positions_sought(self, positions: Mapping[int, int], ends: Mapping[int, int]) -> None:
        """The input is read from these offsets on, now or again. `ends` are where it ends."""
        if not self._is_restored:
            return
        for partition, position in positions.items():
            books = self.books.get(partition)
            if books is None or partition in self._committed:
                continue
            # Whoever deletes a topic deletes the committed offsets with it. The entries stay.
            counted = max([position, *(sums.last_offset + 1 for sums in books.sums.values())])
            if counted > ends[partition]:
                self.fail(
                    TopicReplaced(
                        self.topics.request_outcomes,
                        partition,
                        committed=counted,
                        end=ends[partition],
                    )
                )
                return
            books.next_offset = position
            self._committed[partition] = -1  # so that the progress is published once more

            unpublished = self._unpublished.setdefault(partition, set())
            for key, sums in books.sums.items():
                if sums.last_offset >= position:
                    unpublished.add(key)

        if self.is_recovering and positions.keys() <= self.books.keys():
            self.is_recovering = False
            self._must_read_again = True
            log.info(
                "counting",
                partitions=sorted(self.books),
                users=sum(books.users for books in self.books.values()),
                restored=self.counts.restored,
            )

    # Checkpoints

    async def run_checkpoints(self) -> None:
        """Write down what is counted, once a second, until the stage ends."""
        while self.failure is None:
            await asyncio.sleep(CHECKPOINT_SECONDS)
            await self.checkpoint()
            await self._read_again_what_was_dropped()
            self._note_unread()

    def _note_unread(self) -> None:
        """Note how far each partition is behind, for the status."""
        unread: dict[int, int] = {}
        for partition, books in self.books.items():
            count = self.kafka.unread(partition)
            given_out = self.kafka.given_out(partition)

            if count is not None and given_out is not None and books.next_offset is not None:
                unread[partition] = count + max(0, given_out - books.next_offset)
        self._unread = unread

    def report(self) -> StageReport:
        """What `trimtab status` shows. Called in another thread."""
        waiting_for = self.experiments.waits_for
        if self.is_recovering:
            waiting_for = f"its partitions, or their recovery: {self.counts.restored:,} read back"
        times = [books.stream_time for books in list(self.books.values())]

        return StageReport(
            partitions=tuple(sorted(self.books)),
            lag=self._unread,
            closed_until=min(times) if times and min(times) >= 0 else None,
            waiting_for=waiting_for,
            failing=None if self.failure is None else str(self.failure),
            counts=asdict(self.counts),
        )

    async def _read_again_what_was_dropped(self) -> None:
        """Read a partition again that does not come on.

        | there is                                   | since | what happens       |
        |--------------------------------------------|-------|--------------------|
        | a recovery that has just ended             |       | all is read again  |
        | a record that the client gave out          | 1 s   | it is read again   |
        | the same                                   | 60 s  | the stage fails    |
        | a record that the client does not give out | 10 s  | it is read again   |
        """
        if self.is_recovering or self.experiments.waits_for is not None:
            self._missing.clear()
            return

        now = time.monotonic()
        is_after_recovery = self._must_read_again
        self._must_read_again = False

        for partition, books in list(self.books.items()):
            next_offset = books.next_offset
            if is_after_recovery and next_offset is not None:
                await self.kafka.read_again(partition, next_offset)
                continue

            given_out = self.kafka.given_out(partition)
            if next_offset is None or given_out is None:
                continue

            is_dropped = given_out > next_offset
            if not is_dropped and not self.kafka.unread(partition):
                self._missing.pop(partition, None)
                continue

            missing = self._missing.get(partition)
            if missing is None or missing.offset != next_offset:
                self._missing[partition] = _Missing(next_offset, now, now)
                continue

            if is_dropped and now - missing.since > _MISSING_SECONDS:
                self.fail(
                    StageFailed(f"partition {partition}: no record comes after {next_offset}")
                )
                return

            if is_dropped or now - missing.read_at > _STALLED_SECONDS:
                self.counts.read_again += 1
                self._missing[partition] = missing._replace(read_at=now)
                await self.kafka.read_again(partition, next_offset)

    async def checkpoint(self) -> None:
        """Write down what is counted, wait until it is delivered, and commit.

        A failure ends the stage.
        """
        async with self._checkpointing:
            if self.is_recovering:
                return  # rule 7

            generation = self._generation
            deliveries: list[Awaitable[object]] = []
            offsets: dict[int, int] = {}

            for books in self.books.values():
                self._delete_what_is_over(books)
                deliveries += self._write(books)

                next_offset = books.next_offset
                if next_offset is not None and next_offset != self._committed.get(books.partition):
                    offsets[books.partition] = next_offset
                    progress = encode_user_progress(UserProgress(books.partition, next_offset))
                    deliveries.append(self.kafka.publish(books.partition, PROGRESS_KEY, progress))

            try:
                await asyncio.gather(*deliveries)
                is_ours = generation == self._generation
                if offsets and is_ours and await self.kafka.commit(offsets):
                    self._committed.update(offsets)
            except Exception as error:  # noqa: BLE001 - whatever it is, nothing may be committed
                self.fail(StageFailed(f"what was counted could not be written: {error!r}"))

    def _write(self, books: Books) -> list[Awaitable[object]]:
        """Begin to write the entries of a partition that were changed, and its sums."""
        partition = books.partition
        deliveries: list[Awaitable[object]] = []
        unpublished = self._unpublished.pop(partition, set())

        for key, entry in books.take_changes().items():
            value = None if entry is None else encode_entry(entry)
            deliveries.append(self.kafka.write_entry(partition, encode_key(key), value))
            if isinstance(entry, UserSums) and isinstance(key, UserSumsKey):
                unpublished.add(key)
        self.counts.entries += len(deliveries)

        for sums_key in unpublished:
            sums = books.sums.get(sums_key)
            if sums is not None:
                value = encode_user_sums(sums_key, partition, sums)
                sums_key_bytes = encode_user_sums_key(sums_key)
                deliveries.append(self.kafka.publish(partition, sums_key_bytes, value))
        return deliveries

    def _delete_what_is_over(self, books: Books) -> None:
        cleaned_at = self._cleaned_at.setdefault(books.partition, 0)
        if books.stream_time - cleaned_at < _CLEANING_MS:
            return

        self._cleaned_at[books.partition] = books.stream_time
        deleted = books.delete_before(books.stream_time - self.days * DAY_MS)
        self.counts.deleted += deleted
        if deleted:
            log.info("deleted_what_is_over", partition=books.partition, entries=deleted)
