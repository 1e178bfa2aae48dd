"""Metrics and health of real processes, while what they need comes and goes."""

import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rig.environment import Environment
from tests.rig.feed_writer import FeedWriter, make_feed
from tests.rig.metrics import ask, is_ready, total
from tests.rig.outcome_runs import Plan, outcomes_environment, rules_of
from tests.rig.process import until
from tests.rig.redis import free_port
from tests.rig.traffic import make_request
from workers.local import Stack


def test_a_parent_shows_two_workers_whatever_they_wait_for(
    make_env: Callable[..., Environment], stack: Stack
) -> None:
    port = free_port()
    env = make_env(variables={"TRIMTAB_METRICS_PORT": str(port)})
    parent = env.start_worker("--processes", "2")
    until(is_ready(port), parent.logged)
    until(lambda: total(port, "trimtab_partitions", state="reading") == 4)

    env.send(make_request("r", 5, random.Random(1)))
    env.send([{**make_request("bad", 1, random.Random(2))[0], "surface": "nowhere"}])
    env.read_feeds(1, settle=0.1)
    until(lambda: total(port, "trimtab_feeds_total", completion="full", surface="home") == 1)
    until(lambda: total(port, "trimtab_dead_letters_total", reason="unknown-surface") == 1)
    assert total(port, "trimtab_feed_latency_seconds_count", surface="home") == 1
    assert total(port, "trimtab_child_up") == 2
    assert total(port, "trimtab_weights_info", surface="home") == 2
    for step in ("score", "combine", "encode", "publish", "commit"):
        assert total(port, "trimtab_step_seconds_total", step=step) > 0
    workers = [status["worker"] for status in json.loads(ask(port, "/status")[1]).values()]
    assert len(set(workers)) == 2

    # Neither a broker nor a Redis that does not answer gets a worker killed.
    with stack.paused("kafka"), stack.paused("redis"):
        until(lambda: total(port, "trimtab_redis_up") == 0)
        assert ask(port, "/livez")[0] == 200
        assert ask(port, "/readyz")[0] == 200

    # A child that hangs is left out, and the other one is shown.
    child = next(int(pid) for pid in children_of(parent.pid))
    os.kill(child, signal.SIGSTOP)
    try:
        assert total(port, "trimtab_child_up") == 1
        # The pause may have cost it its partitions: it has them again soon.
        until(lambda: total(port, "trimtab_ready") == 1)
        assert ask(port, "/readyz")[0] == 503
        assert ask(port, "/livez")[0] == 200
    finally:
        os.kill(child, signal.SIGCONT)

    # One that has died is started again and answers on the same socket.
    os.kill(child, signal.SIGKILL)
    until(lambda: str(child) not in children_of(parent.pid))
    until(is_ready(port), parent.logged)
    assert total(port, "trimtab_child_up") == 2


@pytest.fixture
def outcomes(kafka: str, redis_url: str, tmp_path: Path) -> Iterator[Environment]:
    """An environment whose surfaces count outcomes for two seconds."""
    plan = Plan(window_s=2, protocol="cooperative-sticky")
    with outcomes_environment(kafka, redis_url, tmp_path, plan) as env:
        env.create_outcome_topics()
        yield env


def test_the_join_and_the_users_stage_show_theirs_on_ports_of_their_own(
    outcomes: Environment, stack: Stack
) -> None:
    base = free_port() - 2000
    outcomes.create_user_topics()
    outcomes.variables["TRIMTAB_METRICS_PORT"] = str(base)
    join = outcomes.start_join()
    users = outcomes.start_users()
    until(is_ready(base + 1000), join.logged)
    until(is_ready(base + 2000), users.logged)

    windows = {name: rules.window_s for name, rules in rules_of(outcomes).items()}
    FeedWriter(outcomes, windows).write(make_feed("r"))
    until(lambda: total(base + 1000, "trimtab_closed_feeds_total", surface="home") == 1)
    until(lambda: total(base + 2000, "trimtab_users_feeds_total") == 1, users.logged)
    assert total(base + 1000, "trimtab_outcomes_seen_total", surface="home") == 0
    assert total(base + 1000, "trimtab_outcomes_closed_until_seconds") > 1e9
    assert total(base + 2000, "trimtab_stage_waiting") == 0
    assert json.loads(ask(base + 2000, "/status")[1])["counts"]["feeds"] == 1
    for port in (base + 1000, base + 2000):
        assert total(port, "trimtab_broker_up") == 1
        assert total(port, "trimtab_redis_up") == 1
        assert total(port, "trimtab_redis_calls_total", use="status") > 0
    until(lambda: total(base + 2000, "trimtab_redis_calls_total", use="guard_rails") > 0)
    assert total(base + 2000, "trimtab_guard_rails_wait_seconds") < 60
    assert 0 <= total(base + 2000, "trimtab_loop_same_step_seconds") < 15

    with stack.paused("kafka"):
        until(lambda: total(base + 2000, "trimtab_broker_up") == 0)
        assert ask(base + 2000, "/livez")[0] == 200
    until(lambda: total(base + 2000, "trimtab_broker_up") == 1)


def test_a_worker_that_starts_says_what_it_waits_for(
    make_env: Callable[..., Environment], stack: Stack
) -> None:
    port = free_port()
    env = make_env(variables={"TRIMTAB_METRICS_PORT": str(port)})
    with stack.paused("kafka"):
        worker = env.start_worker()
        worker.wait_for("event=metrics")
        until(lambda: "Kafka" in ask(port, "/readyz")[1], worker.logged)
        assert ask(port, "/readyz") == (503, "starting: waits for Kafka, its topics and rights\n")
        assert ask(port, "/livez")[0] == 200
    until(is_ready(port), worker.logged)


def children_of(pid: int) -> list[str]:
    """The process ids of the children of a process."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as listed:
        return listed.read().split()
