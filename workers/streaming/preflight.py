"""What a worker checks of its topics before it takes a single event."""

from collections.abc import Sequence
from typing import NamedTuple

from workers.errors import Failure
from workers.log import log
from workers.streaming.clients import Cluster
from workers.streaming.limits import RecordLimits, limits_of
from workers.streaming.rights import Right, hidden_hint, require_rights
from workers.streaming.topics import BrokerUnreachable, describe_topics, topic_config

_LETTER_OVERHEAD = 32_768  # the headers that say why, beside the event's own key, value and headers
_WAIT_SECONDS = 5.0


class TopicsUnfit(Failure):
    """The topics are not as the guarantees need them; the message says which command mends it."""


class TopicFacts(NamedTuple):
    """How large a record may be, and how many partitions each topic has."""

    limits: RecordLimits
    partitions: int


def check_topics(
    cluster: Cluster, candidates: str, feeds: str, dead_letters: str, needed: Sequence[Right] = ()
) -> TopicFacts:
    """Wait for the broker, then check the needed rights and the topics; return what they are like.

    Raises RightMissing, TopicsUnfit and LimitTooSmall; warns if a guarantee is weaker than it could
    be.
    """
    partitions = _wait_for_partitions(cluster, candidates, feeds, dead_letters)
    # Rights first: a topic that may not be described is not among those that were found.
    require_rights(cluster, needed)
    where = cluster.bootstrap
    for name in (candidates, feeds, dead_letters):
        if name not in partitions:
            count = max(partitions.values(), default=4)
            create = f"kafka-topics.sh --bootstrap-server {where} --create --topic {name} --partitions {count}"
            raise TopicsUnfit(
                f"topic {name!r} is not there{hidden_hint(cluster)}; create it: {create}"
            )
    for name in (feeds, dead_letters):
        if partitions[name] != partitions[candidates]:
            raise TopicsUnfit(_mismatch(where, candidates, name, partitions))
    configs = {
        name: topic_config(where, name, cluster.properties)
        for name in (candidates, feeds, dead_letters)
    }
    limits = {name: int(config["max.message.bytes"]) for name, config in configs.items()}
    _warn_of_timestamps(candidates, configs[candidates]["message.timestamp.type"])
    _warn_of_small_letters(
        dead_letters, limits[dead_letters], limits[candidates] + _LETTER_OVERHEAD
    )
    found = limits_of(limits[feeds], limits[dead_letters], cluster.properties)
    return TopicFacts(found, partitions[candidates])


def _warn_of_timestamps(topic: str, got: str) -> None:
    if got != "LogAppendTime":
        risk = "a producer with a fast clock closes other requests early"
        log.warning(
            "timestamps_by_producers", topic=topic, got=got, expected="LogAppendTime", risk=risk
        )


def _warn_of_small_letters(topic: str, got: int, expected: int) -> None:
    if got < expected:
        risk = "the largest events would be cut in their dead letters"
        log.warning(
            "dead_letters_small", topic=topic, max_message_bytes=got, expected=expected, risk=risk
        )


def _wait_for_partitions(cluster: Cluster, *names: str) -> dict[str, int]:
    while True:
        try:
            return describe_topics(cluster.bootstrap, names, cluster.properties, _WAIT_SECONDS)
        except BrokerUnreachable as error:
            said = cluster.connection_error()
            log.warning(
                "kafka_unreachable",
                doing="waiting to check the topics",
                error=f"{error}{f'; {said}' if said else ''}",
            )


def _mismatch(where: str, candidates: str, other: str, partitions: dict[str, int]) -> str:
    counts = f"topic {other!r} has {partitions[other]} partitions, expected {partitions[candidates]} as {candidates!r}"
    small, most = (
        min((candidates, other), key=partitions.__getitem__),
        max(partitions[candidates], partitions[other]),
    )
    alter = (
        f"kafka-topics.sh --bootstrap-server {where} --alter --topic {small} --partitions {most}"
    )
    return f"{counts}; a feed goes to its input's partition number. Mend it: {alter}"
