"""One whole run: the worker and its peers on the same backlog, then each on a stream of its own,
then memory.
"""

import os
from collections.abc import Callable, Sequence

from tests.bench.backlog import fill, measure_backlog
from tests.bench.load import Load
from tests.bench.machine import this_machine
from tests.bench.many import Traffic, measure_many, measure_shared
from tests.bench.memory import measure_memory
from tests.bench.report import Limits, Report, Result
from tests.bench.rig import Rig
from tests.bench.runner import WORKER, Runner
from tests.bench.steady import Stream, measure_steady
from tests.bench.tenants import Tenants

Say = Callable[[str], None]


def measure(rig: Rig, limits: Limits, peers: Sequence[Runner], say: Say) -> Report:
    """Measure everything on a stack that is up; `say` is told what is being done."""
    load, load_before = Load(limits.seed, limits.candidates), os.getloadavg()[0]
    backlog = rig.lane()
    say(f"writing a backlog of {limits.backlog_requests * limits.candidates:,} events")
    fill(backlog, load, limits.backlog_requests)
    results = tuple(
        _result(rig, runner, load, limits, backlog.place.candidates, say)
        for runner in (WORKER, *peers)
    )
    say(f"{WORKER.name}: memory")
    memory = measure_memory(rig.lane(), load, limits.open_requests)
    traffic = Traffic(limits.seed, limits.candidates, limits.models_requests, limits.rate)
    say(f"{WORKER.name}: {limits.models:,} models, {limits.models_held:,} of them at once")
    tenants = Tenants.furnish(rig, "many", limits.models, limits.models_held)
    many = measure_many(tenants, tenants.rig.lane(), traffic)
    say(f"{WORKER.name}: one model under {limits.models:,} names")
    tenants = Tenants.furnish(rig, "shared", limits.models, None)
    shared = measure_shared(tenants, tenants.rig.lane(), traffic)
    return Report(
        machine=this_machine(),
        limits=limits,
        event_bytes=len(load.message(0, 0, 10**12, limits.candidates).value),
        load=(load_before, os.getloadavg()[0]),
        results=results,
        memory=memory,
        many=many,
        shared=shared,
    )


def _result(
    rig: Rig, runner: Runner, load: Load, limits: Limits, candidates: str, say: Say
) -> Result:
    say(f"{runner.name}: backlog")
    backlog = measure_backlog(runner, rig.lane(candidates), load, limits.backlog_requests)
    say(f"{runner.name}: steady stream")
    steady, latency = measure_steady(
        runner, rig.lane(), Stream(load, limits.steady_requests, limits.rate)
    )
    return Result(runner.name, runner.delivery, runner.lacks, backlog, steady, latency)
