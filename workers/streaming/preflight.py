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

A stage that starts ends at the first finding that stops it. `trimtab doctor` and `trimtab topics
check` show all findings.
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from workers.errors import Failure
from workers.log import log
from workers.ranking.surface import Surfaces
from workers.streaming.clients import Cluster
from workers.streaming.limits import LimitTooSmall, RecordLimits, limits_of
from workers.streaming.rights import Right, hidden_hint, require_rights
from workers.streaming.topic_plans import (
    DEFAULT_PARTITIONS,
    FEED_OUTCOMES_CONFIG,
    INTERACTIONS_CONFIG,
    LETTER_OVERHEAD,
    USER_CHANGELOG_CONFIG,
)
from workers.streaming.topics import (
    BrokerUnreachable,
    JoinTopics,
    UsersTopics,
    WorkerTopics,
    describe_topics,
    topic_config,
)

_LEAST_OUTCOME_BYTES = 65_536
"""A record of sums has 5 to 10 kB, that of a large feed more."""
_DAY_MS = 24 * 3600 * 1000
_WAIT_SECONDS = 5.0

_Configs = Mapping[str, Mapping[str, str]]


class TopicsUnfit(Failure):
    """The topics are not as the guarantees need them. The message says how to mend it."""


class Finding(NamedTuple):
    """What is not as it should be. `text` names the topic, what it is, what was expected, and what
    mends it.

    A finding without `event` stops the stage. Otherwise a guarantee is only weaker: `event` and
    `fields` are the log line.
    """

    text: str
    event: str = ""
    fields: Mapping[str, object] = {}

    @property
    def stops(self) -> bool:
        """Whether the stage does not start."""
        return not self.event


class SeenTopics(NamedTuple):
    """What is known of the topics that exist: partition counts and configurations."""

    partitions: Mapping[str, int]
    configs: Mapping[str, Mapping[str, str]]


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


def worker_topics(topics: WorkerTopics) -> Mapping[str, Mapping[str, str]]:
    """The topics of a worker, and with which configuration a missing one is created."""
    created_with: dict[str, Mapping[str, str]] = {
        topics.candidates: {},
        topics.feeds: {},
        topics.dead_letters: {},
    }
    if topics.interactions is not None:
        created_with[topics.interactions] = INTERACTIONS_CONFIG
    return created_with


def check_topics(
    cluster: Cluster, topics: WorkerTopics, needed: Sequence[Right] = ()
) -> TopicFacts:
    """Wait for the broker, then check the needed rights and the topics. Return what they are like.

    Raises RightMissing, TopicsUnfit and LimitTooSmall. Warns if a guarantee is weaker than it could
    be.
    """
    partitions = _wait_for_partitions(cluster, tuple(worker_topics(topics)))
    # Rights first: a topic that may not be described is missing from `partitions`.
    require_rights(cluster, needed)

    _require(missing_worker_topics(cluster, topics, partitions))
    seen = read_topics(cluster, partitions)
    _require_one_by_one(worker_findings(cluster, topics, seen))
    return TopicFacts(
        limits=_output_limits(cluster, topics, seen.configs),
        partitions=partitions[topics.candidates],
    )


def missing_worker_topics(
    cluster: Cluster, topics: WorkerTopics, partitions: Mapping[str, int]
) -> list[Finding]:
    """A finding for each topic that is not among `partitions`."""
    count = max(partitions.values(), default=DEFAULT_PARTITIONS)
    return _missing_topics(cluster, worker_topics(topics), existing=partitions, count=count)


def worker_findings(cluster: Cluster, topics: WorkerTopics, seen: SeenTopics) -> Iterator[Finding]:
    """What is not as it should be, of the topics that exist."""
    candidates = topics.candidates
    interactions = topics.interactions
    configs = seen.configs
    yield from _other_counts(
        cluster,
        candidates,
        others=(topics.feeds, topics.dead_letters),
        partitions=seen.partitions,
        reason="a feed goes to its input's partition number",
    )
    if interactions is not None and interactions in configs:
        yield from _other_counts(
            cluster,
            candidates,
            others=(interactions,),
            partitions=seen.partitions,
            reason="a feed record goes to its input's partition number",
        )
        faults = _timestamp_faults(configs[interactions])
        if topics.feeds in configs:
            faults += _size_faults(configs[interactions], _max_bytes(configs[topics.feeds]))
        yield from _faulty_config(cluster, interactions, faults)

    if candidates in configs:
        yield from _times_of_producers(cluster, candidates, configs[candidates])
    yield from _small_letters(
        cluster,
        configs,
        source=candidates,
        dead_letters=topics.dead_letters,
        risk="the largest events would be cut in their dead letters",
    )


def _times_of_producers(
    cluster: Cluster, topic: str, config: Mapping[str, str]
) -> Iterator[Finding]:
    key = "message.timestamp.type"
    if config[key] == "LogAppendTime":
        return
    risk = "a producer with a fast clock closes other requests early"
    yield Finding(
        f"topic {topic!r}: {key}: got {config[key]}, expected LogAppendTime; {risk}. Mend it:"
        f" {configure_command(cluster, topic, f'{key}=LogAppendTime')}",
        event="timestamps_by_producers",
        fields={"topic": topic, "got": config[key], "expected": "LogAppendTime", "risk": risk},
    )


# The join of outcomes


def join_topics(topics: JoinTopics) -> Mapping[str, Mapping[str, str]]:
    """The topics of the join, and with which configuration a missing one is created."""
    return {
        topics.interactions: INTERACTIONS_CONFIG,
        topics.dead_letters: {},
        topics.request_outcomes: {},
        topics.feed_outcomes: FEED_OUTCOMES_CONFIG,
    }


def check_join_topics(
    cluster: Cluster, topics: JoinTopics, surfaces: Surfaces, needed: Sequence[Right] = ()
) -> JoinTopicFacts:
    """Wait for the broker, then check the needed rights and the topics. Return what they are like.

    Raises RightMissing, TopicsUnfit and LimitTooSmall. Warns if a guarantee is weaker than it could
    be.
    """
    partitions = _wait_for_partitions(cluster, tuple(join_topics(topics)))
    require_rights(cluster, needed)

    _require(missing_join_topics(cluster, topics, partitions))
    seen = read_topics(cluster, partitions)
    _require_one_by_one(join_findings(cluster, topics, surfaces, seen))
    return JoinTopicFacts(
        limits=_output_limits(cluster, topics, seen.configs),
        partitions=partitions[topics.interactions],
        request_partitions=partitions[topics.request_outcomes],
    )


def missing_join_topics(
    cluster: Cluster, topics: JoinTopics, partitions: Mapping[str, int]
) -> list[Finding]:
    """A finding for each topic that is not among `partitions`."""
    followers = (topics.dead_letters, topics.feed_outcomes)
    known_counts = [partitions[name] for name in followers if name in partitions]
    count = partitions.get(topics.interactions, max(known_counts, default=DEFAULT_PARTITIONS))
    return _missing_topics(
        cluster,
        join_topics(topics),
        existing=partitions,
        count=count,
        unsure_of=topics.interactions,
    )


def join_findings(
    cluster: Cluster, topics: JoinTopics, surfaces: Surfaces, seen: SeenTopics
) -> Iterator[Finding]:
    """What is not as it should be, of the topics that exist."""
    interactions = topics.interactions
    configs = seen.configs
    yield from _other_counts(
        cluster,
        interactions,
        others=(topics.dead_letters, topics.feed_outcomes),
        partitions=seen.partitions,
        reason="dead letters and sums go to their input's partition number",
    )

    kept_ms = longest_window_ms(surfaces) + _DAY_MS
    if interactions in configs:
        faults = _timestamp_faults(configs[interactions])
        yield from _faulty_config(cluster, interactions, faults)
    for name in topics.outputs.values():
        if name not in configs:
            continue
        faults = _size_faults(configs[name], _LEAST_OUTCOME_BYTES)
        if name == topics.feed_outcomes:
            faults += _cleanup_faults(configs[name], kept_ms)
        yield from _faulty_config(cluster, name, faults)

    if interactions in configs:
        yield from _short_retention(cluster, interactions, configs[interactions], kept_ms)
    yield from _small_letters(
        cluster,
        configs,
        source=interactions,
        dead_letters=topics.dead_letters,
        risk="the largest interactions would be cut in their dead letters",
    )


def longest_window_ms(surfaces: Surfaces) -> int:
    """The longest outcome window of all surfaces, in milliseconds; 0 if there is none."""
    longest_s = 0
    for surface in surfaces.values():
        if surface.outcomes is not None:
            longest_s = max(longest_s, surface.outcomes.window_s)
    return longest_s * 1000


def _short_retention(
    cluster: Cluster, topic: str, config: Mapping[str, str], kept_ms: int
) -> Iterator[Finding]:
    retention_ms = retention_of(config)
    if retention_ms is None or retention_ms >= kept_ms:
        return
    risk = "open feeds could be gone at a restart, and their partition would then stop"
    yield Finding(
        f"topic {topic!r}: retention.ms: got {retention_ms}, expected at least {kept_ms} (the"
        f" longest outcome window and a day); {risk}. Mend it:"
        f" {configure_command(cluster, topic, f'retention.ms={kept_ms}')}",
        event="retention_short",
        fields={
            "topic": topic,
            "retention_ms": retention_ms,
            "expected_ms": kept_ms,
            "risk": risk,
        },
    )


# The users stage


def users_topics(topics: UsersTopics) -> Mapping[str, Mapping[str, str]]:
    """The topics of the users stage, and with which configuration a missing one is created."""
    return {
        topics.request_outcomes: {},
        topics.user_outcomes: FEED_OUTCOMES_CONFIG,
        topics.changelog: USER_CHANGELOG_CONFIG,
    }


def check_users_topics(cluster: Cluster, topics: UsersTopics, needed: Sequence[Right] = ()) -> int:
    """Wait for the broker, then check the needed rights and the topics. Return the partition count.

    Raises RightMissing and TopicsUnfit.
    """
    partitions = _wait_for_partitions(cluster, tuple(users_topics(topics)))
    require_rights(cluster, needed)

    _require(missing_users_topics(cluster, topics, partitions))
    seen = read_topics(cluster, partitions)
    _require_one_by_one(users_findings(cluster, topics, seen))
    return partitions[topics.request_outcomes]


def missing_users_topics(
    cluster: Cluster, topics: UsersTopics, partitions: Mapping[str, int]
) -> list[Finding]:
    """A finding for each topic that is not among `partitions`."""
    count = partitions.get(topics.request_outcomes, DEFAULT_PARTITIONS)
    return _missing_topics(cluster, users_topics(topics), existing=partitions, count=count)


def users_findings(cluster: Cluster, topics: UsersTopics, seen: SeenTopics) -> Iterator[Finding]:
    """What is not as it should be, of the topics that exist."""
    requests = topics.request_outcomes
    for name in (topics.user_outcomes, topics.changelog):
        if requests in seen.partitions and name in seen.partitions:
            yield from _other_count_of_requests(cluster, requests, name, seen.partitions)

    configs = seen.configs
    if topics.user_outcomes in configs:
        sums_faults = _cleanup_faults(configs[topics.user_outcomes], _DAY_MS)
        yield from _faulty_config(cluster, topics.user_outcomes, sums_faults)

    if topics.changelog in configs:
        policy = configs[topics.changelog]["cleanup.policy"]
        expected = USER_CHANGELOG_CONFIG["cleanup.policy"]
        if policy != expected:
            fault = _Fault("cleanup.policy", got=policy, expected=expected, value=expected)
            yield from _faulty_config(cluster, topics.changelog, [fault])


def _other_count_of_requests(
    cluster: Cluster, requests: str, name: str, partitions: Mapping[str, int]
) -> Iterator[Finding]:
    """A topic with another partition count than request-outcomes, whose own must never change."""
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
    yield Finding(
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


def read_topics(cluster: Cluster, partitions: Mapping[str, int]) -> SeenTopics:
    """The topics with these partition counts. Raises TopicError and BrokerUnreachable."""
    configs: dict[str, Mapping[str, str]] = {}
    for name in partitions:
        configs[name] = topic_config(cluster.bootstrap, name, cluster.properties)
    return SeenTopics(partitions, configs)


def _max_bytes(config: Mapping[str, str]) -> int:
    return int(config["max.message.bytes"])


def retention_of(config: Mapping[str, str]) -> int | None:
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


# What is found


def limit_findings(
    cluster: Cluster, topics: WorkerTopics | JoinTopics, seen: SeenTopics
) -> list[Finding]:
    """What a stage writes that would not fit into its topics, if they are all there."""
    if not set(topics.outputs.values()) <= seen.configs.keys():
        return []
    try:
        _output_limits(cluster, topics, seen.configs)
    except LimitTooSmall as error:
        return [Finding(str(error))]
    return []


def _require(findings: Sequence[Finding]) -> None:
    """Raises TopicsUnfit with all findings, one a line."""
    if findings:
        raise TopicsUnfit("\n".join(finding.text for finding in findings))


def _require_one_by_one(findings: Iterable[Finding]) -> None:
    """Raises TopicsUnfit with the first finding that stops the stage. Logs those before it."""
    for finding in findings:
        if finding.stops:
            raise TopicsUnfit(finding.text)
        log.warning(finding.event, **finding.fields)


def _missing_topics(
    cluster: Cluster,
    created_with: Mapping[str, Mapping[str, str]],
    *,
    existing: Mapping[str, int],
    count: int,
    unsure_of: str | None = None,
) -> list[Finding]:
    """A finding for each topic that is missing, with how to create it.

    `unsure_of` is a topic that needs as many partitions as the candidates, whose count is not known
    here.
    """
    missing: list[Finding] = []
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
            Finding(
                f"topic {name!r} is not there{hidden_hint(cluster)}; {how}: {shlex.join(words)}"
            )
        )
    return missing


def _other_counts(
    cluster: Cluster,
    source: str,
    *,
    others: Sequence[str],
    partitions: Mapping[str, int],
    reason: str,
) -> Iterator[Finding]:
    """The other topics with another partition count than the source.

    A count can only be raised, so the command raises the smaller one.
    """
    if source not in partitions:
        return
    for other in others:
        if partitions.get(other, partitions[source]) == partitions[source]:
            continue
        smaller = source if partitions[source] <= partitions[other] else other
        count = max(partitions[source], partitions[other])
        yield Finding(
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

    retention_ms = retention_of(config)
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


def _faulty_config(cluster: Cluster, topic: str, faults: Sequence[_Fault]) -> Iterator[Finding]:
    """All faults of a topic, and the one command that corrects them."""
    if not faults:
        return
    described = [f"{fault.key}: got {fault.got}, expected {fault.expected}" for fault in faults]
    values = ",".join(f"{fault.key}={fault.value}" for fault in faults)
    yield Finding(
        f"topic {topic!r}: {', and '.join(described)}. Mend it:"
        f" {configure_command(cluster, topic, values)}"
    )


def configure_command(cluster: Cluster, topic: str, values: str) -> str:
    """The command that sets values of a topic's configuration."""
    words = ["kafka-configs.sh", "--bootstrap-server", cluster.bootstrap, "--alter"]
    words += ["--entity-type", "topics", "--entity-name", topic, "--add-config", values]
    return shlex.join(words)


def _small_letters(
    cluster: Cluster, configs: _Configs, *, source: str, dead_letters: str, risk: str
) -> Iterator[Finding]:
    if source not in configs or dead_letters not in configs:
        return
    got = _max_bytes(configs[dead_letters])
    expected = _max_bytes(configs[source]) + LETTER_OVERHEAD
    if got >= expected:
        return
    yield Finding(
        f"topic {dead_letters!r}: max.message.bytes: got {got}, expected at least {expected};"
        f" {risk}. Mend it: {configure_command(cluster, dead_letters, f'max.message.bytes={expected}')}",
        event="dead_letters_small",
        fields={
            "topic": dead_letters,
            "max_message_bytes": got,
            "expected": expected,
            "risk": risk,
        },
    )
