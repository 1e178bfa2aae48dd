"""Producers that send their first record at once.

An idempotent producer needs an id from the broker. librdkafka asks for it before it is connected,
and asks again half a second later. So a spare producer is made in advance, and has its id by the
time it is needed.
"""

from confluent_kafka import Producer

from workers.streaming.clients import Cluster

_spares: dict[str, Producer] = {}


def ready_producer(kafka: str) -> Producer:
    """A producer as `trimtab produce` has it. Nobody else uses it."""
    ready = _spares.pop(kafka, None) or Cluster(kafka).producer()
    _spares[kafka] = Cluster(kafka).producer()
    return ready
