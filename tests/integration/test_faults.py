"""Adversity: kills, rebalances, pauses, a broker that goes away. Nothing is lost or doubled, and
every feed is the oracle's.
"""

from collections.abc import Callable

import pytest

from tests.rig.environment import Environment
from tests.rig.judge import check_stream
from tests.rig.kills import kill_broker, kill_worker
from tests.rig.traffic import RequestStream
from workers.local import Stack

PROTOCOLS = ("cooperative-sticky", "range", "consumer")
# `make trial ARGS=kills` kills ten times: see tests/rig/kills.py.
KILLS = 3


def test_a_worker_killed_three_times_in_mid_stream_loses_and_doubles_nothing(
    env: Environment,
) -> None:
    assert kill_worker(env, KILLS) > 0


def test_a_broker_that_is_killed_three_times_under_load_is_waited_for_each_time(
    env: Environment, stack: Stack
) -> None:
    assert kill_broker(env, stack, KILLS) > 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_workers_that_come_and_go_in_mid_stream_lose_and_double_nothing(
    make_env: Callable[..., Environment], protocol: str
) -> None:
    env = make_env(protocol=protocol)
    with RequestStream(env.sender(), seed=2) as stream:
        first = env.start_worker()
        env.wait_for_more()
        second = env.start_worker()
        second.wait_for("event=restored")
        env.wait_for_more()
        third = env.start_worker()
        third.wait_for("event=restored")

        assert first.terminate() == 0, first.logged()
        env.wait_for_more()
        second.kill()
        env.wait_for_more()
        third.wait_for("event=restored", times=4)
    check_stream(env, stream)


def test_a_worker_that_was_stopped_past_its_session_doubles_nothing_when_it_wakes(
    env: Environment,
) -> None:
    with RequestStream(env.sender(), seed=3) as stream:
        sleeper = env.start_worker()
        env.wait_for_more()
        sleeper.freeze()
        other = env.start_worker()
        other.wait_for("event=restored", times=4)
        env.wait_for_more()

        sleeper.thaw()
        sleeper.wait_for("event=revoked")
        env.wait_for_more()
    check_stream(env, stream)


def test_a_broker_that_freezes_and_wakes_is_waited_for(env: Environment, stack: Stack) -> None:
    with RequestStream(env.sender(), seed=5) as stream:
        worker = env.start_worker()
        env.wait_for_more()
        with stack.paused("kafka"):
            # A transaction that was open ends first. If there was none, the session does.
            worker.wait_until(
                lambda: (
                    "event=starting_anew" in worker.logged() or "event=revoked" in worker.logged()
                )
            )
        env.wait_for_more()
    check_stream(env, stream)
