"""A stage: what is done with the records of a topic, apart from the loop.

There are two. Ranking turns candidates into feeds (ranking_*.py, ranker.py), and the join turns
interactions into outcomes (join_*.py). The loop, restores, transactions and failures are the same
for both. A stage brings four parts:

| part                | ranking               | join               |
|---------------------|-----------------------|--------------------|
| its partition       | ranking_partition.py  | join_partition.py  |
| `Intake`            | ranking_intake.py     | join_intake.py     |
| `Emitter`           | ranker.py             | join_emitter.py    |
| recipe of a restore | ranking_restore.py    | join_restore.py    |
"""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

from workers.codec.pointer import Span
from workers.streaming.partition import Partition
from workers.streaming.publisher import Output
from workers.streaming.records import Fetched

P = TypeVar("P", bound=Partition)
P_contra = TypeVar("P_contra", bound=Partition, contravariant=True)


class Intake(Protocol[P_contra]):
    """Takes the records of partitions. What is wrong with a record becomes a dead letter."""

    def take(self, partition: P_contra, message: Fetched, offset: int, timestamp: int) -> bool:
        """Take one record, which is at `offset`. `timestamp` is in ms. Return whether more is held
        than the limits allow: then `keep_limits` is called.
        """

    def pass_over(self, partition: P_contra, span: Span) -> None:
        """Go on behind records that cannot be read, and that an operator has skipped."""

    def keep_limits(self, partitions: Collection[P_contra]) -> None:
        """Do what the limits of what is held demand."""


class Emitter(Protocol[P_contra]):
    """Turns what is closed into records in the outboxes of partitions.

    `broken`: by partition, why nothing can be made of what it has closed. Whoever reads it takes
    those partitions out.
    """

    broken: dict[int, str]

    def has_room(self, partitions: Collection[P_contra]) -> bool:
        """Whether one transaction can take more than what is closed by now."""

    def begin(self, partitions: Collection[P_contra], *, is_drain: bool) -> bool:
        """Called once a turn, before `emit`. Return whether this turn may emit and publish."""

    def emit(self, partitions: Collection[P_contra], is_failing: Callable[[int], bool]) -> bool:
        """Put what is closed into the outboxes, as much as one transaction takes. Return whether
        there was anything.

        A partition that `is_failing` is left out as long as its outbox is not empty.
        """

    def count(self, published: Sequence[Output]) -> None:
        """Count records that went out."""
