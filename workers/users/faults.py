"""Why the users stage stops by itself. Each message says what was found, what was expected, who is
at fault and what helps.
"""

from workers.errors import Failure


class UsersFault(Failure):
    """The stage cannot count on without counting wrongly."""


class Undecodable(UsersFault):
    """A record of `request-outcomes` that cannot be decoded."""

    def __init__(self, topic: str, partition: int, offset: int, error: Exception) -> None:
        super().__init__(
            f"topic {topic!r}, partition {partition}, offset {offset}: {error}, expected a record"
            " of the join. Nothing else may write to this topic. Once you know what it is, go"
            " past it: stop the stage, and set the offset of its group with"
            " kafka-consumer-groups.sh --reset-offsets --to-offset"
            f" {offset + 1} --topic {topic}:{partition}"
        )


class Misplaced(UsersFault):
    """A user's feed in another partition than murmur2 gives the user."""

    def __init__(
        self, topic: str, *, partition: int, offset: int, expected: int, count: int
    ) -> None:
        super().__init__(
            f"topic {topic!r}, partition {partition}, offset {offset}: the user belongs to"
            f" partition {expected} of {count}. Users would be counted twice. Either the partition"
            f" count of {topic!r} was changed ({count} now), or something other than the join"
            " writes to it. Count again in a new topic: name one with --topic-request-outcomes"
            " for the join and the stage"
        )


class OffsetsGone(UsersFault):
    """Feeds were deleted by retention before they were counted."""

    def __init__(self, topic: str, partition: int, *, committed: int, beginning: int) -> None:
        super().__init__(
            f"topic {topic!r}, partition {partition}: the stage has counted up to offset"
            f" {committed}, and the topic begins at {beginning}: retention has deleted feeds that"
            " were never counted. The sums will not balance for their hours. To go on with what is"
            " there: stop the stage, and set the offset of its group with"
            f" kafka-consumer-groups.sh --reset-offsets --to-offset {beginning}"
            f" --topic {topic}:{partition}"
        )


class TopicReplaced(UsersFault):
    """The offsets of the input are not those that were counted."""

    def __init__(self, topic: str, partition: int, *, committed: int, end: int) -> None:
        super().__init__(
            f"topic {topic!r}, partition {partition}: the stage has counted up to offset"
            f" {committed}, and the topic ends at {end}: it was deleted and created again, or has"
            " lost records. Feeds under offsets that were counted before would not be counted. To"
            " begin again with what is there: stop the stage, delete its topics user-outcomes and"
            " user-outcomes.changelog and create them again, and delete its group with"
            " kafka-consumer-groups.sh --delete"
        )


class StageFailed(UsersFault):
    """Something in the stage or in its libraries has failed. What is not committed is replayed."""
