"""Metrics and health of real processes, while what they need comes and goes."""

import json
import os
import random
import signal
import urllib.request
from collections.abc import Callable
from urllib.error import HTTPError

from prometheus_client.parser import text_string_to_metric_families

from tests.rig.environment import Environment
from tests.rig.process import until
from tests.rig.redis import free_port
from tests.rig.traffic import make_request
from workers.local import Stack

Series = dict[str, dict[tuple[tuple[str, str], ...], float]]


def ask(port: int, path: str) -> tuple[int, str]:
    """The status and the text of an answer. Raises OSError if nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
            return reply.status, reply.read().decode()
    except HTTPError as refused:
        return refused.code, refused.read().decode()


def is_ready(port: int) -> Callable[[], bool]:
    """Whether /readyz answers 200 by now."""

    def look() -> bool:
        try:
            return ask(port, "/readyz")[0] == 200
        except OSError:
            return False

    return look


def total(port: int, name: str, **labels: str) -> float:
    """The sum of the series of a metric that have these labels."""
    values = 0.0
    for family in text_string_to_metric_families(ask(port, "/metrics")[1]):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                values += sample.value
    return values


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
    stack.pause("kafka")
    stack.pause("redis")
    try:
        until(lambda: total(port, "trimtab_redis_up") == 0)
        assert ask(port, "/livez")[0] == 200
        assert ask(port, "/readyz")[0] == 200
    finally:
        stack.resume("redis")
        stack.resume("kafka")

    # A child that hangs is left out, and the other one is shown.
    child = next(int(pid) for pid in children_of(parent.pid))
    os.kill(child, signal.SIGSTOP)
    try:
        assert total(port, "trimtab_child_up") == 1
        assert total(port, "trimtab_ready") == 1
        assert ask(port, "/readyz")[0] == 503
        assert ask(port, "/livez")[0] == 200
    finally:
        os.kill(child, signal.SIGCONT)

    # One that has died is started again and answers on the same socket.
    os.kill(child, signal.SIGKILL)
    until(lambda: str(child) not in children_of(parent.pid))
    until(is_ready(port), parent.logged)
    assert total(port, "trimtab_child_up") == 2


def children_of(pid: int) -> list[str]:
    """The process ids of the children of a process."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as listed:
        return listed.read().split()
