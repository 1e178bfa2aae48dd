"""The topics that the stages need: their partitions, and their configuration if they are created.

Rules:
- Feeds, dead letters and feed records go to the partition number of their event. So do the sums and
  the dead letters of interactions. These topics have one partition count.
- The outcomes of a request go to a partition of its user. Their count is one of its own, and what
  is known about users has the same.
- A dead letter holds a whole record, and headers that say what is wrong with it.
- A feed record is never larger than its feed.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from workers.streaming.topics import JoinTopics, TopicPlan, UsersTopics, WorkerTopics

DEFAULT_PARTITIONS: Final = 4
"""Of new topics, if nobody says how many and no topic is there to go by."""

INTERACTIONS_CONFIG: Mapping[str, str] = {"message.timestamp.type": "LogAppendTime"}
"""What the topic of interactions needs: what counts depends on the time of its records, so no
producer may set it.
"""
FEED_OUTCOMES_CONFIG: Mapping[str, str] = {
    "cleanup.policy": "compact,delete",
    "retention.ms": str(14 * 24 * 3600 * 1000),
    # The newest segment is never compacted, so it is kept small.
    "segment.bytes": str(16 * 1024 * 1024),
    "segment.ms": str(3600 * 1000),
}
"""What the topic of sums needs: the latest sums of a key count, and they outlive the longest outcome
window.
"""
USER_CHANGELOG_CONFIG: Mapping[str, str] = {
    "cleanup.policy": "compact",
    "min.compaction.lag.ms": str(3600 * 1000),
    "segment.bytes": str(64 * 1024 * 1024),
    "segment.ms": str(3600 * 1000),
}
"""What the changelog of the users stage needs: nothing of it is deleted for its age, and for an hour
it keeps every state of a key, so that a restore finds the one that is furthest on.
"""
LETTER_OVERHEAD: Final = 32_768
"""Bytes of the headers that say why, beside the record's own key, value and headers."""

# With the broker's clock, no producer can move stream time ahead.
_BROKER_CLOCK: Mapping[str, str] = {"message.timestamp.type": "LogAppendTime"}


class RecordSizes(NamedTuple):
    """The largest records in bytes: Kafka's own default, unless topics exist that take larger ones.

    They are set on each topic, because the broker's own limit may be another one.
    """

    candidates: int = 1_048_588
    feeds: int = 1_048_588

    @property
    def dead_letters(self) -> int:
        """A dead letter holds a whole event."""
        return max(2 * 1024 * 1024, self.candidates + LETTER_OVERHEAD)

    @property
    def interaction_letters(self) -> int:
        """A dead letter holds a whole interaction or feed record."""
        return max(2 * 1024 * 1024, self.feeds + LETTER_OVERHEAD)


_DEFAULT_SIZES = RecordSizes()


def ranking_plans(
    topics: WorkerTopics, partitions: int, sizes: RecordSizes = _DEFAULT_SIZES
) -> tuple[TopicPlan, ...]:
    """The topics of a worker, without interactions."""
    return (
        TopicPlan(topics.candidates, partitions, {**_size(sizes.candidates), **_BROKER_CLOCK}),
        TopicPlan(topics.feeds, partitions, _size(sizes.feeds)),
        TopicPlan(topics.dead_letters, partitions, _size(sizes.dead_letters)),
    )


def outcome_plans(
    join: JoinTopics,
    users: UsersTopics,
    *,
    partitions: int,
    request_partitions: int,
    sizes: RecordSizes = _DEFAULT_SIZES,
) -> tuple[TopicPlan, ...]:
    """The topics of outcomes: those of the join, then those of the users stage."""
    feed_size = _size(sizes.feeds)
    letter_size = _size(sizes.interaction_letters)
    sums_config = {**feed_size, **FEED_OUTCOMES_CONFIG}
    changelog_config = {**feed_size, **USER_CHANGELOG_CONFIG}
    return (
        TopicPlan(join.interactions, partitions, {**feed_size, **INTERACTIONS_CONFIG}),
        TopicPlan(join.dead_letters, partitions, letter_size),
        TopicPlan(join.request_outcomes, request_partitions, feed_size),
        TopicPlan(join.feed_outcomes, partitions, sums_config),
        TopicPlan(users.user_outcomes, request_partitions, sums_config),
        TopicPlan(users.changelog, request_partitions, changelog_config),
    )


def _size(limit_bytes: int) -> dict[str, str]:
    return {"max.message.bytes": str(limit_bytes)}
