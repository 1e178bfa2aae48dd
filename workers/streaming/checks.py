"""What a worker checks of its topics before it takes a single event."""

from typing import NamedTuple

from workers.observe.log import log
from workers.streaming.clients import Cluster
from workers.streaming.topics import BrokerUnreachable, describe_topics, topic_config

_RECORD_OVERHEAD = 1024  # batch and record headers, the key (256 bytes at most) and the content type
_WAIT_SECONDS = 5.0


class TopicsUnfit(Exception):
    """The topics are not as the guarantees need them; the message says which command mends it."""


class TopicFacts(NamedTuple):
    """What the topics allow: how many bytes a feed's value may have."""

    most_feed_bytes: int


def check_topics(cluster: Cluster, candidates: str, feeds: str, dead_letters: str) -> TopicFacts:
    """Wait for the broker, then check. Raises TopicsUnfit; warns where a guarantee is weaker than it could be."""
    partitions = _wait_for_partitions(cluster, candidates, feeds, dead_letters)
    where = cluster.bootstrap
    for name in (candidates, feeds, dead_letters):
        if name not in partitions:
            count = max(partitions.values(), default=4)
            create = f"kafka-topics.sh --bootstrap-server {where} --create --topic {name} --partitions {count}"
            raise TopicsUnfit(f"topic {name!r} is not there; create it: {create}")
    for name in (feeds, dead_letters):
        if partitions[name] != partitions[candidates]:
            raise TopicsUnfit(_mismatch(where, candidates, name, partitions))
    timestamps = topic_config(where, candidates, cluster.properties).get("message.timestamp.type")
    if timestamps != "LogAppendTime":
        log.warning(
            "timestamps_by_producers",
            topic=candidates,
            got=timestamps,
            expected="LogAppendTime",
            risk="a producer with a fast clock closes other requests early",
        )
    limit = int(topic_config(where, feeds, cluster.properties)["max.message.bytes"])
    return TopicFacts(limit - _RECORD_OVERHEAD)


def _wait_for_partitions(cluster: Cluster, *names: str) -> dict[str, int]:
    while True:
        try:
            return describe_topics(cluster.bootstrap, names, cluster.properties, _WAIT_SECONDS)
        except BrokerUnreachable as error:
            log.warning("kafka_unreachable", doing="waiting to check the topics", error=str(error))


def _mismatch(where: str, candidates: str, other: str, partitions: dict[str, int]) -> str:
    counts = f"topic {other!r} has {partitions[other]} partitions, expected {partitions[candidates]} as {candidates!r}"
    small, most = min((candidates, other), key=partitions.__getitem__), max(partitions[candidates], partitions[other])
    alter = f"kafka-topics.sh --bootstrap-server {where} --alter --topic {small} --partitions {most}"
    return f"{counts}; a feed goes to its input's partition number. Mend it: {alter}"
