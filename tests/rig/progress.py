"""How far a group has come, by the offsets that it has committed."""

from collections.abc import Iterator
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
    with _consumer(env) as consumer:
        process.wait_until(lambda: _taken(env, consumer) >= events, _PATIENCE_S)


def wait_until_published(env: Environment, process: Process, events: int) -> None:
    """Wait until `events` events are below the committed offsets. So no request is open."""
    with _consumer(env) as consumer:
        process.wait_until(lambda: _published(env, consumer) >= events, _PATIENCE_S)


def _taken(env: Environment, consumer: Consumer) -> int:
    pointers = [read_pointer(place.metadata) for place in _committed(env, consumer)]
    return sum(pointer.next for pointer in pointers if pointer is not None)


def _published(env: Environment, consumer: Consumer) -> int:
    return sum(max(0, place.offset) for place in _committed(env, consumer))


def _committed(env: Environment, consumer: Consumer) -> list[TopicPartition]:
    """What the group has committed. Empty while the broker still looks for its coordinator."""
    places = [TopicPartition(env.candidates, partition) for partition in range(env.partitions)]
    try:
        return list(consumer.committed(places, _ANSWER_SECONDS))
    except KafkaException as error:
        if error.args[0].code() in _NO_COORDINATOR_YET:
            return []
        raise


@contextmanager
def _consumer(env: Environment) -> Iterator[Consumer]:
    """A client that may ask what the group has committed. It never joins."""
    consumer = Consumer(
        {
            "bootstrap.servers": env.kafka,
            "group.id": env.name,
            "enable.auto.commit": False,
            "log_level": 3,
        }
    )
    try:
        yield consumer
    finally:
        consumer.close()
