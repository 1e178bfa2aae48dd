"""One whole run: the worker and its peers on the same backlog, then each on a stream of its own,
then the worker's memory, then many models.
"""

import os
import time
from collections.abc import Callable, Sequence

from tests.bench.cost import Cost, cost_of, moments_of
from tests.bench.many import Traffic, measure_many, measure_shared
from tests.bench.memory import measure_memory
from tests.bench.meter import Meter
from tests.bench.programs import WORKER, Program
from tests.bench.report import Limits, Report, Result
from tests.bench.steady import Stream, measure_steady
from tests.bench.tenants import Tenants
from tests.bench.topics import read_all_feeds, send
from tests.rig.environment import Environment
from tests.rig.machine import this_machine
from tests.rig.progress import wait_until_published
from tests.rig.traffic import Load

Say = Callable[[str], None]


def measure(env: Environment, limits: Limits, peers: Sequence[Program], say: Say) -> Report:
    """Measure everything on the servers of an environment. `say` gets a line for each step."""
    load_before = os.getloadavg()[0]
    load = Load(limits.seed, limits.candidates)
    traffic = Traffic(limits.seed, limits.candidates, limits.models_requests, limits.rate)

    say(f"writing a backlog of {limits.backlog_requests * limits.candidates:,} events")
    backlog = env.fresh()
    send(backlog, load.interleaved(limits.backlog_requests, time.time_ns() // 1_000_000))

    results = []
    for program in (WORKER, *peers):
        say(f"{program.name}: backlog")
        again = env.fresh(candidates=backlog.candidates)
        backlog_cost = measure_backlog(program, again, limits)
        say(f"{program.name}: steady stream")
        stream = Stream(load, limits.steady_requests, limits.rate)
        steady_cost, latency = measure_steady(program, env.fresh(), stream)
        results.append(
            Result(
                name=program.name,
                delivery=program.delivery,
                lacks=program.lacks,
                backlog=backlog_cost,
                steady=steady_cost,
                latency=latency,
            )
        )

    say(f"{WORKER.name}: memory")
    memory = measure_memory(env.fresh(), load, limits.open_requests)

    say(f"{WORKER.name}: {limits.models:,} models, {limits.models_held:,} of them at once")
    many = measure_many(Tenants.create(env, "many", limits.models, limits.models_held), traffic)

    say(f"{WORKER.name}: one model under {limits.models:,} names")
    shared = measure_shared(Tenants.create(env, "shared", limits.models, None), traffic)

    return Report(
        machine=this_machine(),
        limits=limits,
        event_bytes=len(load.message(0, 0, 10**12, limits.candidates).value),
        load=(load_before, os.getloadavg()[0]),
        results=tuple(results),
        memory=memory,
        many=many,
        shared=shared,
    )


def measure_backlog(program: Program, env: Environment, limits: Limits) -> Cost:
    """Rank a backlog: all events are there before the program starts, so it is never idle.

    Its feeds are read only afterwards, so that reading does not disturb it.
    """
    with program.start(env) as process, Meter(process.pid) as meter:
        wait_until_published(env, process, limits.backlog_requests * limits.candidates)
        feeds = read_all_feeds(env, limits.backlog_requests)
    return cost_of(meter, moments_of(feeds), limits.candidates)
