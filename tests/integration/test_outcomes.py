"""Outcomes on a real Kafka: what the join writes is the oracle's, whatever is killed meanwhile.

`make trial ARGS=outcomes` does the same for longer: see tests/rig/outcome_runs.py.
"""

from pathlib import Path

from tests.rig.environment import Environment
from tests.rig.outcome_judge import judge
from tests.rig.outcome_runs import Plan, outcomes_environment, rules_of, run_outcomes
from tests.rig.producers import ready_producer
from tests.rig.topics import read_to_end
from workers.local import Stack
from workers.streaming.records import read_headers


def test_processes_that_are_killed_and_stopped_in_mid_stream_change_no_outcome(
    kafka: str, redis_url: str, tmp_path: Path, stack: Stack
) -> None:
    plan = Plan(seed=1, window_s=2)
    with outcomes_environment(kafka, redis_url, tmp_path, plan) as env:
        result = run_outcomes(env, stack, plan)
        assert result.verdict.wrong == []
        assert result.verdict.takes > 0
        assert result.verdict.letters > 0
        judge_finds_what_is_wrong(env)


def judge_finds_what_is_wrong(env: Environment) -> None:
    """Write a request outcome, sums and a dead letter once more, the first two changed. The judge
    names each.
    """
    producer = ready_producer(env.kafka)
    changed = {env.request_outcomes: b'"takes":', env.feed_outcomes: b'"feeds":'}
    for topic in (env.request_outcomes, env.feed_outcomes, env.interaction_letters):
        first = read_to_end(env.kafka, topic)[0]
        value = first.value() or b""
        if topic in changed:
            value = value.replace(changed[topic], changed[topic] + b"9", 1)
        headers = read_headers(first) or []
        producer.produce(topic, value, first.key(), first.partition(), headers=list(headers))
    producer.flush(30)
    assert len(judge(env, rules_of(env)).wrong) >= 4
