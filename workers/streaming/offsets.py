"""Moving a committed offset by hand: only where the log no longer holds it."""

from typing import NamedTuple

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import OffsetSpec

from workers.streaming.clients import Cluster

_SECONDS = 15.0


class Moved(NamedTuple):
    """A committed offset before and after."""

    before: int
    after: int


def resume_from_earliest(cluster: Cluster, group: str, topic: str, partition: int) -> Moved:
    """Commit the earliest offset that is left, without a pointer: the next restore reads the whole output.

    Raises KafkaException where the group still has members, or the broker does not answer.
    """
    admin, where = cluster.admin(), TopicPartition(topic, partition)
    answer = admin.list_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(group, [where])], require_stable=True, request_timeout=_SECONDS
    )[group].result()
    earliest = admin.list_offsets({where: OffsetSpec.earliest()}, request_timeout=_SECONDS)[where].result().offset
    target = TopicPartition(topic, partition, earliest)
    request = ConsumerGroupTopicPartitions(group, [target])
    result = admin.alter_consumer_group_offsets([request], request_timeout=_SECONDS)[group].result()
    failure = result.topic_partitions[0].error
    if failure is not None:
        raise OffsetNotMoved(f"partition {partition}: {failure.str()}; are the group's workers stopped?")
    return Moved(answer.topic_partitions[0].offset, earliest)


class OffsetNotMoved(Exception):
    """The broker did not take the new offset."""
