"""The topics of the local stack, under their default names."""

from workers.settings import SETTINGS
from workers.streaming.topics import TopicPlan, create_topics, describe_topics

DEFAULT_PARTITIONS = 4

# Kafka's own default, said aloud since the broker's limit is the dead letters'.
_LARGEST_RECORD = "1048588"
# A dead letter holds a whole candidate event and the headers that say what is wrong with it.
_LARGEST_DEAD_LETTER = "2097152"


def stack_topics(partitions: int) -> tuple[TopicPlan, ...]:
    """The plan of every topic. Feeds and dead letters go to the partition number of their event."""
    plain = {"max.message.bytes": _LARGEST_RECORD}
    # The broker's clock: no producer can push it ahead.
    candidates = plain | {"message.timestamp.type": "LogAppendTime"}
    return (
        TopicPlan(_default_name("topic_candidates"), partitions, candidates),
        TopicPlan(_default_name("topic_feeds"), partitions, plain),
        TopicPlan(
            _default_name("topic_dead_letters"),
            partitions,
            {"max.message.bytes": _LARGEST_DEAD_LETTER},
        ),
        TopicPlan("interactions", partitions, plain),
        TopicPlan("feed-outcomes", partitions, plain),
    )


def create_stack_topics(bootstrap: str, partitions: int | None) -> int:
    """Create what is missing, with as many partitions as asked for, else as `candidates` has, else
    four.

    Returns the number of partitions. Raises TopicError and BrokerUnreachable.
    """
    candidates = _default_name("topic_candidates")
    known = describe_topics(bootstrap, [candidates])
    count = partitions or known.get(candidates, DEFAULT_PARTITIONS)
    create_topics(bootstrap, stack_topics(count))
    return count


def _default_name(setting: str) -> str:
    return str(SETTINGS[setting].default)
