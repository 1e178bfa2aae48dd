"""Many models: a surface for each, a budget that holds a part of them, and one surface that is in
use all the time.

Then as many surfaces whose models are one file under many names.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from tests.bench.cost import MIB
from tests.bench.latency import Latency
from tests.bench.load import Load
from tests.bench.many_figures import Footprint, Many, Shared, Start, Waits
from tests.bench.meter import Meter
from tests.bench.rig import Lane
from tests.bench.runner import WORKER, Running
from tests.bench.steady import Delivered, Stream, deliver, judged_from
from tests.bench.tenants import Tenants
from tests.bench.told import loaded, wait_until_told
from workers.steering.status import WorkerStatus

_IDLE_MS = 5000


class Traffic(NamedTuple):
    """So many requests, `rate` of them a second."""

    seed: int
    candidates: int
    requests: int
    rate: float

    def to(self, tenants: Tenants) -> tuple[Stream, list[str]]:
        """What is sent, and the surface of each request: until one is judged, that in constant use."""
        visits = tenants.visits(self.seed, self.requests, judged_from(self.requests, self.rate))
        return Stream(Load(self.seed, self.candidates, visits), self.requests, self.rate), visits


class _Run(NamedTuple):
    start: Start
    footprint: Footprint
    before: WorkerStatus
    after: WorkerStatus
    judged: Sequence[Delivered]


def measure_many(tenants: Tenants, lane: Lane, traffic: Traffic) -> Many:
    """A stream to all surfaces of tenants whose models do not fit."""
    stream, visits = traffic.to(tenants)
    run, constant = _run(tenants, lane, stream), tenants.names[0]
    others = [name for name in visits if name != constant]
    changed = {name: run.after.tally[name] - before for name, before in run.before.tally.items()}
    return Many(
        models=len(tenants.names),
        files_mib=_mib(sum(tenants.file_bytes)),
        held=tenants.held,
        budget_mib=tenants.rig.models_mb,
        requests=stream.requests,
        visits=len(others),
        visited=len(set(others)),
        start=run.start,
        footprint=run.footprint,
        hits=changed["hits"],
        misses=changed["misses"],
        loads=changed["loads"],
        evictions=changed["evictions"],
        waits=waits_of(run.judged, visits, constant, loaded(run.before)),
    )


def measure_shared(tenants: Tenants, lane: Lane, traffic: Traffic) -> Shared:
    """A stream to all surfaces of tenants whose models are one file."""
    stream, visits = traffic.to(tenants)
    run = _run(tenants, lane, stream)
    return Shared(
        models=len(tenants.names),
        files_mib=_mib(sum(tenants.file_bytes)),
        sessions=run.after.tally["loads"],
        requests=stream.requests,
        start=run.start,
        footprint=run.footprint,
        constant=Latency.of(
            [one.milliseconds for one in run.judged if visits[one.request] == tenants.names[0]]
        ),
    )


def _run(tenants: Tenants, lane: Lane, stream: Stream) -> _Run:
    with WORKER.start(lane.place) as running, Meter(running.process.pid) as meter:
        start, before = _start(running, lane, meter, len(tenants.names))
        verified = meter.resident
        delivered = deliver(lane, stream)
        after = wait_until_told(
            running, lane, lambda told: told.counts.get("feeds", 0) >= stream.requests
        )
        end = meter.resident
        lane.read_feeds(stream.requests)
    assert not after.counts["unscored"], (
        f"{after.counts['unscored']} feeds had to do without their model"
    )
    footprint = Footprint(
        *(_mib(size) for size in (after.tally["bytes_loaded"], verified, end, meter.peak))
    )
    return _Run(
        start,
        footprint,
        before,
        after,
        [one for one in delivered if one.request >= stream.judged_from],
    )


def _start(running: Running, lane: Lane, meter: Meter, models: int) -> tuple[Start, WorkerStatus]:
    """Wait until every model is verified, and then for a while in which nothing comes."""
    running.wait_until_ready()
    ready, resident = meter.cpu, meter.resident
    told = wait_until_told(running, lane, lambda told: told.tally.get("verified", 0) >= models)
    verified = meter.cpu
    later = wait_until_told(running, lane, lambda now: now.at >= told.at + _IDLE_MS)
    idle = (meter.cpu - verified) / (later.at - told.at) * 1e6
    return Start(round(ready, 2), round(verified, 2), round(idle, 1), _mib(resident)), later


def waits_of(
    delivered: Sequence[Delivered], visits: Sequence[str], constant: str, loaded: Collection[str]
) -> Waits:
    """Latencies by what a request met; `visits` is the surface of each, `loaded` those whose models
    were there.
    """
    first = {name: request for request, name in reversed(list(enumerate(visits)))}

    def kind(request: int) -> str:
        name = visits[request]
        if name == constant:
            return "constant"
        if first[name] < request:
            return "later"
        return "first_loaded" if name in loaded else "first_unloaded"

    found: dict[str, list[float]] = {}
    for one in delivered:
        found.setdefault(kind(one.request), []).append(one.milliseconds)
    return Waits(**{name: Latency.of(milliseconds) for name, milliseconds in found.items()})


def _mib(size: int) -> float:
    return round(size / MIB, 1)
