"""How far a group has come, by the offsets that it has committed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tests.rig.environment import Environment
from tests.rig.process import Process
from workers.codec.pointer import read_pointer

_PATIENCE_S = 300.0
_ANSWER_SECONDS = 30.0
_NO_COORDINATOR_YET = {
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}


def wait_until_taken(env: Environment, process: Process, events: int) -> None:
    """Wait until `events` events are read and that is committed. Requests may still be open."""
    with _consumer(env.kafka, env.name) as consumer:
        process.wait_until(lambda: _taken(env, consumer) >= events, _PATIENCE_S)


def wait_until_published(env: Environment, process: Process, events: int) -> None:
    """Wait until `events` events are below the committed offsets. So no request is open."""
    with _consumer(env.kafka, env.name) as consumer:
        process.wait_until(lambda: _published(env, consumer) >= events, _PATIENCE_S)


def wait_until_all_is_out(env: Environment, process: Process, ends: Mapping[int, int]) -> None:
    """Wait until the join has committed these offsets of interactions. So no feed below them is
    open.
    """
    with _consumer(env.kafka, env.outcomes_group) as consumer:

        def is_out() -> bool:
            places = _committed(consumer, env.interactions, env.partitions)
            committed = {place.partition: place.offset for place in places}
            return all(committed.get(partition, -1) >= end for partition, end in ends.items())

        process.wait_until(is_out)


def _taken(env: Environment, consumer: Consumer) -> int:
    places = _committed(consumer, env.candidates, env.partitions)
    pointers = [read_pointer(place.metadata) for place in places]
    return sum(pointer.next for pointer in pointers if pointer is not None)


def _published(env: Environment, consumer: Consumer) -> int:
    places = _committed(consumer, env.candidates, env.partitions)
    return sum(max(0, place.offset) for place in places)


def _committed(consumer: Consumer, topic: str, partitions: int) -> list[TopicPartition]:
    """What the group has committed. Empty while the broker still looks for its coordinator."""
    places = [TopicPartition(topic, partition) for partition in range(partitions)]
    try:
        return list(consumer.committed(places, _ANSWER_SECONDS))
    except KafkaException as error:
        if error.args[0].code() in _NO_COORDINATOR_YET:
            return []
        raise


@contextmanager
def _consumer(kafka: str, group: str) -> Iterator[Consumer]:
    """A client that may ask what the group has committed. It never joins."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": group,
            "enable.auto.commit": False,
            "log_level": 3,
        }
    )
    try:
        yield consumer
    finally:
        consumer.close()
