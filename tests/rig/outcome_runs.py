"""Outcomes under adversity: real posts are ranked, simulated readers react, processes of the join are
killed and stopped, workers are killed and the broker is, and at the end everything is judged.

`make test` has a short run (tests/integration/test_outcomes.py), `make trial ARGS=outcomes` a long
one.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from onnx_models.event_encoding import JsonEvents
from onnx_models.home_requests import Communities, Event, Request, interleaved, requests
from onnx_models.posts import read_posts
from tests.rig.environment import Environment
from tests.rig.outcome_judge import Verdict, ends_of, judge
from tests.rig.process import Process, pause
from tests.rig.progress import wait_until_all_is_out, wait_until_published
from tests.rig.readers import Readers
from tests.rig.streams import Stream
from tests.rig.traffic import JSON, now_ms
from workers.local import Stack
from workers.ranking.outcome_rules import OutcomeRules
from workers.streaming.send import Sender
from workers.surfaces import load_surfaces

_REPOSITORY = Path(__file__).resolve().parents[2]
_MODELS = _REPOSITORY / "onnx_models"
_POSTS = 600
_SURFACE_NAMES = ("home", "home", "list", "list", "plain")
"""A request gets one of these in turn. `plain` counts no outcomes."""

_SURFACE = """
[surfaces.{name}]
feature_set = "posts"
objectives = ["quality", "engagement"]
deadline_ms = 2000
horizon_ms = 30000
max_candidates = 100
top_k = 15
weights = {{ quality = 0.5, engagement = 0.5 }}
"""
_OUTCOMES = """
[surfaces.home.outcomes]
window_s = {window_s}
seen = {{ kind = "view" }}
take = {{ kind = "dwell", at_least = 30 }}
others = {{ hide = {{ kind = "hide" }}, skim = {{ kind = "dwell", at_least = 1 }} }}

[surfaces.list.outcomes]
window_s = {longer_s}
seen = "above"
take = {{ kind = "click" }}
"""


@dataclass(frozen=True)
class Plan:
    """What happens in a run. `rate` is requests a second, `items` the posts of each.

    `stops` has for how many seconds a process of the join is stopped each time, and
    `worker_stops` the same of workers.
    """

    seed: int = 1
    window_s: int = 3
    joins: int = 2
    workers: int = 1
    rate: float = 20.0
    items: int = 20
    kills: int = 2
    stops: Sequence[float] = (4.0,)
    worker_kills: int = 1
    worker_stops: Sequence[float] = ()
    broker_kills: int = 0
    protocol: str = "cooperative-sticky"


@dataclass(frozen=True)
class Result:
    """What was done and what came of it."""

    plan: Plan
    verdict: Verdict
    acts: list[str]
    requests: int
    interactions: int
    seconds: float


def write_outcome_files(folder: Path, window_s: int) -> None:
    """A surfaces.toml with two surfaces that count outcomes, by windows of different length, and
    one that does not.
    """
    feature_sets, _, _ = (
        (_REPOSITORY / "deploy" / "surfaces.toml").read_text().partition("[surfaces.home]")
    )
    surfaces = [_SURFACE.format(name=name) for name in dict.fromkeys(_SURFACE_NAMES)]
    outcomes = _OUTCOMES.format(window_s=window_s, longer_s=window_s + 1)
    (folder / "surfaces.toml").write_text(feature_sets + "".join(surfaces) + outcomes)


class PostStream(Stream):
    """A thread that sends requests of real posts until the end of the `with` block.

    One request in 20 lacks its last event, and closes at its deadline. `events` and `requests` count
    what was sent.
    """

    def __init__(self, sender: Sender, plan: Plan) -> None:
        super().__init__("posts")
        self.events = 0
        self.requests = 0
        self._sender = sender
        self._plan = plan
        self._draw = random.Random(plan.seed)
        posts = islice(read_posts(_MODELS / "data" / "reddit_top_posts.csv.gz"), _POSTS)
        self._communities = Communities(posts)
        self._encoders = {name: JsonEvents(name, by_name=False) for name in _SURFACE_NAMES}

    def _run(self) -> None:
        for event in interleaved(self._paced(), self._plan.items // 2, self._plan.seed):
            number = int(event.request.request_id.rpartition("-")[2])
            self._send(event, _SURFACE_NAMES[number % len(_SURFACE_NAMES)])
        self._sender.finish()

    def _paced(self) -> Iterator[Request]:
        """Requests as they come, until stopped."""
        plan = self._plan
        for request in requests(self._communities, 1_000_000, plan.items, plan.seed):
            if self._stopping.wait(self._draw.expovariate(plan.rate)):
                return
            self.requests += 1
            yield replace(request, requested_at=now_ms())

    def _send(self, event: Event, surface: str) -> None:
        is_last = event.posts[-1] is event.request.posts[-1]
        if is_last and self._draw.random() < 0.05:
            return
        value = self._encoders[surface](event)
        self._sender.send(event.request.request_id.encode(), value, JSON)
        self.events += 1


class Fleet:
    """The processes of one kind. A process that is killed is replaced."""

    def __init__(self, start: Callable[[], Process], count: int) -> None:
        self._start = start
        self.processes = [start() for _ in range(count)]

    def wait_until_restored(self) -> None:
        """Wait until each process has restored a partition."""
        for process in self.processes:
            process.wait_for("event=restored")

    def replace(self, place: int) -> None:
        """Kill a process, and start another in its place."""
        self.processes[place].kill()
        self.processes[place] = self._start()

    def end(self) -> None:
        """Let all processes drain. Each must still run, and end with 0."""
        for process in self.processes:
            assert process.is_running(), process.logged()
        for process in self.processes:
            assert process.terminate() == 0, process.logged()


def run_outcomes(
    env: Environment, stack: Stack, plan: Plan, say: Callable[[str], None] = lambda _: None
) -> Result:
    """Run a plan in an environment whose files are written, and judge everything at the end."""
    began = time.monotonic()
    env.variables["TRIMTAB_MODELS"] = str(_MODELS)
    env.create_outcome_topics()
    rules = rules_of(env)
    _set_experiment(env)
    workers = Fleet(env.start_worker, plan.workers)
    workers.wait_until_restored()
    joins = Fleet(env.start_join, plan.joins)
    joins.wait_until_restored()

    readers = Readers(
        env.kafka,
        feeds=env.feeds,
        interactions=env.interactions,
        partitions=env.partitions,
        window_s=plan.window_s,
        seed=plan.seed,
    )
    acts: list[str] = []
    with readers:
        with PostStream(env.sender(), plan) as stream:
            env.wait_for_more_outcomes()
            draw = random.Random(plan.seed)
            for act in _acts(plan):
                acts.append(act)
                say(f"{time.monotonic() - began:5.0f} s  {act}")
                _perform(act, env, stack, workers, joins, draw)
                _let_go_on(env, draw)
        say(f"{time.monotonic() - began:5.0f} s  waiting for {stream.requests:,} requests")
        wait_until_published(env, workers.processes[0], stream.events)
        readers.finish()

    wait_until_all_is_out(env, joins.processes[0], ends_of(env, rules))
    joins.end()
    workers.end()

    say(f"{time.monotonic() - began:5.0f} s  judging")
    verdict = judge(env, rules)
    return Result(
        plan=plan,
        verdict=verdict,
        acts=acts,
        requests=stream.requests,
        interactions=readers.written,
        seconds=round(time.monotonic() - began, 1),
    )


def rules_of(env: Environment) -> dict[str, OutcomeRules]:
    """The outcome rules of each surface that has some."""
    surfaces = load_surfaces(env.folder / "surfaces.toml")
    return {
        surface.name: surface.outcomes
        for surface in surfaces.values()
        if surface.outcomes is not None
    }


def _set_experiment(env: Environment) -> None:
    """A third of the users of `home` are in an arm with weights of its own."""
    redis = env.redis_client()
    redis.hset(f"{env.name}:experiment:home", mapping={"salt": "s", "canary": "33"})
    redis.hset(f"{env.name}:weights:home:canary", mapping={"quality": "0.2", "engagement": "0.8"})


def _change_weights(env: Environment, number: int) -> None:
    quality = f"0.{number + 1}"
    env.redis_client().hset(
        f"{env.name}:weights:home", mapping={"quality": quality, "engagement": "0.5"}
    )


def _acts(plan: Plan) -> list[str]:
    """What is done, in an order that the seed gives."""
    acts = ["kill a join"] * plan.kills
    acts += [f"stop a join for {seconds:g} s" for seconds in plan.stops]
    acts += ["kill a worker"] * plan.worker_kills
    acts += [f"stop a worker for {seconds:g} s" for seconds in plan.worker_stops]
    acts += ["kill the broker"] * plan.broker_kills
    random.Random(plan.seed).shuffle(acts)
    return acts


def _perform(
    act: str, env: Environment, stack: Stack, workers: Fleet, joins: Fleet, draw: random.Random
) -> None:
    _change_weights(env, draw.randrange(9))
    if act == "kill a join":
        joins.replace(draw.randrange(len(joins.processes)))
    elif act == "kill a worker":
        workers.replace(draw.randrange(len(workers.processes)))
    elif act == "kill the broker":
        stack.kill_kafka()
        stack.start_kafka()
    else:
        fleet = workers if act.startswith("stop a worker") else joins
        stopped = draw.choice(fleet.processes)
        stopped.freeze()
        pause(float(act.split()[-2]))
        stopped.thaw()


def _let_go_on(env: Environment, draw: random.Random) -> None:
    """Wait until the workers and the join go on. Now and then the next act comes before that."""
    if draw.random() < 0.3:
        pause(draw.uniform(0.2, 2.0))
        return
    env.wait_for_more()
    env.wait_for_more_outcomes()


@contextmanager
def outcomes_environment(
    kafka: str, redis: str, folder: Path, plan: Plan, **changes: Any
) -> Iterator[Environment]:
    """An environment with the files of a run. Its processes are killed at the end."""
    write_outcome_files(folder, plan.window_s)
    env = Environment(kafka, redis, folder, protocol=plan.protocol, **changes)
    # Under the protocol `consumer` the broker sets the session, and the client may not.
    if plan.protocol != "consumer":
        properties = folder / "kafka.properties"
        properties.write_text("session.timeout.ms=2000\nheartbeat.interval.ms=500\n")
        env.variables["TRIMTAB_KAFKA_CONFIG"] = str(properties)
    env.create_topics()
    try:
        yield env
    finally:
        env.end()
