"""What a stage checks before it takes a single record: its rights and its topics.

A worker:

| checked                                     | if it does not hold                         |
|---------------------------------------------|---------------------------------------------|
| a broker answers                            | wait for it                                 |
| the worker has the rights that it needs     | RightMissing                                |
| all of its topics exist                     | TopicsUnfit                                 |
| the output topics have as many partitions   | TopicsUnfit                                 |
|   as the input: a feed goes to the same one |                                             |
| the broker sets the time of interactions    | TopicsUnfit                                 |
| interactions take what the feeds' topic     | TopicsUnfit                                 |
|   takes: a feed record is never larger      |                                             |
| they take records that hold any feed        | LimitTooSmall                               |
| the broker sets the input's timestamps      | warn: a producer's clock can close requests |
| a dead letter can hold the largest event    | warn: such an event would be cut            |

The topic of interactions is checked only if a surface has outcomes.

The join of outcomes:

| checked                                     | if it does not hold                         |
|---------------------------------------------|---------------------------------------------|
| a broker answers                            | wait for it                                 |
| the join has the rights that it needs       | RightMissing                                |
| all four topics exist                       | TopicsUnfit                                 |
| dead letters and sums have as many          | TopicsUnfit                                 |
|   partitions as the interactions            |                                             |
| the broker sets the time of interactions    | TopicsUnfit                                 |
| sums are compacted, and are not deleted     | TopicsUnfit                                 |
|   before the longest window and a day       |                                             |
| the output topics take 64 KiB               | TopicsUnfit                                 |
| interactions are kept that long too         | warn: a restore could miss its beginning    |
| a dead letter can hold the largest record   | warn: such a record would be cut            |

The users stage:

| checked                                     | if it does not hold                         |
|---------------------------------------------|---------------------------------------------|
| a broker answers                            | wait for it                                 |
| the stage has the rights that it needs      | RightMissing                                |
| all three topics exist                      | TopicsUnfit                                 |
| user-outcomes and the changelog have as     | TopicsUnfit                                 |
|   many partitions as request-outcomes       |                                             |
| both are compacted, and nothing of the      | TopicsUnfit                                 |
|   changelog is deleted for its age          |                                             |

TopicsUnfit names the topic, what it is, what was expected, and the command that changes it.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from workers.errors import Failure
from workers.log import log
from workers.ranking.surface import Surfaces
from workers.streaming.clients import Cluster
from workers.streaming.limits import RecordLimits, limits_of
from workers.streaming.rights import Right, hidden_hint, require_rights
from workers.streaming.topics import (
    FEED_OUTCOMES_CONFIG,
    INTERACTIONS_CONFIG,
    USER_CHANGELOG_CONFIG,
    BrokerUnreachable,
    JoinTopics,
    UsersTopics,
    WorkerTopics,
    describe_topics,
    topic_config,
)

_LETTER_OVERHEAD = 32_768
"""Bytes of the headers that say why, beside the record's own key, value and headers."""
_LEAST_OUTCOME_BYTES = 65_536
"""A record of sums has 5 to 10 kB, that of a large feed more."""
_DAY_MS = 24 * 3600 * 1000
_PARTITIONS = 4
"""Of a topic that is to be created, if there is no other to go by."""
_WAIT_SECONDS = 5.0

_Configs = Mapping[str, Mapping[str, str]]


class TopicsUnfit(Failure):
    """The topics are not as the guarantees need them. The message says how to mend it."""


class TopicFacts(NamedTuple):
    """How large a record may be, and how many partitions each topic of a worker has."""

    limits: RecordLimits
    partitions: int


class JoinTopicFacts(NamedTuple):
    """How large a record may be; how many partitions the interactions have, and how many the
    outcomes of requests.
    """

    limits: RecordLimits
    partitions: int
    request_partitions: int


class _Fault(NamedTuple):
    """One value of a topic's configuration that is not as expected, and a value that is."""

    key: str
    got: str
    expected: str
    value: str


# The worker


def check_topics(
    cluster: Cluster, topics: WorkerTopics, needed: Sequence[Right] = ()
) -> TopicFacts:
    """Wait for the broker, then check the needed rights and the topics. Return what they are like.

    Raises RightMissing, TopicsUnfit and LimitTooSmall. Warns if a guarantee is weaker than it could
    be.
    """
    candidates = topics.candidates
    created_with: dict[str, Mapping[str, str]] = {
        candidates: {},
        topics.feeds: {},
        topics.dead_letters: {},
    }
    if topics.interactions is not None:
        created_with[topics.interactions] = INTERACTIONS_CONFIG

    partitions = _wait_for_partitions(cluster, tuple(created_with))
    # Rights first: a topic that may not be described is missing from `partitions`.
    require_rights(cluster, needed)

    _require_topics(
        cluster,
        created_with,
        existing=partitions,
        count=max(partitions.values(), default=_PARTITIONS),
    )
    _require_same_count(
        cluster,
        candidates,
        others=(topics.feeds, topics.dead_letters),
        partitions=partitions,
        reason="a feed goes to its input's partition number",
    )
    configs = _read_configs(cluster, created_with)
    if topics.interactions is not None:
        _require_same_count(
            cluster,
            candidates,
            others=(topics.interactions,),
            partitions=partitions,
            reason="a feed record goes to its input's partition number",
        )
        faults = _timestamp_faults(configs[topics.interactions])
        faults += _size_faults(configs[topics.interactions], _max_bytes(configs[topics.feeds]))
        _require_no_faults(cluster, topics.interactions, faults)

    timestamps = configs[candidates]["message.timestamp.type"]
    if timestamps != "LogAppendTime":
        log.warning(
            "timestamps_by_producers",
            topic=candidates,
            got=timestamps,
            expected="LogAppendTime",
            risk="a producer with a fast clock closes other requests early",
        )
    _warn_of_small_letters(
        configs,
        source=candidates,
        dead_letters=topics.dead_letters,
        risk="the largest events would be cut in their dead letters",
    )
    return TopicFacts(
        limits=_output_limits(cluster, topics, configs), partitions=partitions[candidates]
    )


# The join of outcomes


def check_join_topics(
    cluster: Cluster, topics: JoinTopics, surfaces: Surfaces, needed: Sequence[Right] = ()
) -> JoinTopicFacts:
    """Wait for the broker, then check the needed rights and the topics. Return what they are like.

    Raises RightMissing, TopicsUnfit and LimitTooSmall. Warns if a guarantee is weaker than it could
    be.
    """
    interactions = topics.interactions
    created_with: dict[str, Mapping[str, str]] = {
        interactions: INTERACTIONS_CONFIG,
        topics.dead_letters: {},
        topics.request_outcomes: {},
        topics.feed_outcomes: FEED_OUTCOMES_CONFIG,
    }
    partitions = _wait_for_partitions(cluster, tuple(created_with))
    require_rights(cluster, needed)

    followers = (topics.dead_letters, topics.feed_outcomes)
    known_counts = [partitions[name] for name in followers if name in partitions]
    count = partitions.get(interactions, max(known_counts, default=_PARTITIONS))
    _require_topics(
        cluster,
        created_with,
        existing=partitions,
        count=count,
        unsure_of=interactions,
    )
    _require_same_count(
        cluster,
        interactions,
        others=followers,
        partitions=partitions,
        reason="dead letters and sums go to their input's partition number",
    )

    configs = _read_configs(cluster, created_with)
    kept_ms = _longest_window_ms(surfaces) + _DAY_MS
    faults = {interactions: _timestamp_faults(configs[interactions])}
    for name in topics.outputs.values():
        faults[name] = _size_faults(configs[name], _LEAST_OUTCOME_BYTES)
    faults[topics.feed_outcomes] += _cleanup_faults(configs[topics.feed_outcomes], kept_ms)
    for name, faults_of_topic in faults.items():
        _require_no_faults(cluster, name, faults_of_topic)

    _warn_of_short_retention(interactions, configs[interactions], kept_ms)
    _warn_of_small_letters(
        configs,
        source=interactions,
        dead_letters=topics.dead_letters,
        risk="the largest interactions would be cut in their dead letters",
    )
    return JoinTopicFacts(
        limits=_output_limits(cluster, topics, configs),
        partitions=partitions[interactions],
        request_partitions=partitions[topics.request_outcomes],
    )


def _longest_window_ms(surfaces: Surfaces) -> int:
    """The longest outcome window of all surfaces, in milliseconds; 0 if there is none."""
    longest_s = 0
    for surface in surfaces.values():
        if surface.outcomes is not None:
            longest_s = max(longest_s, surface.outcomes.window_s)
    return longest_s * 1000


def _warn_of_short_retention(topic: str, config: Mapping[str, str], kept_ms: int) -> None:
    retention_ms = _retention_ms(config)
    if retention_ms is not None and retention_ms < kept_ms:
        log.warning(
            "retention_short",
            topic=topic,
            retention_ms=retention_ms,
            expected_ms=kept_ms,
            risk="open feeds could be gone at a restart, and their partition would then stop",
        )


# The users stage


def check_users_topics(cluster: Cluster, topics: UsersTopics, needed: Sequence[Right] = ()) -> int:
    """Wait for the broker, then check the needed rights and the topics. Return the partition count.

    Raises RightMissing and TopicsUnfit.
    """
    requests = topics.request_outcomes
    created_with: dict[str, Mapping[str, str]] = {
        requests: {},
        topics.user_outcomes: FEED_OUTCOMES_CONFIG,
        topics.changelog: USER_CHANGELOG_CONFIG,
    }
    partitions = _wait_for_partitions(cluster, tuple(created_with))
    require_rights(cluster, needed)
    _require_topics(
        cluster, created_with, existing=partitions, count=partitions.get(requests, _PARTITIONS)
    )

    for name in (topics.user_outcomes, topics.changelog):
        _require_count_of_requests(cluster, requests, name, partitions)

    configs = _read_configs(cluster, created_with)
    sums_faults = _cleanup_faults(configs[topics.user_outcomes], _DAY_MS)
    _require_no_faults(cluster, topics.user_outcomes, sums_faults)

    policy = configs[topics.changelog]["cleanup.policy"]
    expected = USER_CHANGELOG_CONFIG["cleanup.policy"]
    if policy != expected:
        fault = _Fault("cleanup.policy", got=policy, expected=expected, value=expected)
        _require_no_faults(cluster, topics.changelog, [fault])
    return partitions[requests]


def _require_count_of_requests(
    cluster: Cluster, requests: str, name: str, partitions: Mapping[str, int]
) -> None:
    """Raises TopicsUnfit if a topic has another partition count than request-outcomes, whose own
    must never change.
    """
    count = partitions[requests]
    if partitions[name] == count:
        return
    words = ["kafka-topics.sh", "--bootstrap-server", cluster.bootstrap]
    words += ["--topic", name]
    if partitions[name] < count:
        how = f"Mend it: {shlex.join([*words, '--alter', '--partitions', str(count)])}"
    else:
        how = (
            f"If the count of {requests!r} was never changed, delete this topic, and create it with"
            f" {count}: {shlex.join([*words, '--delete'])}"
        )
    raise TopicsUnfit(
        f"topic {name!r} has {partitions[name]} partitions, expected {count} as {requests!r};"
        f" what is known of a user goes to the partition of the user's feeds. {how}"
    )


# Reading


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


def _read_configs(cluster: Cluster, names: Iterable[str]) -> _Configs:
    return {name: topic_config(cluster.bootstrap, name, cluster.properties) for name in names}


def _max_bytes(config: Mapping[str, str]) -> int:
    return int(config["max.message.bytes"])


def _retention_ms(config: Mapping[str, str]) -> int | None:
    """How long records are kept. None if they are not deleted for their age."""
    retention_ms = int(config["retention.ms"])
    if "delete" not in config["cleanup.policy"] or retention_ms < 0:
        return None
    return retention_ms


def _output_limits(
    cluster: Cluster, topics: WorkerTopics | JoinTopics, configs: _Configs
) -> RecordLimits:
    """The limits of the topics that a stage writes. Raises LimitTooSmall."""
    topic_bytes = {name: _max_bytes(configs[name]) for name in topics.outputs.values()}
    return limits_of(topic_bytes, cluster.properties)


# What is refused


def _require_topics(
    cluster: Cluster,
    created_with: Mapping[str, Mapping[str, str]],
    *,
    existing: Mapping[str, int],
    count: int,
    unsure_of: str | None = None,
) -> None:
    """Raises TopicsUnfit that names every topic that is missing, and how to create it.

    `unsure_of` is a topic that needs as many partitions as the candidates, whose count is not known
    here.
    """
    missing: list[str] = []
    for name, config in created_with.items():
        if name in existing:
            continue
        words = ["kafka-topics.sh", "--bootstrap-server", cluster.bootstrap, "--create"]
        words += ["--topic", name, "--partitions", str(count)]
        for key, value in config.items():
            words += ["--config", f"{key}={value}"]
        how = "create it"
        if name == unsure_of:
            how = "create it, with as many partitions as the topic of candidates has"
        missing.append(
            f"topic {name!r} is not there{hidden_hint(cluster)}; {how}: {shlex.join(words)}"
        )
    if missing:
        raise TopicsUnfit("\n".join(missing))


def _require_same_count(
    cluster: Cluster,
    source: str,
    *,
    others: Sequence[str],
    partitions: Mapping[str, int],
    reason: str,
) -> None:
    """Raises TopicsUnfit if another topic has another partition count than the source.

    A count can only be raised, so the command raises the smaller one.
    """
    for other in others:
        if partitions[other] == partitions[source]:
            continue
        smaller = source if partitions[source] <= partitions[other] else other
        count = max(partitions[source], partitions[other])
        raise TopicsUnfit(
            f"topic {other!r} has {partitions[other]} partitions, expected {partitions[source]} as"
            f" {source!r}; {reason}. Mend it: kafka-topics.sh --bootstrap-server"
            f" {cluster.bootstrap} --alter --topic {smaller} --partitions {count}"
        )


def _timestamp_faults(config: Mapping[str, str]) -> list[_Fault]:
    key = "message.timestamp.type"
    expected = INTERACTIONS_CONFIG[key]
    if config[key] == expected:
        return []
    return [_Fault(key, got=config[key], expected=expected, value=expected)]


def _size_faults(config: Mapping[str, str], least_bytes: int) -> list[_Fault]:
    key = "max.message.bytes"
    if int(config[key]) >= least_bytes:
        return []
    return [
        _Fault(key, got=config[key], expected=f"at least {least_bytes}", value=str(least_bytes))
    ]


def _cleanup_faults(config: Mapping[str, str], kept_ms: int) -> list[_Fault]:
    """What would lose sums: no compaction of superseded ones, or an early deletion of all."""
    faults: list[_Fault] = []
    policy = config["cleanup.policy"]
    if "compact" not in policy:
        planned = FEED_OUTCOMES_CONFIG["cleanup.policy"]
        faults.append(_Fault("cleanup.policy", got=policy, expected=planned, value=f"[{planned}]"))

    retention_ms = _retention_ms(config)
    if retention_ms is not None and retention_ms < kept_ms:
        faults.append(
            _Fault(
                "retention.ms",
                got=str(retention_ms),
                expected=f"at least {kept_ms} (the longest outcome window and a day) or -1",
                value=FEED_OUTCOMES_CONFIG["retention.ms"],
            )
        )
    return faults


def _require_no_faults(cluster: Cluster, topic: str, faults: Sequence[_Fault]) -> None:
    """Raises TopicsUnfit with all faults of a topic, and the one command that corrects them."""
    if not faults:
        return
    described = [f"{fault.key}: got {fault.got}, expected {fault.expected}" for fault in faults]
    values = ",".join(f"{fault.key}={fault.value}" for fault in faults)
    words = ["kafka-configs.sh", "--bootstrap-server", cluster.bootstrap, "--alter"]
    words += ["--entity-type", "topics", "--entity-name", topic, "--add-config", values]
    raise TopicsUnfit(f"topic {topic!r}: {', and '.join(described)}. Mend it: {shlex.join(words)}")


# What is warned of


def _warn_of_small_letters(configs: _Configs, *, source: str, dead_letters: str, risk: str) -> None:
    largest_letter = _max_bytes(configs[source]) + _LETTER_OVERHEAD
    if _max_bytes(configs[dead_letters]) < largest_letter:
        log.warning(
            "dead_letters_small",
            topic=dead_letters,
            max_message_bytes=_max_bytes(configs[dead_letters]),
            expected=largest_letter,
            risk=risk,
        )
