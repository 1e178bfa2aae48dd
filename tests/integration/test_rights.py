"""Rights on a Kafka whose authorizer is on: those that deploy/ lists are enough, and one that is
missing is named.
"""

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from tests.builders import HOME
from tests.docs.documents import ROOT
from tests.integration.guarded import GuardedKafka, granted_by_script
from tests.rig.environment import Environment
from tests.rig.fixtures import write_test_files
from tests.rig.process import until
from tests.rig.traffic import make_request
from workers.streaming.clients import Cluster
from workers.streaming.log_reader import TopicMissing, TopicReader
from workers.streaming.members import MembersUnknown, read_members
from workers.streaming.offsets import resume_from_earliest
from workers.streaming.preflight import check_join_topics, check_topics
from workers.streaming.ranking_restore import Restored, ranking_restorer
from workers.streaming.reachability import BrokerReachability, Denials
from workers.streaming.recent_records import Recent
from workers.streaming.restore import CannotRestore, OffsetsLost
from workers.streaming.rights import (
    Resource,
    Right,
    RightMissing,
    join_rights,
    require_rights,
    worker_rights,
)
from workers.streaming.send import Sender, SendFailed
from workers.streaming.topic_plans import FEED_OUTCOMES_CONFIG, INTERACTIONS_CONFIG
from workers.streaming.topics import JoinTopics, TopicPlan, WorkerTopics, create_topics

LISTED = (
    (ROOT / "deploy" / "README.md").read_text().split("## Rights on Kafka")[1].split("\n## ")[0]
)
GROUP = "trimtab"
SURFACE_WEIGHTS = ("quality=0.2", "engagement=0.8")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[GuardedKafka]:
    broker = GuardedKafka(tmp_path_factory.mktemp("guarded"), cache, ["worker", "tool"])
    yield broker
    broker.end()


@pytest.fixture
def env(guarded: GuardedKafka, redis_url: str, tmp_path: Path) -> Iterator[Environment]:
    """Topics on the guarded Kafka. Commands log in as `worker` unless a test changes that."""
    write_test_files(tmp_path, deadline_ms=2000)
    made = Environment(guarded.open, redis_url, tmp_path, partitions=2)
    made.create_topics()
    made.variables["TRIMTAB_KAFKA"] = guarded.guarded
    made.variables["TRIMTAB_KAFKA_CONFIG"] = str(tmp_path / "kafka.properties")
    log_in(made, guarded, "worker")
    for user in ("worker", "tool"):
        guarded.allow(user, [])
    yield made
    made.end()


def log_in(env: Environment, guarded: GuardedKafka, user: str) -> None:
    quick = {"session.timeout.ms": "2000", "heartbeat.interval.ms": "500"}
    properties = quick | guarded.properties(user)
    lines = [f"{key}={value}\n" for key, value in properties.items()]
    (env.folder / "kafka.properties").write_text("".join(lines))


def listed_rights(env: Environment, command: str) -> list[Right]:
    """What the table of deploy/README.md says that a command needs, on the topics and group of this
    env.
    """
    rights = []
    commands = ""
    for row in re.findall(r"^\|(.*)\|$", LISTED, re.MULTILINE):
        first, operations, place = (cell.strip() for cell in row.split("|"))
        commands = first or commands
        if f"`{command}`" in commands:
            resource, _, name = place.rpartition(" ")
            rights += [
                right_on(env, operation, resource, name.strip("`"))
                for operation in operations.split(", ")
            ]
    assert rights, command
    return rights


def join_topics(env: Environment) -> JoinTopics:
    """Topics of outcomes of this env. They are not created with it."""
    return JoinTopics(
        interactions=f"{env.name}.interactions",
        dead_letters=f"{env.name}.interactions.dead-letters",
        request_outcomes=f"{env.name}.request-outcomes",
        feed_outcomes=f"{env.name}.feed-outcomes",
    )


def create_join_topics(env: Environment) -> JoinTopics:
    topics = join_topics(env)
    plans = [
        TopicPlan(topics.interactions, env.partitions, INTERACTIONS_CONFIG),
        TopicPlan(topics.dead_letters, env.partitions),
        TopicPlan(topics.request_outcomes, 1),
        TopicPlan(topics.feed_outcomes, env.partitions, FEED_OUTCOMES_CONFIG),
    ]
    create_topics(env.kafka, plans)
    return topics


def right_on(env: Environment, operation: str, resource: str, name: str) -> Right:
    outcomes = join_topics(env)
    names = {
        "candidates": env.candidates,
        "ranked-feeds": env.feeds,
        "candidates.dead-letters": env.letters,
        "interactions": outcomes.interactions,
        "interactions.dead-letters": outcomes.dead_letters,
        "request-outcomes": outcomes.request_outcomes,
        "feed-outcomes": outcomes.feed_outcomes,
        "user-outcomes": f"{env.name}.user-outcomes",
        "user-outcomes.changelog": f"{env.name}.user-outcomes.changelog",
        f"{GROUP}-users": f"{env.name}-users",
        GROUP: env.name,
        f"{GROUP}-outcomes": f"{env.name}-outcomes",
    }
    if resource.startswith("transactional"):
        prefix = name.replace(GROUP, env.name)
        return Right(operation, Resource.TRANSACTIONAL_ID, prefix, prefix=prefix)
    return Right(operation, Resource[resource.upper()], names[name])


def without(rights: Sequence[Right], operation: str, name: str) -> list[Right]:
    """The rights but one; Describe of the same resource stays, if it is granted by itself."""
    left = [right for right in rights if (right.operation, right.name) != (operation, name)]
    assert len(left) == len(rights) - 1
    return left


def needed(env: Environment) -> tuple[Right, ...]:
    return worker_rights(
        candidates=env.candidates,
        feeds=env.feeds,
        dead_letters=env.letters,
        group=env.name,
        transactional_id=f"{env.name}-host-0",
    )


def test_the_script_grants_what_the_table_lists(env: Environment, tmp_path: Path) -> None:
    names = {
        "TRIMTAB_TOPIC_CANDIDATES": env.candidates,
        "TRIMTAB_TOPIC_FEEDS": env.feeds,
        "TRIMTAB_TOPIC_DEAD_LETTERS": env.letters,
        "TRIMTAB_TOPIC_INTERACTIONS": join_topics(env).interactions,
        "TRIMTAB_TOPIC_INTERACTION_LETTERS": join_topics(env).dead_letters,
        "TRIMTAB_TOPIC_REQUEST_OUTCOMES": join_topics(env).request_outcomes,
        "TRIMTAB_TOPIC_FEED_OUTCOMES": join_topics(env).feed_outcomes,
        "TRIMTAB_GROUP": env.name,
        "TRIMTAB_TOPIC_USER_OUTCOMES": f"{env.name}.user-outcomes",
        "TRIMTAB_TOPIC_USER_CHANGELOG": f"{env.name}.user-outcomes.changelog",
        "TRIMTAB_OUTCOMES_GROUP": f"{env.name}-outcomes",
        "TRIMTAB_USERS_GROUP": f"{env.name}-users",
    }
    access = ["--bootstrap-server", "kafka:9092", "--command-config", "admin.properties"]
    granted = granted_by_script(tmp_path, names, access)
    tools = (
        "feeds tail",
        "weights preview",
        "dead-letters list",
        "offsets resume",
        "offsets skip",
        "outcomes counts",
        "outcomes report",
        "outcomes tail",
        "experiment show",
        "experiment promote",
        "experiment plan",
    )
    assert granted["User:trimtab-worker"] == set(listed_rights(env, "worker"))
    assert granted["User:trimtab-outcomes"] == set(listed_rights(env, "outcomes join"))
    assert granted["User:trimtab-users"] == set(listed_rights(env, "outcomes users"))
    assert granted["User:interaction-producer"] == {
        Right(operation, Resource.TOPIC, join_topics(env).interactions)
        for operation in ("Describe", "Write")
    }
    assert granted["User:producer"] == set(listed_rights(env, "produce"))
    assert granted["User:trimtab-ops"] == {
        right for tool in tools for right in listed_rights(env, tool)
    }


def test_each_right_that_a_worker_lacks_is_named_with_the_line_that_grants_it(
    env: Environment, guarded: GuardedKafka
) -> None:
    rights = listed_rights(env, "worker")
    cluster = guarded.cluster("worker")
    every = needed(env)

    def check() -> None:
        check_topics(cluster, WorkerTopics(env.candidates, env.feeds, env.letters), every)

    guarded.allow("worker", rights)
    check()
    for right in every:
        if right.operation == "Describe" or right.resource is not Resource.TOPIC:
            continue
        guarded.allow("worker", without(rights, right.operation, right.name))
        with pytest.raises(RightMissing) as refused:
            check()
        assert refused.value.missing == (right,)
        grant = f"--add --allow-principal User:worker --operation {right.operation}"
        assert str(refused.value) == (
            f"missing on the broker's authorizer: {right}; grant it: kafka-acls.sh --bootstrap-server "
            f"{guarded.guarded} {grant} --{right.resource.value} {right.name}"
        )
    guarded.allow("worker", [right for right in rights if right.name != env.feeds])
    with pytest.raises(
        RightMissing, match=f"Describe on topic '{env.feeds}', DescribeConfigs on topic"
    ):
        check()


def test_a_worker_needs_rights_on_interactions_only_if_a_surface_has_outcomes(
    env: Environment, guarded: GuardedKafka
) -> None:
    topics = WorkerTopics(env.candidates, env.feeds, env.letters)
    cluster = guarded.cluster("worker")
    interactions = create_join_topics(env).interactions
    with_outcomes = replace(topics, interactions=interactions)
    rights = listed_rights(env, "worker")
    every = worker_rights(
        candidates=env.candidates,
        feeds=env.feeds,
        dead_letters=env.letters,
        group=env.name,
        transactional_id=f"{env.name}-host-0",
        interactions=interactions,
    )
    assert {right for right in every if right.name == interactions} <= set(rights)

    guarded.allow("worker", rights)
    assert interactions in check_topics(cluster, with_outcomes, every).limits.record_bytes

    guarded.allow("worker", without(rights, "Write", interactions))
    check_topics(cluster, topics, needed(env))
    with pytest.raises(RightMissing) as refused:
        check_topics(cluster, with_outcomes, every)
    assert refused.value.missing == (Right("Write", Resource.TOPIC, interactions),)


def test_each_right_that_a_join_lacks_is_named(env: Environment, guarded: GuardedKafka) -> None:
    topics = create_join_topics(env)
    cluster = guarded.cluster("worker")
    group = f"{env.name}-outcomes"
    rights = listed_rights(env, "outcomes join")
    every = join_rights(
        interactions=topics.interactions,
        dead_letters=topics.dead_letters,
        request_outcomes=topics.request_outcomes,
        feed_outcomes=topics.feed_outcomes,
        group=group,
        transactional_id=f"{group}-host-0",
    )

    guarded.allow("worker", rights)
    facts = check_join_topics(cluster, topics, {"home": HOME}, every)
    assert (facts.partitions, facts.request_partitions) == (env.partitions, 1)
    for right in every:
        if right.operation == "Describe" or right.resource is not Resource.TOPIC:
            continue
        guarded.allow("worker", without(rights, right.operation, right.name))
        with pytest.raises(RightMissing) as refused:
            check_join_topics(cluster, topics, {"home": HOME}, every)
        assert refused.value.missing == (right,)


def test_a_topic_that_is_really_not_there_is_told_from_one_that_may_not_be_described(
    env: Environment, guarded: GuardedKafka
) -> None:
    nowhere = f"{env.name}.nowhere"
    guarded.allow("tool", [Right("Describe", Resource.TOPIC, nowhere)])
    with pytest.raises(
        TopicMissing,
        match="is not there, or this user may not Describe it, expected it to be created",
    ):
        TopicReader(guarded.cluster("tool"), nowhere, from_beginning=True)
    with pytest.raises(RightMissing, match=f"Describe on topic '{env.feeds}'"):
        TopicReader(guarded.cluster("tool"), env.feeds, from_beginning=True)
    with pytest.raises(TopicMissing, match="is not there, expected it to be created"):
        TopicReader(Cluster(guarded.open), nowhere, from_beginning=True)


def test_a_worker_without_a_right_ends_with_one_and_names_it(
    env: Environment, guarded: GuardedKafka
) -> None:
    rights = listed_rights(env, "worker")
    guarded.allow("worker", without(rights, "Read", env.feeds))
    refused = env.trimtab("worker")
    assert refused.returncode == 1
    assert (
        f"missing on the broker's authorizer: Read on topic '{env.feeds}'; grant it: kafka-acls.sh"
        in refused.stderr
    )
    hints = {
        Resource.TRANSACTIONAL_ID: f"--transactional-id {env.name}- --resource-pattern-type prefixed",
        Resource.GROUP: f"--operation Read --group {env.name}",
    }
    for resource, hint in hints.items():
        guarded.allow("worker", [right for right in rights if right.resource is not resource])
        refused = env.trimtab("worker")
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr
        assert "Error: missing on the broker's authorizer: " in refused.stderr
        assert hint in refused.stderr


def test_a_users_stage_without_the_right_on_its_group_ends_with_one_and_names_it(
    env: Environment, guarded: GuardedKafka
) -> None:
    env.create_user_topics()
    rights = listed_rights(env, "outcomes users")
    guarded.allow("worker", [right for right in rights if right.resource is not Resource.GROUP])
    refused = env.trimtab("outcomes", "users")
    assert refused.returncode == 1
    assert (
        f"missing on the broker's authorizer: Read on group '{env.users_group}'" in refused.stderr
    )
    assert f"--operation Read --group {env.users_group}" in refused.stderr


def test_a_worker_says_once_what_is_taken_away_and_goes_on_when_it_is_back(
    env: Environment, guarded: GuardedKafka
) -> None:
    rights = listed_rights(env, "worker")
    guarded.allow("worker", rights)
    worker = env.start_worker()
    worker.wait_for("event=restored", times=2)
    taken: list[list[Right]] = [
        [right for right in rights if (right.operation, right.name) == ("Write", env.feeds)],
        [right for right in rights if (right.operation, right.name) == ("Read", env.candidates)],
        [right for right in rights if right.resource is Resource.GROUP],
        [right for right in rights if right.resource is Resource.TRANSACTIONAL_ID],
    ]
    for turn, gone in enumerate(taken):
        guarded.allow("worker", [right for right in rights if right not in gone])
        env.send(make_request(f"r{turn}", 3, random.Random(turn)))
        sender = env.sender()
        sender.send(b"bad", b"bad", [])
        sender.finish()
        worker.wait_for("event=right_missing", times=turn + 1)
        last = [line for line in worker.logged().splitlines() if "event=right_missing" in line][-1]
        lost = gone[-1]
        assert f"{lost.operation} on {lost.resource.value.replace('-', ' ')} '{lost.name}" in last
        assert "kafka-acls.sh" in last
        guarded.allow("worker", rights)
        assert len(env.read_feeds(turn + 1, settle=0.1)) == turn + 1
        assert len(env.read_letters(turn + 1, settle=0.1)) == turn + 1
        worker.wait_for("event=right_back", times=turn + 1)
    assert worker.terminate() == 0, worker.logged()
    assert worker.logged().count("event=right_missing") == len(taken)


def test_a_restore_that_may_not_read_the_feeds_says_so(
    env: Environment, guarded: GuardedKafka, capsys: pytest.CaptureFixture[str]
) -> None:
    rights = listed_rights(env, "worker")
    cluster = guarded.cluster("worker")
    topics = WorkerTopics(env.candidates, env.feeds, env.letters)
    restorer = ranking_restorer(
        cluster,
        env.name,
        topics,
        {"home": HOME},
        "",
        BrokerReachability(Denials(cluster, needed(env))),
    )
    producer = env.cluster.producer()
    producer.produce(env.feeds, b"a feed", b"r", 0)
    producer.flush()
    logged = ""

    def has_logged(text: str) -> bool:
        nonlocal logged
        restored.extend(restorer.advance())
        logged += capsys.readouterr().out
        return text in logged

    restored: list[Restored | OffsetsLost | CannotRestore] = []
    guarded.allow("worker", without(rights, "Read", env.feeds))
    restorer.begin([0])
    until(lambda: has_logged("right_missing"), lambda: logged)
    assert f"Read on topic '{env.feeds}'" in logged
    assert "on group" not in logged
    assert restored == []
    restorer.close()


def test_a_denial_is_logged_once_and_again_only_after_the_right_was_back(
    env: Environment, guarded: GuardedKafka, capsys: pytest.CaptureFixture[str]
) -> None:
    rights = listed_rights(env, "worker")
    reach = BrokerReachability(Denials(guarded.cluster("worker"), needed(env)))
    denied = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    now = 0.0

    def look_until(text: str, times: int) -> None:
        nonlocal now
        logged = ""

        def seen() -> bool:
            nonlocal now, logged
            now += 1.0
            reach.look(now)
            logged += capsys.readouterr().out
            return logged.count(text) == times

        until(seen, lambda: logged)

    guarded.allow("worker", without(rights, "Write", env.letters))
    for _ in range(50):
        reach.error(denied)
    logged = capsys.readouterr().out
    assert logged.count("right_missing") == 1
    assert f"Write on topic '{env.letters}'" in logged
    guarded.allow("worker", rights)
    look_until("right_back", 1)
    guarded.allow("worker", without(rights, "Read", env.candidates))
    reach.error(denied)
    assert f"Read on topic '{env.candidates}'" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    ["feeds tail", "dead-letters list", "weights preview", "outcomes counts", "outcomes tail"],
)
def test_a_tool_that_reads_needs_the_listed_rights_and_names_what_it_lacks(
    env: Environment, guarded: GuardedKafka, command: str
) -> None:
    outcomes = create_join_topics(env)
    topics = {
        "dead-letters list": env.letters,
        "outcomes counts": outcomes.feed_outcomes,
        "outcomes tail": outcomes.request_outcomes,
    }
    topic = topics.get(command, env.feeds)
    rights = listed_rights(env, command)
    cluster = guarded.cluster("tool")

    def read() -> None:
        if command == "weights preview":
            Recent(cluster, topic).last(10)
        else:
            reader = TopicReader(cluster, topic, from_beginning=True)
            try:
                list(reader.records(follow=False))
            finally:
                reader.close()

    sender = Sender.to(env.cluster, topic)
    sender.send(b"k", b"v", [])
    sender.finish()
    guarded.allow("tool", rights)
    read()
    guarded.allow("tool", without(rights, "Read", topic))
    with pytest.raises(RightMissing) as refused:
        read()
    assert refused.value.missing == (Right("Read", Resource.TOPIC, topic),)
    guarded.allow("tool", [])
    with pytest.raises(RightMissing, match=f"Describe on topic '{topic}', Read on topic"):
        read()


def test_the_tools_end_with_one_and_the_right(
    env: Environment, guarded: GuardedKafka, tmp_path: Path
) -> None:
    log_in(env, guarded, "tool")
    outcomes = create_join_topics(env)
    env.variables["TRIMTAB_TOPIC_FEED_OUTCOMES"] = outcomes.feed_outcomes
    described = (env.feeds, env.letters, outcomes.feed_outcomes)
    guarded.allow("tool", [Right("Describe", Resource.TOPIC, topic) for topic in described])
    # Without a record, nothing would be read.
    for topic in (env.letters, outcomes.feed_outcomes):
        sender = Sender.to(env.cluster, topic)
        sender.send(b"k", b"v", [])
        sender.finish()
    events = tmp_path / "events.jsonl"
    events.write_text("\n".join(map(json.dumps, make_request("r", 3, random.Random(1)))))
    commands: dict[tuple[str, ...], str] = {
        ("dead-letters", "list"): f"Read on topic '{env.letters}'",
        ("produce", str(events)): f"Describe on topic '{env.candidates}', Write on topic",
        ("offsets", "resume", "--partition", "0"): f"Read on topic '{env.candidates}'",
        ("outcomes", "counts", "home"): f"Read on topic '{outcomes.feed_outcomes}'",
    }
    for words, named in commands.items():
        refused = env.trimtab(*words)
        assert refused.returncode == 1, refused.stderr
        assert named in refused.stderr
        assert "Traceback" not in refused.stderr


def test_produce_needs_the_listed_rights_and_names_what_it_lacks(
    env: Environment, guarded: GuardedKafka
) -> None:
    def send() -> None:
        sender = Sender.to(guarded.cluster("tool"), env.candidates)
        for _ in range(3):
            sender.send(b"k", b"v", [])
        sender.finish()

    write = Right("Write", Resource.TOPIC, env.candidates)
    rights = listed_rights(env, "produce")
    guarded.allow("tool", rights)
    send()
    idempotent = Right("IdempotentWrite", Resource.CLUSTER, "kafka-cluster")
    for others in (
        without(rights, "Write", env.candidates),
        [idempotent],
        [*rights[:1], idempotent],
    ):
        guarded.allow("tool", others)
        with pytest.raises(
            SendFailed, match="3 events were not taken by the broker: missing on"
        ) as failed:
            send()
        assert str(write) in str(failed.value)


def test_offsets_need_the_listed_rights_and_name_what_they_lack(
    env: Environment, guarded: GuardedKafka
) -> None:
    rights = listed_rights(env, "offsets resume")
    cluster = guarded.cluster("tool")
    guarded.allow("tool", rights)
    assert (
        resume_from_earliest(cluster, group=env.name, topic=env.candidates, partition=0).after == 0
    )
    for name in (env.candidates, env.name):
        guarded.allow("tool", without(rights, "Read", name))
        with pytest.raises(RightMissing, match=f"Read on .* '{name}'"):
            resume_from_earliest(cluster, group=env.name, topic=env.candidates, partition=0)


def test_who_is_in_the_group_takes_the_listed_right_which_is_named_if_it_is_missing(
    env: Environment, guarded: GuardedKafka
) -> None:
    guarded.allow("tool", listed_rights(env, "weights wait"))
    assert read_members(guarded.cluster("tool"), [env.name]) == []
    guarded.allow("tool", [])
    with pytest.raises(
        MembersUnknown, match=f"Describe on group '{env.name}'; grant it: kafka-acls"
    ):
        read_members(guarded.cluster("tool"), [env.name])


def test_a_wrong_password_is_told_from_a_broker_that_does_not_answer(guarded: GuardedKafka) -> None:
    wrong = guarded.properties("tool") | {"sasl.password": "wrong"}
    error = Cluster(guarded.guarded, wrong).connection_error(seconds=1.0)
    assert "Authentication failed: Invalid username or password" in error
    assert "Connection refused" in Cluster("127.0.0.1:1").connection_error(seconds=0.2)
    assert guarded.cluster("tool").connection_error() == ""


def test_a_broker_without_an_authorizer_allows_everything(kafka: str) -> None:
    require_rights(
        Cluster(kafka),
        worker_rights(
            candidates="candidates",
            feeds="ranked-feeds",
            dead_letters="d",
            group="g",
            transactional_id="t",
        ),
    )
