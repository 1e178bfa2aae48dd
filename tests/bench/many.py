"""Many models: a surface for each, a budget that holds a part of them, and one surface that is in
use all the time. Then as many surfaces whose models are one file under many names.
"""

import os
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from tests.bench.cost import MIB
from tests.bench.many_report import (
    Footprint,
    Many,
    ModelsLimits,
    ModelsReport,
    Shared,
    Start,
    Waits,
)
from tests.bench.meter import Meter
from tests.bench.programs import WORKER
from tests.bench.steady import Delivered, Stream, deliver, judged_from
from tests.bench.tenants import Tenants
from tests.bench.topics import read_all_feeds
from tests.rig.environment import Environment
from tests.rig.machine import this_machine
from tests.rig.process import Process
from tests.rig.statuses import WorkerStatus, wait_for_status
from tests.rig.times import Times
from tests.rig.traffic import Load


class Traffic(NamedTuple):
    """How many requests are sent, and how many of them a second. Before them, nothing is sent for
    `idle_ms`.
    """

    seed: int
    candidates: int
    requests: int
    rate: float
    idle_ms: int

    def to(self, tenants: Tenants) -> tuple[Stream, list[str]]:
        """What is sent, and the surface of each request. The first ones, which do not count, all go
        to the surface in constant use.
        """
        lead_in = judged_from(self.requests, self.rate)
        visits = tenants.visits(self.seed, self.requests, lead_in)
        return Stream(Load(self.seed, self.candidates, visits), self.requests, self.rate), visits


class _Run(NamedTuple):
    start: Start
    footprint: Footprint
    before: WorkerStatus
    after: WorkerStatus
    judged: Sequence[Delivered]


def measure_models(
    env: Environment, limits: ModelsLimits, say: Callable[[str], None]
) -> ModelsReport:
    """Measure both on the servers of an environment. `say` gets a line for each step."""
    load_before = os.getloadavg()[0]
    traffic = Traffic(
        seed=limits.seed,
        candidates=limits.candidates,
        requests=limits.requests,
        rate=limits.rate,
        idle_ms=limits.idle_ms,
    )

    say(f"{limits.models:,} models, {limits.held:,} of them at once")
    many = measure_many(Tenants.create(env, "many", limits.models, limits.held), traffic)

    say(f"one model under {limits.models:,} names")
    shared = measure_shared(Tenants.create(env, "shared", limits.models, None), traffic)

    return ModelsReport(
        machine=this_machine(),
        limits=limits,
        load=(load_before, os.getloadavg()[0]),
        many=many,
        shared=shared,
    )


def measure_many(tenants: Tenants, traffic: Traffic) -> Many:
    """A stream to all surfaces of tenants whose models do not fit."""
    stream, visits = traffic.to(tenants)
    run = _run(tenants, stream, traffic.idle_ms)
    constant = tenants.names[0]
    others = [name for name in visits if name != constant]

    def counted(name: str) -> int:
        return run.after.tally[name] - run.before.tally[name]

    return Many(
        models=len(tenants.names),
        files_mib=_mib(sum(tenants.file_bytes)),
        held=tenants.held,
        budget_mib=tenants.budget_mib,
        requests=stream.requests,
        visits=len(others),
        visited=len(set(others)),
        start=run.start,
        footprint=run.footprint,
        hits=counted("hits"),
        misses=counted("misses"),
        loads=counted("loads"),
        evictions=counted("evictions"),
        waits=waits_of(run.judged, visits, constant, run.before.loaded()),
    )


def measure_shared(tenants: Tenants, traffic: Traffic) -> Shared:
    """A stream to all surfaces of tenants whose models are one file."""
    stream, visits = traffic.to(tenants)
    run = _run(tenants, stream, traffic.idle_ms)
    constant = [one for one in run.judged if visits[one.request] == tenants.names[0]]
    return Shared(
        models=len(tenants.names),
        files_mib=_mib(sum(tenants.file_bytes)),
        sessions=run.after.tally["loads"],
        requests=stream.requests,
        start=run.start,
        footprint=run.footprint,
        constant=Times.of(one.nanoseconds for one in constant),
    )


def _run(tenants: Tenants, stream: Stream, idle_ms: int) -> _Run:
    env = tenants.env
    with WORKER.start(env) as worker, Meter(worker.pid) as meter:
        start, before = _start(worker, tenants, meter, idle_ms)
        verified = meter.resident
        delivered = deliver(env, stream)
        after = wait_for_status(
            env, worker, lambda status: status.counts.get("feeds", 0) >= stream.requests
        )
        end = meter.resident
        read_all_feeds(env, stream.requests)

    unscored = after.counts["unscored"]
    assert not unscored, f"{unscored} feeds had to do without their model"
    footprint = Footprint(
        loaded_mib=_mib(after.tally["bytes_loaded"]),
        verified_mib=_mib(verified),
        end_mib=_mib(end),
        peak_mib=_mib(meter.peak),
    )
    judged = [one for one in delivered if one.request >= stream.judged_from]
    return _Run(start, footprint, before, after, judged)


def _start(
    worker: Process, tenants: Tenants, meter: Meter, idle_ms: int
) -> tuple[Start, WorkerStatus]:
    """Wait until every model is verified, and then for a while in which nothing comes."""
    WORKER.wait_until_ready(worker)
    ready_cpu = meter.cpu
    ready_bytes = meter.resident

    models = len(tenants.names)
    first = wait_for_status(
        tenants.env, worker, lambda status: status.tally.get("verified", 0) >= models
    )
    verified_cpu = meter.cpu
    later = wait_for_status(tenants.env, worker, lambda status: status.at >= first.at + idle_ms)

    idle_ms_a_second = (meter.cpu - verified_cpu) / (later.at - first.at) * 1e6
    start = Start(
        ready_cpu_s=round(ready_cpu, 2),
        verified_cpu_s=round(verified_cpu, 2),
        idle_ms_a_second=round(idle_ms_a_second, 1),
        ready_mib=_mib(ready_bytes),
    )
    return start, later


def waits_of(
    delivered: Sequence[Delivered], visits: Sequence[str], constant: str, loaded: Collection[str]
) -> Waits:
    """Latencies by what a request met. `visits` is the surface of each request, `loaded` are the
    surfaces whose models were loaded before.
    """
    first_visits: dict[str, int] = {}
    for request, name in enumerate(visits):
        first_visits.setdefault(name, request)

    times: dict[str, list[int]] = {
        "constant": [],
        "first_loaded": [],
        "first_unloaded": [],
        "later": [],
    }
    for one in delivered:
        name = visits[one.request]
        if name == constant:
            kind = "constant"
        elif first_visits[name] < one.request:
            kind = "later"
        elif name in loaded:
            kind = "first_loaded"
        else:
            kind = "first_unloaded"
        times[kind].append(one.nanoseconds)
    return Waits(**{kind: Times.of(found) for kind, found in times.items()})


def _mib(size: int) -> float:
    return round(size / MIB, 1)
