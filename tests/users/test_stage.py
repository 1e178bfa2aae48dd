"""Checkpoints, rebalances and dropped records, on a Kafka that is a list."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from tests.users.test_counting import EXPERIMENTS, feed
from workers.codec.partitioner import partition_of
from workers.codec.user_outcomes import decode_user_outcomes
from workers.outcomes.user_sums import LatestUserSums
from workers.ranking.experiment import Experiment
from workers.streaming.topics import UsersTopics
from workers.users.experiments import Experiments, HistoryUnavailable
from workers.users.faults import Misplaced, StageFailed, TopicReplaced, Undecodable
from workers.users.stage import UserRecord, UsersStage

PARTITION = partition_of(b"u-1", 4)


@dataclass
class ListLog:
    """A Kafka in memory. While `is_held`, nothing is delivered."""

    changelog: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    published: list[bytes] = field(default_factory=list)
    committed: list[dict[int, int]] = field(default_factory=list)
    sought: list[tuple[int, int]] = field(default_factory=list)
    given: int | None = None
    refuses: bool = False
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def write_entry(self, partition: int, key: bytes, value: bytes | None) -> None:
        await self._deliver()
        self.changelog.append((key, value))

    async def publish(self, partition: int, key: bytes, value: bytes) -> None:
        await self._deliver()
        self.published.append(value)

    async def commit(self, offsets: Mapping[int, int]) -> bool:
        self.committed.append(dict(offsets))
        return True

    def given_out(self, partition: int) -> int | None:
        return self.given

    def unread(self, partition: int) -> int | None:
        return 0

    async def read_again(self, partition: int, offset: int) -> None:
        self.sought.append((partition, offset))

    async def _deliver(self) -> None:
        await self.released.wait()
        if self.refuses:
            raise OSError("the broker refuses it")


def make_stage(log: ListLog, read: object = None) -> UsersStage:
    """A stage that has one partition and nothing to restore, and counts from offset 0."""
    log.released.set()
    stage = UsersStage(
        topics=UsersTopics("requests", "users", "changelog"),
        partitions=4,
        days=14,
        experiments=Experiments(read or (lambda _surface: EXPERIMENTS)),  # type: ignore[arg-type]
        kafka=log,
    )
    stage.open_books([PARTITION])
    stage.restored()
    stage.positions_sought({PARTITION: 0}, {PARTITION: 100})
    return stage


def record(offset: int, covers_from: int | None = None, user_id: str = "u-1") -> UserRecord:
    """A feed as a record of the input."""
    import msgspec

    value = msgspec.json.encode(feed(user_id))
    first = offset if covers_from is None else covers_from
    return UserRecord(PARTITION, offset, first, value, None)


def feeds_published(log: ListLog) -> int:
    """The feeds of the latest sums."""
    latest = LatestUserSums()
    for value in log.published:
        latest.add(decode_user_outcomes(value))
    return sum(sums.feeds for sums in latest.totals().values())


def test_nothing_is_committed_before_everything_is_delivered() -> None:
    async def run() -> None:
        log = ListLog()
        stage = make_stage(log)
        await stage.take(record(0))
        log.released.clear()
        checkpoint = asyncio.ensure_future(stage.checkpoint())
        await asyncio.sleep(0)
        assert log.committed == []

        log.released.set()
        await checkpoint
        assert log.committed == [{PARTITION: 1}]
        assert len(log.changelog) == 4
        assert feeds_published(log) == 1

    asyncio.run(run())


def test_a_delivery_that_fails_ends_the_stage_and_commits_nothing() -> None:
    async def run() -> None:
        log = ListLog()
        stage = make_stage(log)
        await stage.take(record(0))
        log.refuses = True
        await stage.checkpoint()
        assert log.committed == []
        assert isinstance(stage.failure, StageFailed)
        assert "the broker refuses it" in str(stage.failure)

    asyncio.run(run())


def test_a_topic_that_ends_before_what_is_counted_is_refused() -> None:
    """It was created again: its first feeds would be taken for counted ones."""

    async def run() -> None:
        log = ListLog()
        stage = make_stage(log)
        for offset in range(7):
            await stage.take(record(offset))
        await stage.checkpoint()

        restarted = make_stage(ListLog())
        restarted.open_books([PARTITION])
        restarted._committed.clear()
        for key, value in log.changelog:
            restarted.restore(PARTITION, key, value)
        restarted.positions_sought({PARTITION: 0}, {PARTITION: 7})
        assert restarted.failure is None

        restarted._committed.clear()
        restarted.positions_sought({PARTITION: 0}, {PARTITION: 3})
        assert isinstance(restarted.failure, TopicReplaced)
        assert "has counted up to offset 7, and the topic ends at 3" in str(restarted.failure)

    asyncio.run(run())


def test_a_rebalance_in_a_checkpoint_commits_nothing() -> None:
    async def run() -> None:
        log = ListLog()
        stage = make_stage(log)
        await stage.take(record(0))
        log.released.clear()
        checkpoint = asyncio.ensure_future(stage.checkpoint())
        await stage.close_books(0.01)
        log.released.set()
        await checkpoint
        assert log.committed == []

    asyncio.run(run())


def test_a_record_behind_a_gap_is_dropped_and_one_that_covers_the_gap_is_counted() -> None:
    async def run() -> None:
        log = ListLog()
        stage = make_stage(log)
        await stage.take(record(3))
        assert stage.counts.feeds == 0
        await stage.take(record(3, covers_from=0))
        await stage.take(record(3, covers_from=0))
        assert stage.counts.feeds == 1

    asyncio.run(run())


def test_what_a_restart_reads_back_is_counted_on_and_published_again() -> None:
    async def run() -> None:
        log = ListLog()
        stage = make_stage(log)
        await stage.take(record(0))
        await stage.checkpoint()
        log.published.clear()

        # Its commit was lost. The changelog was delivered.
        restarted = make_stage(log)
        await restarted.close_books(0.0)
        restarted.open_books([PARTITION])
        for key, value in log.changelog:
            restarted.restore(PARTITION, key, value)
        restarted.restored()
        restarted.positions_sought({PARTITION: 0}, {PARTITION: 100})
        await restarted.take(record(0))
        await restarted.take(record(1))
        await restarted.checkpoint()
        assert feeds_published(log) == 2

    asyncio.run(run())


def test_records_are_dropped_until_their_partition_is_restored() -> None:
    async def run() -> None:
        log = ListLog()
        stage = make_stage(log)
        await stage.close_books(0.0)
        await stage.take(record(0))
        stage.open_books([PARTITION])
        await stage.take(record(0))
        assert stage.counts.feeds == 0
        assert stage.report().waiting_for is not None

    asyncio.run(run())


def test_a_partition_is_read_again_after_a_recovery_and_if_records_do_not_come() -> None:
    async def run() -> None:
        log = ListLog()
        stage = make_stage(log)
        await stage._read_again_what_was_dropped()
        assert log.sought == [(PARTITION, 0)]

        await stage.take(record(0))
        log.given = 5
        for _ in range(2):
            await stage._read_again_what_was_dropped()
        assert log.sought == [(PARTITION, 0), (PARTITION, 1)]

    asyncio.run(run())


def test_a_record_that_is_none_and_a_user_in_a_wrong_partition_are_faults() -> None:
    async def run() -> None:
        stage = make_stage(ListLog())
        with pytest.raises(Undecodable, match=r"topic 'requests', partition \d, offset 0"):
            await stage.take(UserRecord(PARTITION, 0, 0, b"{}", None))
        other = next(f"u-{n}" for n in range(9) if partition_of(f"u-{n}".encode(), 4) != PARTITION)
        with pytest.raises(Misplaced, match=r"belongs to partition \d of 4"):
            await stage.take(record(0, user_id=other))

    asyncio.run(run())


def test_a_phase_is_waited_for_while_redis_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.users.experiments._SECONDS_BETWEEN", 0.0)
    calls: list[str] = []

    def read(surface: str) -> Mapping[str, Experiment]:
        calls.append(surface)
        if len(calls) < 3:
            raise HistoryUnavailable("no Redis answers")
        return EXPERIMENTS

    async def run() -> None:
        stage = make_stage(ListLog(), read)
        await stage.take(record(0))
        assert calls == ["home"] * 3
        assert stage.counts.unchecked == 0
        assert stage.experiments.waits_for is None

    asyncio.run(run())
