"""Restores: what a newly assigned partition must know, read from the logs, without stopping the
others.

Restores run side by side: each is a generator that yields while it waits (restore_steps.py). What is
read is a recipe of the stage: ranking_restore.py and join_restore.py.
"""

from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, Protocol, TypeVar

from confluent_kafka import TopicPartition

from workers.streaming.log_reader import Watermarks
from workers.streaming.restore_steps import RestoreSteps, Step


class RestoredPartition(Protocol):
    """What every recipe finds out about a partition."""

    @property
    def partition(self) -> int:
        """Its number."""

    @property
    def low_water(self) -> int:
        """The first offset to be replayed."""

    @property
    def next(self) -> int:
        """The first offset that was not taken before."""

    @property
    def records_read(self) -> int:
        """How many records of the output were read."""


R = TypeVar("R", bound=RestoredPartition)


class OffsetsLost(NamedTuple):
    """The committed offset is not in the log any more: retention removed it, or the topic was made
    again.
    """

    partition: int
    committed: int
    earliest: int
    latest: int


class CannotRestore(NamedTuple):
    """What the logs say does not fit together. The partition stands still until somebody acts."""

    partition: int
    why: str


class LogPositions(NamedTuple):
    """Where a restore begins: the committed offset with its metadata, and the ends of both logs."""

    offset: int
    metadata: str | None
    inputs: Watermarks
    outputs: Watermarks


Recipe = Callable[[int], Step[R | OffsetsLost | CannotRestore]]
"""Restores the partition of this number."""


class Restorer(Generic[R]):
    """Restores partitions side by side. `advance` never waits."""

    def __init__(self, steps: RestoreSteps, recipe: Recipe[R]) -> None:
        self._steps = steps
        self._recipe = recipe
        self._running: dict[int, Step[R | OffsetsLost | CannotRestore]] = {}

    @property
    def is_busy(self) -> bool:
        """Whether a restore is under way."""
        return bool(self._running)

    @property
    def partitions(self) -> list[int]:
        """The partitions that are being restored."""
        return list(self._running)

    @property
    def waits_for(self) -> dict[int, str]:
        """By partition, what its restore waits for, for people."""
        return self._steps.waits_for

    def begin(self, partitions: Iterable[int]) -> None:
        """Start to restore. A restore of the same partition that is under way is dropped."""
        for partition in partitions:
            self.cancel([partition])
            self._running[partition] = self._recipe(partition)

    def cancel(self, partitions: Iterable[int]) -> None:
        """Drop the restores of partitions that are not ours any more."""
        for partition in partitions:
            if self._running.pop(partition, None) is not None:
                self._steps.forget(partition)

    def advance(self) -> list[R | OffsetsLost | CannotRestore]:
        """Take every restore as far as it goes without waiting. Return the results of those that
        are complete.
        """
        self._steps.poll()
        results = []
        for partition, restore in list(self._running.items()):
            try:
                next(restore)
            except StopIteration as stop:
                del self._running[partition]
                self._steps.forget(partition)
                results.append(stop.value)
        if not self._running:
            self._steps.close()
        return results

    def close(self) -> None:
        """Drop everything under way, and the connections with it."""
        self.cancel(list(self._running))
        self._steps.close()


def find_positions(
    steps: RestoreSteps, source: TopicPartition, target: TopicPartition
) -> Step[LogPositions | OffsetsLost]:
    """The first steps of every recipe. Their order matters.

    1. The committed offset of `source`, once no undecided transaction touches it.
    2. The watermarks of the output `target` as of then.

    A recipe then reads the output up to that watermark, under read_committed. This also waits for a
    transaction whose markers are still being written, so that nothing that the last owner published
    can be missed.
    """
    committed = yield from steps.committed(source)
    inputs = yield from steps.watermarks(source)
    outputs = yield from steps.watermarks(target)

    offset = committed.offset
    if offset < 0:
        offset = inputs.earliest
    elif not inputs.earliest <= offset <= inputs.latest:
        return OffsetsLost(source.partition, offset, inputs.earliest, inputs.latest)
    return LogPositions(offset, committed.metadata, inputs, outputs)
