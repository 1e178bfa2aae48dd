"""What a stage's topics must be like. A refusal names what is wrong, and its command mends it."""

import itertools
import shlex
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]
from structlog.testing import capture_logs

from tests.builders import surface
from tests.rig.process import until
from workers.ranking.outcome_rules import OutcomeRule, OutcomeRules
from workers.ranking.surface import Surfaces
from workers.streaming import preflight as preflight_module
from workers.streaming.clients import Cluster
from workers.streaming.limits import RECORD_OVERHEAD
from workers.streaming.preflight import TopicsUnfit, check_join_topics, check_topics
from workers.streaming.topic_plans import FEED_OUTCOMES_CONFIG
from workers.streaming.topics import (
    JoinTopics,
    TopicPlan,
    WorkerTopics,
    create_topics,
    update_topic_config,
)

BROKER = "broker:9092"
DAY_MS = 24 * 3600 * 1000
HALF_AN_HOUR_S = 1800

WORKER_TOPICS = WorkerTopics("candidates", "feeds", "letters", "interactions")
JOIN_TOPICS = JoinTopics("interactions", "letters", "requests", "sums")

BY_DEFAULT = {
    "message.timestamp.type": "CreateTime",
    "max.message.bytes": "1048588",
    "cleanup.policy": "delete",
    "retention.ms": str(7 * DAY_MS),
}
BROKER_CLOCK = {"message.timestamp.type": "LogAppendTime"}
LARGE = {"max.message.bytes": "2097152"}


def surfaces(window_s: int = HALF_AN_HOUR_S) -> Surfaces:
    """One surface without outcomes, and one with this window."""
    rules = OutcomeRules(window_s=window_s, seen=None, take=OutcomeRule("dwell", 30.0))
    return {
        "plain": surface(name="plain"),
        "home": replace(surface(name="home"), outcomes=rules),
    }


class StandInTopics:
    """The topics of a cluster that is not there: partition counts and configurations."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.configs: dict[str, dict[str, str]] = {}

    def add(self, name: str, partitions: int, **config: str) -> None:
        self.counts[name] = partitions
        self.configs[name] = dict(BY_DEFAULT)
        self.set(name, **config)

    def set(self, name: str, **config: str) -> None:
        """Keys are written with `_` for `.`."""
        for key, value in config.items():
            self.configs[name][key.replace("_", ".")] = value

    def describe_topics(
        self, _bootstrap: str, names: tuple[str, ...], *_: object
    ) -> dict[str, int]:
        return {name: self.counts[name] for name in names if name in self.counts}

    def topic_config(self, _bootstrap: str, name: str, *_: object) -> Mapping[str, str]:
        return self.configs[name]


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> StandInTopics:
    """Topics as `trimtab stack up` creates them, on a cluster that is not there."""
    made = StandInTopics()
    made.add("candidates", 4, message_timestamp_type="LogAppendTime")
    made.add("feeds", 4)
    made.add("letters", 4, max_message_bytes="2097152")
    made.add("interactions", 4, message_timestamp_type="LogAppendTime")
    made.add("requests", 3)
    made.add("sums", 4, cleanup_policy="compact,delete", retention_ms=str(14 * DAY_MS))
    monkeypatch.setattr(preflight_module, "describe_topics", made.describe_topics)
    monkeypatch.setattr(preflight_module, "topic_config", made.topic_config)
    return made


def worker_refusal() -> str:
    with pytest.raises(TopicsUnfit) as refused:
        check_topics(Cluster(BROKER), WORKER_TOPICS)
    return str(refused.value)


def join_refusal(window_s: int = HALF_AN_HOUR_S) -> str:
    with pytest.raises(TopicsUnfit) as refused:
        check_join_topics(Cluster(BROKER), JOIN_TOPICS, surfaces(window_s))
    return str(refused.value)


# The worker


@pytest.mark.usefixtures("topics")
def test_a_worker_with_outcomes_learns_the_limits_of_its_three_output_topics() -> None:
    with capture_logs() as logged:
        facts = check_topics(Cluster(BROKER), WORKER_TOPICS)
    assert facts.partitions == 4
    assert facts.limits.record_bytes == {
        "feeds": 1048588 - RECORD_OVERHEAD,
        "letters": 2097152 - RECORD_OVERHEAD,
        "interactions": 1048588 - RECORD_OVERHEAD,
    }
    assert logged == []


def test_a_worker_without_outcomes_does_not_look_at_interactions(topics: StandInTopics) -> None:
    del topics.counts["interactions"]
    del topics.configs["interactions"]
    without_outcomes = replace(WORKER_TOPICS, interactions=None)
    facts = check_topics(Cluster(BROKER), without_outcomes)
    assert set(facts.limits.record_bytes) == {"feeds", "letters"}


def test_interactions_that_are_missing_are_refused_with_the_command_that_creates_them(
    topics: StandInTopics,
) -> None:
    del topics.counts["interactions"]
    assert worker_refusal() == (
        "topic 'interactions' is not there; create it: kafka-topics.sh --bootstrap-server"
        " broker:9092 --create --topic interactions --partitions 4"
        " --config message.timestamp.type=LogAppendTime"
    )


@pytest.mark.parametrize(("count", "raised"), [(2, "interactions"), (8, "candidates")])
def test_interactions_with_another_partition_count_than_candidates_are_refused(
    topics: StandInTopics, count: int, raised: str
) -> None:
    topics.counts["interactions"] = count
    assert worker_refusal() == (
        f"topic 'interactions' has {count} partitions, expected 4 as 'candidates'; a feed record"
        " goes to its input's partition number. Mend it: kafka-topics.sh --bootstrap-server"
        f" broker:9092 --alter --topic {raised} --partitions {max(count, 4)}"
    )


def test_interactions_with_the_time_of_producers_or_for_smaller_records_than_feeds_are_refused(
    topics: StandInTopics,
) -> None:
    topics.set("interactions", message_timestamp_type="CreateTime", max_message_bytes="1000000")
    assert worker_refusal() == (
        "topic 'interactions': message.timestamp.type: got CreateTime, expected LogAppendTime, and"
        " max.message.bytes: got 1000000, expected at least 1048588. Mend it: kafka-configs.sh"
        " --bootstrap-server broker:9092 --alter --entity-type topics --entity-name interactions"
        " --add-config message.timestamp.type=LogAppendTime,max.message.bytes=1048588"
    )


# The join


@pytest.mark.usefixtures("topics")
def test_a_join_learns_the_limits_and_the_partition_counts() -> None:
    with capture_logs() as logged:
        facts = check_join_topics(Cluster(BROKER), JOIN_TOPICS, surfaces())
    assert (facts.partitions, facts.request_partitions) == (4, 3)
    assert facts.limits.record_bytes == {
        "letters": 2097152 - RECORD_OVERHEAD,
        "requests": 1048588 - RECORD_OVERHEAD,
        "sums": 1048588 - RECORD_OVERHEAD,
    }
    assert logged == []


def test_a_join_names_all_topics_that_are_missing(topics: StandInTopics) -> None:
    topics.counts.clear()
    create = "create it: kafka-topics.sh --bootstrap-server broker:9092 --create"
    assert join_refusal().splitlines() == [
        "topic 'interactions' is not there; create it, with as many partitions as the topic of"
        " candidates has: kafka-topics.sh --bootstrap-server broker:9092 --create"
        " --topic interactions --partitions 4 --config message.timestamp.type=LogAppendTime",
        f"topic 'letters' is not there; {create} --topic letters --partitions 4",
        f"topic 'requests' is not there; {create} --topic requests --partitions 4",
        f"topic 'sums' is not there; {create} --topic sums --partitions 4"
        " --config cleanup.policy=compact,delete --config retention.ms=1209600000"
        " --config segment.bytes=16777216 --config segment.ms=3600000",
    ]


@pytest.mark.parametrize("name", ["letters", "sums"])
def test_outputs_with_another_partition_count_than_interactions_are_refused(
    topics: StandInTopics, name: str
) -> None:
    topics.counts[name] = 3
    assert join_refusal() == (
        f"topic '{name}' has 3 partitions, expected 4 as 'interactions'; dead letters and sums go"
        " to their input's partition number. Mend it: kafka-topics.sh --bootstrap-server"
        f" broker:9092 --alter --topic {name} --partitions 4"
    )


def test_a_join_refuses_interactions_with_the_time_of_producers(topics: StandInTopics) -> None:
    topics.set("interactions", message_timestamp_type="CreateTime")
    refusal = join_refusal()
    assert "got CreateTime, expected LogAppendTime" in refusal
    assert refusal.endswith(
        "--entity-name interactions --add-config message.timestamp.type=LogAppendTime"
    )


@pytest.mark.parametrize("name", ["letters", "requests", "sums"])
def test_a_join_refuses_outputs_that_take_only_small_records(
    topics: StandInTopics, name: str
) -> None:
    topics.set(name, max_message_bytes="65535")
    refusal = join_refusal()
    assert "max.message.bytes: got 65535, expected at least 65536" in refusal
    assert refusal.endswith(f"--entity-name {name} --add-config max.message.bytes=65536")


def test_sums_that_are_not_compacted_are_refused(topics: StandInTopics) -> None:
    topics.set("sums", cleanup_policy="delete")
    refusal = join_refusal()
    assert "cleanup.policy: got delete, expected compact,delete" in refusal
    assert refusal.endswith("--entity-name sums --add-config 'cleanup.policy=[compact,delete]'")


@pytest.mark.parametrize(
    ("policy", "retention_ms", "is_fit"),
    [
        ("compact,delete", 8 * DAY_MS, True),
        ("compact,delete", 8 * DAY_MS - 1, False),
        ("compact,delete", -1, True),
        ("compact", DAY_MS, True),
    ],
)
def test_sums_are_kept_for_longer_than_the_longest_window(
    topics: StandInTopics, policy: str, retention_ms: int, is_fit: bool
) -> None:
    topics.set("interactions", retention_ms="-1")
    topics.set("sums", cleanup_policy=policy, retention_ms=str(retention_ms))
    if is_fit:
        check_join_topics(Cluster(BROKER), JOIN_TOPICS, surfaces(window_s=7 * 24 * 3600))
        return
    refusal = join_refusal(window_s=7 * 24 * 3600)
    assert (
        "retention.ms: got 691199999, expected at least 691200000 (the longest outcome window and"
        " a day) or -1" in refusal
    )
    assert refusal.endswith("--entity-name sums --add-config retention.ms=1209600000")


def test_a_join_warns_if_interactions_are_deleted_before_their_feed_closes(
    topics: StandInTopics,
) -> None:
    topics.set("interactions", retention_ms=str(DAY_MS), max_message_bytes="2097152")
    with capture_logs() as logged:
        check_join_topics(Cluster(BROKER), JOIN_TOPICS, surfaces())
    assert [(line["event"], line["topic"]) for line in logged] == [
        ("retention_short", "interactions"),
        ("dead_letters_small", "letters"),
    ]
    assert logged[0]["expected_ms"] == DAY_MS + HALF_AN_HOUR_S * 1000


# The commands, on a real broker


def mend(cluster: Cluster, message: str) -> None:
    """Do what the commands of a refusal do."""
    for line in message.splitlines():
        words = shlex.split(line[line.index("kafka-") :])
        options: dict[str, list[str]] = {}
        for option, value in itertools.pairwise(words):
            if option.startswith("--") and not value.startswith("--"):
                options.setdefault(option, []).append(value)
        assert options["--bootstrap-server"] == [cluster.bootstrap]
        _run(cluster, words, options)


def _run(cluster: Cluster, words: list[str], options: Mapping[str, list[str]]) -> None:
    if words[0] == "kafka-configs.sh":
        # kafka-configs.sh wants brackets around a value with commas.
        text = options["--add-config"][0].replace("[compact,delete]", "compact+delete")
        config = dict(part.replace("+", ",").split("=") for part in text.split(","))
        update_topic_config(cluster.bootstrap, TopicPlan(options["--entity-name"][0], 1, config))
        return

    name = options["--topic"][0]
    partitions = int(options["--partitions"][0])
    if "--create" in words:
        config = dict(part.split("=") for part in options.get("--config", []))
        create_topics(cluster.bootstrap, [TopicPlan(name, partitions, config)])
    else:
        admin = cluster.admin()
        admin.create_partitions([NewPartitions(name, partitions)])[name].result()


def refusal_of(check: Callable[[], object]) -> str | None:
    """Why the topics are unfit; None if they are not."""
    try:
        check()
    except TopicsUnfit as refused:
        return str(refused)
    return None


def mended(cluster: Cluster, check: Callable[[], object]) -> list[str]:
    """Check and mend until nothing is refused. Return the refusals."""
    refusals: list[str] = []
    while (refusal := refusal_of(check)) is not None:
        refusals.append(refusal)
        mend(cluster, refusal)
        # The broker answers a command a moment before it shows what has changed.
        until(lambda: refusal_of(check) not in refusals, lambda: "the command has not mended it")
    return refusals


def test_the_commands_of_a_workers_refusals_mend_its_topics(kafka: str) -> None:
    cluster = Cluster(kafka)
    name = f"t{uuid.uuid4().hex[:8]}"
    topics = WorkerTopics(f"{name}.c", f"{name}.f", f"{name}.d", f"{name}.i")
    create_topics(
        kafka,
        [
            TopicPlan(topics.candidates, 3, BROKER_CLOCK),
            TopicPlan(topics.feeds, 3),
            TopicPlan(f"{name}.i", 2, {"max.message.bytes": "500000"}),
        ],
    )
    refusals = mended(cluster, lambda: check_topics(cluster, topics))
    assert len(refusals) == 3


def test_the_commands_of_a_joins_refusals_mend_its_topics(kafka: str) -> None:
    cluster = Cluster(kafka)
    name = f"t{uuid.uuid4().hex[:8]}"
    topics = JoinTopics(f"{name}.i", f"{name}.d", f"{name}.r", f"{name}.s")
    day = {"retention.ms": str(DAY_MS)}
    create_topics(
        kafka,
        [TopicPlan(topics.interactions, 2, LARGE), TopicPlan(topics.feed_outcomes, 1, LARGE | day)],
    )
    refusals = mended(cluster, lambda: check_join_topics(cluster, topics, surfaces()))
    assert len(refusals) == 4
    assert len(refusals[0].splitlines()) == 2, "two topics were missing"


def test_the_topics_of_the_local_stack_fit_the_join(kafka: str) -> None:
    topics = JoinTopics(
        "interactions", "interactions.dead-letters", "request-outcomes", "feed-outcomes"
    )
    with capture_logs() as logged:
        facts = check_join_topics(Cluster(kafka), topics, surfaces())
    assert (facts.partitions, facts.request_partitions) == (4, 4)
    assert logged == []


def test_the_planned_retention_of_sums_is_long_enough_for_any_window() -> None:
    assert int(FEED_OUTCOMES_CONFIG["retention.ms"]) >= 7 * DAY_MS + DAY_MS
