"""One worker beside the plain loop: backlogs, streams, and memory."""

import os
from collections.abc import Callable, Collection

from onnx import ModelProto

from tests.bench.backlog import Backlogs, Case, measure_turns
from tests.bench.inputs import BATCH_JSON, BATCH_PROTOBUF, SINGLE_JSON, SINGLE_PROTOBUF, Input
from tests.bench.memory import measure_memory
from tests.bench.onnx_share import measure_onnx_share
from tests.bench.programs import PLAIN_LOOP, WORKER
from tests.bench.streams import LINGER, StreamCase, measure_streams
from tests.bench.worker_report import (
    PROTOBUF_FEEDS,
    STREAM,
    TREES,
    YARDSTICK,
    WorkerLimits,
    WorkerReport,
    latency_case,
)
from tests.rig.environment import Environment
from tests.rig.machine import this_machine
from tests.rig.measured import measured_environment
from tests.scoring.building import trees

Say = Callable[[str], None]
SECTIONS = ("backlog", "stream", "memory")
"""What can be measured by itself. The yardstick always is."""

_INPUTS: tuple[Input, ...] = (SINGLE_JSON, SINGLE_PROTOBUF, BATCH_JSON, BATCH_PROTOBUF)


def measure_worker(
    env: Environment,
    limits: WorkerLimits,
    say: Say,
    sections: Collection[str] = SECTIONS,
) -> WorkerReport:
    """Measure on the servers of an environment. `say` gets a line for each step."""
    load_before = os.getloadavg()[0]
    backlogs = Backlogs(env, limits.seed, limits.backlog_candidates)
    cases = [Case(YARDSTICK, PLAIN_LOOP, SINGLE_JSON, env)]
    forest = trees_environment(env) if "backlog" in sections else None
    if forest is not None:
        cases += [Case(shape.name, WORKER, shape, env) for shape in _INPUTS]
        cases += [
            Case(PROTOBUF_FEEDS, WORKER, BATCH_PROTOBUF, env, {"TRIMTAB_FEEDS_FORMAT": "protobuf"}),
            Case(TREES, WORKER, BATCH_PROTOBUF, forest),
        ]
    costs = measure_turns(backlogs, cases, YARDSTICK, limits.turns, say)

    share: float | None = None
    if forest is not None:
        say("the share of onnxruntime")
        topic = backlogs.topic(BATCH_PROTOBUF)
        share = measure_onnx_share(
            forest.fresh(candidates=topic), BATCH_PROTOBUF, backlogs.requests(BATCH_PROTOBUF)
        )

    streams = []
    if "stream" in sections:
        streams = measure_streams(env, stream_cases(limits), limits.turns, limits.seed, say)

    memory = None
    if "memory" in sections:
        say("memory")
        load = SINGLE_JSON.load(limits.seed)
        memory = measure_memory(env.fresh(), load, limits.open_requests)

    return WorkerReport(
        machine=this_machine(),
        limits=limits,
        load=(load_before, os.getloadavg()[0]),
        backlogs=tuple(costs),
        onnx_share=share,
        streams=tuple(streams),
        memory=memory,
    )


def stream_cases(limits: WorkerLimits) -> list[StreamCase]:
    """The worker at its default linger, then worker, loop and harness without one."""
    seconds = limits.stream_seconds
    cases = [StreamCase(STREAM, WORKER, limits.rates[0], seconds)]
    for rate in limits.rates:
        cases += [
            StreamCase(latency_case("worker", rate), WORKER, rate, seconds, {LINGER: "0"}),
            StreamCase(latency_case("loop", rate), PLAIN_LOOP, rate, seconds),
            StreamCase(latency_case("harness", rate), None, rate, seconds),
        ]
    return cases


def trees_environment(env: Environment) -> Environment:
    """Two models of 100 trees with 31 leaves each, on the same servers."""
    folder = env.folder / "trees"
    folder.mkdir()

    def build(seed: int) -> ModelProto:
        return trees(count=100, leaves=31, seed=seed)

    return measured_environment(env.kafka, env.redis, folder, build=build)
