"""Topics are created once, as planned, and a plan that does not fit is refused whole."""

import pytest

from workers.streaming.topics import (
    BrokerUnreachable,
    ConfigChange,
    TopicError,
    TopicPlan,
    TopicsReady,
    create_topics,
    describe_topics,
    topic_config,
    update_topic_config,
    wait_until_answers,
)


def test_topics_are_created_once_and_found_afterwards(kafka: str) -> None:
    plans = [TopicPlan("once.a", 3), TopicPlan("once.b", 1, {"max.message.bytes": "2000"})]
    assert create_topics(kafka, plans) == TopicsReady(("once.a", "once.b"), ())
    assert create_topics(kafka, plans) == TopicsReady((), ("once.a", "once.b"))
    assert describe_topics(kafka, ["once.b", "once.a", "once.c"]) == {"once.a": 3, "once.b": 1}
    assert topic_config(kafka, "once.b")["max.message.bytes"] == "2000"


def test_another_number_of_partitions_is_refused_before_anything_is_created(kafka: str) -> None:
    create_topics(kafka, [TopicPlan("fixed", 2)])
    with pytest.raises(TopicError, match="topic 'fixed': has 2 partitions, expected 5"):
        create_topics(kafka, [TopicPlan("never", 5), TopicPlan("fixed", 5)])
    assert describe_topics(kafka, ["fixed", "never"]) == {"fixed": 2}


def test_what_kafka_refuses_is_said_with_the_name_of_the_topic(kafka: str) -> None:
    with pytest.raises(TopicError, match="topic 'strange': cannot be created"):
        create_topics(kafka, [TopicPlan("strange", 1, {"max.message.bytes": "many"})])
    with pytest.raises(TopicError, match="topic 'missing'"):
        topic_config(kafka, "missing")


def test_what_differs_from_a_plan_is_set_once_and_the_rest_of_a_topic_stays(kafka: str) -> None:
    create_topics(kafka, [TopicPlan("changed", 1, {"max.message.bytes": "2000"})])
    plan = TopicPlan("changed", 1, {"cleanup.policy": "compact,delete", "segment.ms": "3600000"})
    assert update_topic_config(kafka, plan) == (
        ConfigChange("changed", "cleanup.policy", before="delete", after="compact,delete"),
        ConfigChange("changed", "segment.ms", before="604800000", after="3600000"),
    )
    assert update_topic_config(kafka, plan) == ()
    config = topic_config(kafka, "changed")
    assert (config["cleanup.policy"], config["max.message.bytes"]) == ("compact,delete", "2000")


def test_a_configuration_that_kafka_refuses_changes_nothing_and_names_the_topic(kafka: str) -> None:
    create_topics(kafka, [TopicPlan("kept-as-it-is", 1)])
    plan = TopicPlan("kept-as-it-is", 1, {"segment.ms": "3600000", "retention.ms": "long"})
    with pytest.raises(TopicError, match="topic 'kept-as-it-is': its configuration cannot be"):
        update_topic_config(kafka, plan)
    assert topic_config(kafka, "kept-as-it-is")["segment.ms"] == "604800000"


@pytest.mark.parametrize(("name", "partitions"), [("", 1), ("topic", 0)])
def test_a_plan_without_a_name_or_partitions_is_refused(name: str, partitions: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        TopicPlan(name, partitions)


def test_a_broker_that_is_not_there_is_named() -> None:
    with pytest.raises(BrokerUnreachable, match=r"127\.0\.0\.1:1 within 0\.2 s"):
        wait_until_answers("127.0.0.1:1", 0.2)
