"""What a worker checks before it takes a single event: its rights and its topics.

| checked                                     | if it does not hold                         |
|---------------------------------------------|---------------------------------------------|
| a broker answers                            | wait for it                                 |
| the worker has the rights that it needs     | RightMissing                                |
| all three topics exist                      | TopicsUnfit                                 |
| the output topics have as many partitions   | TopicsUnfit                                 |
|   as the input: a feed goes to the same one |                                             |
| they take records that hold any feed        | LimitTooSmall                               |
| the broker sets the input's timestamps      | warn: a producer's clock can close requests |
| a dead letter can hold the largest event    | warn: such an event would be cut            |
"""

from collections.abc import Sequence
from typing import NamedTuple

from workers.errors import Failure
from workers.log import log
from workers.streaming.clients import Cluster
from workers.streaming.limits import RecordLimits, limits_of
from workers.streaming.rights import Right, hidden_hint, require_rights
from workers.streaming.topics import BrokerUnreachable, WorkerTopics, describe_topics, topic_config

_LETTER_OVERHEAD = 32_768
"""Bytes of the headers that say why, beside the event's own key, value and headers."""
_WAIT_SECONDS = 5.0


class TopicsUnfit(Failure):
    """The topics are not as the guarantees need them. The message says how to mend it."""


class TopicFacts(NamedTuple):
    """How large a record may be, and how many partitions each topic has."""

    limits: RecordLimits
    partitions: int


def check_topics(
    cluster: Cluster, topics: WorkerTopics, needed: Sequence[Right] = ()
) -> TopicFacts:
    """Wait for the broker, then check the needed rights and the topics. Return what they are like.

    Raises RightMissing, TopicsUnfit and LimitTooSmall. Warns if a guarantee is weaker than it could
    be.
    """
    candidates = topics.candidates
    feeds = topics.feeds
    dead_letters = topics.dead_letters
    names = (candidates, feeds, dead_letters)
    partitions = _wait_for_partitions(cluster, names)
    # Rights first: a topic that may not be described is missing from `partitions`.
    require_rights(cluster, needed)

    where = cluster.bootstrap
    for name in names:
        if name not in partitions:
            count = max(partitions.values(), default=4)
            raise TopicsUnfit(
                f"topic {name!r} is not there{hidden_hint(cluster)}; create it: kafka-topics.sh"
                f" --bootstrap-server {where} --create --topic {name} --partitions {count}"
            )
    for name in (feeds, dead_letters):
        if partitions[name] != partitions[candidates]:
            raise TopicsUnfit(_describe_mismatch(where, candidates, name, partitions))

    configs = {name: topic_config(where, name, cluster.properties) for name in names}
    max_bytes = {name: int(config["max.message.bytes"]) for name, config in configs.items()}
    timestamps = configs[candidates]["message.timestamp.type"]
    if timestamps != "LogAppendTime":
        log.warning(
            "timestamps_by_producers",
            topic=candidates,
            got=timestamps,
            expected="LogAppendTime",
            risk="a producer with a fast clock closes other requests early",
        )
    largest_letter = max_bytes[candidates] + _LETTER_OVERHEAD
    if max_bytes[dead_letters] < largest_letter:
        log.warning(
            "dead_letters_small",
            topic=dead_letters,
            max_message_bytes=max_bytes[dead_letters],
            expected=largest_letter,
            risk="the largest events would be cut in their dead letters",
        )

    limits = limits_of(max_bytes[feeds], max_bytes[dead_letters], cluster.properties)
    return TopicFacts(limits, partitions[candidates])


def _wait_for_partitions(cluster: Cluster, names: Sequence[str]) -> dict[str, int]:
    """The partition counts of the topics that exist, once a broker answers."""
    while True:
        try:
            return describe_topics(cluster.bootstrap, names, cluster.properties, _WAIT_SECONDS)
        except BrokerUnreachable as error:
            reason = cluster.connection_error()
            log.warning(
                "kafka_unreachable",
                doing="waiting to check the topics",
                error=f"{error}; {reason}" if reason else str(error),
            )


def _describe_mismatch(where: str, candidates: str, other: str, partitions: dict[str, int]) -> str:
    """The error for two topics with different partition counts, with the command that mends it."""
    smaller = candidates if partitions[candidates] <= partitions[other] else other
    count = max(partitions[candidates], partitions[other])
    return (
        f"topic {other!r} has {partitions[other]} partitions, expected {partitions[candidates]} as"
        f" {candidates!r}; a feed goes to its input's partition number. Mend it: kafka-topics.sh"
        f" --bootstrap-server {where} --alter --topic {smaller} --partitions {count}"
    )
