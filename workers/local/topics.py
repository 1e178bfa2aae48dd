"""The topics of the local stack, under their default names."""

from workers.settings import SETTINGS
from workers.streaming.topics import TopicPlan, create_topics, describe_topics

DEFAULT_PARTITIONS = 4

# Kafka's own default. It is set on each topic, because the broker's limit is the larger one of the
# dead letters.
_LARGEST_RECORD = "1048588"
# A dead letter holds a whole candidate event, and headers that say what is wrong with it.
_LARGEST_DEAD_LETTER = "2097152"

_CANDIDATES = str(SETTINGS["topic_candidates"].default)
_FEEDS = str(SETTINGS["topic_feeds"].default)
_DEAD_LETTERS = str(SETTINGS["topic_dead_letters"].default)


def stack_topics(partitions: int) -> tuple[TopicPlan, ...]:
    """The plan of every topic. All have the same number of partitions, because feeds and dead
    letters go to the partition number of their event.
    """
    record_size = {"max.message.bytes": _LARGEST_RECORD}
    # With the broker's clock, no producer can move stream time ahead.
    broker_clock = {"message.timestamp.type": "LogAppendTime"}
    dead_letter_size = {"max.message.bytes": _LARGEST_DEAD_LETTER}
    return (
        TopicPlan(_CANDIDATES, partitions, record_size | broker_clock),
        TopicPlan(_FEEDS, partitions, record_size),
        TopicPlan(_DEAD_LETTERS, partitions, dead_letter_size),
        TopicPlan("interactions", partitions, record_size),
        TopicPlan("feed-outcomes", partitions, record_size),
    )


def create_stack_topics(bootstrap: str, partitions: int | None) -> int:
    """Create the topics that are missing, and return their number of partitions.

    If `partitions` is None, they get as many as the topic of candidates has, or else
    DEFAULT_PARTITIONS. Raises TopicError and BrokerUnreachable.
    """
    existing = describe_topics(bootstrap, [_CANDIDATES])
    count = partitions or existing.get(_CANDIDATES, DEFAULT_PARTITIONS)
    create_topics(bootstrap, stack_topics(count))
    return count
