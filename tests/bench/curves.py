"""Curves: what a candidate costs as something grows, and how long a feed takes.

Each point is measured on topics of its own. The plain loop is beside the worker where it can be.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

from tests.bench.backlog import measure_backlog
from tests.bench.cost import Cost, cost_of, moments_of
from tests.bench.goals import Goal, Row
from tests.bench.inputs import BATCH_JSON, SINGLE_JSON, Input
from tests.bench.meter import Meter
from tests.bench.programs import PLAIN_LOOP, WORKER, Program
from tests.bench.streams import LINGER, StreamCase, measure_streams
from tests.bench.topics import read_all_feeds, send
from tests.rig.environment import Environment
from tests.rig.machine import Machine, this_machine
from tests.rig.measured import FEATURE_SET, measured_environment, surface
from tests.rig.progress import wait_until_published
from tests.rig.traffic import Load, Message, now_ms
from workers.codec.formats import Format

_ITEMS = 10
"""Of a request, on the curve over open requests."""
_LINEAR = 1.15

Say = Callable[[str], None]


@dataclass(frozen=True)
class CurveLimits:
    """The points of each curve, and how much is measured at each: candidates, or seconds.

    Both counts of candidates are a multiple of what a client fetches ahead, or the cost of fetching
    them would lie before the first feed.
    """

    seed: int = 1
    candidates: int = 300_000
    open_candidates: int = 500_000
    turns: int = 2
    seconds: float = 10.0
    open_requests: tuple[int, ...] = (100, 1000, 10_000, 100_000)
    partitions: tuple[int, ...] = (1, 4, 16, 64)
    surfaces: tuple[int, ...] = (1, 10, 100, 1000)
    objectives: tuple[int, ...] = (1, 2, 4, 8)
    batches: tuple[int, ...] = (1, 5, 10, 50)
    rates: tuple[int, ...] = (100, 500, 1000)
    lingers_ms: tuple[int, ...] = (0, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class Series:
    """One line of a picture: `values` at the points of the curve."""

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Curve:
    """A picture: what is measured (`y`) at each of the `points` of what grows (`x`)."""

    name: str
    title: str
    x: str
    y: str
    points: tuple[int, ...]
    series: tuple[Series, ...]

    def lines(self) -> Iterator[str]:
        """As lines of the report."""
        yield f"\n{self.title}: {self.y}"
        yield f"  {self.x:<36}" + "".join(f"{point:>10,}" for point in self.points)
        for series in self.series:
            yield f"  {series.name:<36}" + "".join(f"{value:>10.2f}" for value in series.values)


@dataclass(frozen=True)
class CurvesReport:
    """All curves."""

    machine: Machine
    limits: CurveLimits
    curves: tuple[Curve, ...]

    def as_json(self) -> dict[str, Any]:
        """The same figures, for `--json`."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """The report as a page."""
        yield from self.machine.lines()
        for curve in self.curves:
            yield from curve.lines()
        yield ""
        for row in self.rows():
            yield row.line()

    def rows(self) -> Iterator[Row]:
        """Rows of the table of goals: a candidate costs the same, whatever grows."""
        curves = {curve.name: curve for curve in self.curves}
        for name in ("open-requests", "partitions", "surfaces"):
            curve = curves[name]
            values = curve.series[0].values
            yield Row(
                Goal(
                    f"{curve.points[0]:,} to {curve.points[-1]:,} {curve.x}", "+-15 %", most=_LINEAR
                ),
                ", ".join(f"{value:.2f}" for value in values) + " us",
                round(max(values) / min(values), 3),
            )
        curve = curves["objectives"]
        yield _objectives_row(curve.points, curve.series[0].values)


def _objectives_row(points: Sequence[int], values: Sequence[float]) -> Row:
    """The cost at the last point beside that on the straight line through the first point and the
    one in the middle.
    """
    middle = len(points) // 2
    slope = (values[middle] - values[0]) / (points[middle] - points[0])
    expected = values[0] + slope * (points[-1] - points[0])
    return Row(
        Goal("each further objective costs the same", "+-15 %", most=_LINEAR),
        f"{points[-1]} cost {values[-1]:.2f} us, by the first ones {expected:.2f}",
        round(values[-1] / expected, 3),
    )


def measure_curves(env: Environment, limits: CurveLimits, say: Say) -> CurvesReport:
    """Measure every curve on the servers of an environment."""
    curves = (
        _over_open_requests(env, limits, say),
        _over_partitions(env, limits, say),
        _over_surfaces(env, limits, say),
        _over_objectives(env, limits, say),
        _over_batches(env, limits, say),
        _over_rates(env, limits, say),
        *_over_lingers(env, limits, say),
    )
    return CurvesReport(this_machine(), limits, curves)


def _over_open_requests(env: Environment, limits: CurveLimits, say: Say) -> Curve:
    load = Load(limits.seed, _ITEMS)
    judged = limits.open_candidates // _ITEMS
    backlogs = []
    for count in limits.open_requests:
        say(f"curve: a backlog with {count:,} open requests")
        own = env.fresh(TRIMTAB_MAX_OPEN_REQUESTS=str(2 * count))
        send(own, staggered(load, judged + count, count, now_ms()))
        backlogs.append((own, count))

    costs: list[list[float]] = [[] for _ in backlogs]
    for _ in range(limits.turns):
        for place, (backlog, count) in enumerate(backlogs):
            say(f"curve: {count:,} open requests")
            own = backlog.fresh(candidates=backlog.candidates)
            cost = _cost_while_open(own, judged, count)
            costs[place].append(cost.microseconds)
    return Curve(
        name="open-requests",
        title="Open requests of 10 items",
        x="open requests",
        y="CPU us a candidate",
        points=limits.open_requests,
        series=(Series(WORKER.name, tuple(round(median(one), 2) for one in costs)),),
    )


def staggered(load: Load, requests: int, open_at_once: int, requested_at: int) -> Iterator[Message]:
    """Single events of requests that open one after the other and close in the same order, with
    `open_at_once` open at each moment, but for the beginning and the end.
    """
    items = load.candidates
    for step in range(requests + open_at_once):
        for place in range(items):
            request = step - place * open_at_once // (items - 1)
            if 0 <= request < requests:
                yield load.message(request, place, requested_at, items)


def _cost_while_open(env: Environment, judged: int, open_at_once: int) -> Cost:
    """The cost of the first `judged` requests to close: as many open while others close."""
    requests = judged + open_at_once
    with WORKER.start(env) as worker, Meter(worker.pid) as meter:
        wait_until_published(env, worker, requests * _ITEMS)
        feeds = read_all_feeds(env, requests)
    return cost_of(meter, moments_of(feeds)[:judged], _ITEMS)


def _over_partitions(env: Environment, limits: CurveLimits, say: Say) -> Curve:
    points = [(replace(env, partitions=count), SINGLE_JSON) for count in limits.partitions]
    values = _worker_costs("partitions", points, limits, say)
    return _cost_curve(
        "partitions", "Partitions, single JSON", "partitions", limits.partitions, values
    )


def _over_surfaces(env: Environment, limits: CurveLimits, say: Say) -> Curve:
    points = []
    for count in limits.surfaces:
        names = surface_names(count)
        sections = [surface(name, {"quality": 0.5, "engagement": 0.5}) for name in names]
        points.append(
            (_models(env, f"surfaces-{count}", FEATURE_SET + "".join(sections)), SINGLE_JSON)
        )
    values = _worker_costs("surfaces", points, limits, say, limits.surfaces)
    title = "Surfaces that share their models, single JSON"
    return _cost_curve("surfaces", title, "surfaces", limits.surfaces, values)


def _over_objectives(env: Environment, limits: CurveLimits, say: Say) -> Curve:
    points = []
    for count in limits.objectives:
        names = [f"objective-{number}" for number in range(count)]
        section = surface("home", dict.fromkeys(names, 1 / count))
        own = _models(env, f"objectives-{count}", FEATURE_SET + section, names)
        points.append((own, BATCH_JSON))
    values = _worker_costs("objectives", points, limits, say)
    title = "Objectives, batch JSON of 50"
    return _cost_curve("objectives", title, "objectives", limits.objectives, values)


def _over_batches(env: Environment, limits: CurveLimits, say: Say) -> Curve:
    series = []
    for wire in (Format.JSON, Format.PROTOBUF):
        shapes = [Input(f"{wire} {n}", wire, batch=n) for n in limits.batches]
        values = _worker_costs(
            f"{wire} in batches", [(env, shape) for shape in shapes], limits, say
        )
        series.append(Series(f"{WORKER.name}, {wire}", values))
    shapes = [Input(f"loop {n}", Format.JSON, batch=n) for n in limits.batches]
    values = _worker_costs(
        "plain loop in batches", [(env, shape) for shape in shapes], limits, say, program=PLAIN_LOOP
    )
    series.append(Series(f"{PLAIN_LOOP.name}, json", values))
    return Curve(
        name="batches",
        title="Candidates of an event, requests of 50",
        x="candidates of an event",
        y="CPU us a candidate",
        points=limits.batches,
        series=tuple(series),
    )


def _over_rates(env: Environment, limits: CurveLimits, say: Say) -> Curve:
    cases = []
    for rate in limits.rates:
        cases.append(StreamCase(f"worker, {rate}/s", WORKER, rate, limits.seconds, {LINGER: "0"}))
        cases.append(StreamCase(f"loop, {rate}/s", PLAIN_LOOP, rate, limits.seconds))
        cases.append(StreamCase(f"harness, {rate}/s", None, rate, limits.seconds))
    measured = measure_streams(env, cases, turns=1, seed=limits.seed, say=say)
    series = []
    for place, name in enumerate(("worker, linger 0", "plain loop", "harness alone")):
        own = measured[place::3]
        series.append(Series(f"{name}, p50", tuple(one.p50_ms for one in own)))
        series.append(Series(f"{name}, p99", tuple(one.p99_ms for one in own)))
    return Curve(
        name="load",
        title="Load, requests of 50 in events of 10",
        x="requests a second",
        y="latency, ms",
        points=limits.rates,
        series=tuple(series),
    )


def _over_lingers(env: Environment, limits: CurveLimits, say: Say) -> tuple[Curve, Curve]:
    cases = [
        StreamCase(f"worker, linger {ms} ms", WORKER, 100, limits.seconds, {LINGER: str(ms)})
        for ms in limits.lingers_ms
    ]
    measured = measure_streams(env, cases, turns=1, seed=limits.seed, say=say)
    cpu = tuple(one.microseconds or 0.0 for one in measured)
    p50 = tuple(one.p50_ms for one in measured)
    p99 = tuple(one.p99_ms for one in measured)
    title = "Linger at 100 requests/s of 50, events of 10"
    return (
        _cost_curve("linger", title, "linger, ms", limits.lingers_ms, cpu),
        Curve(
            name="linger-latency",
            title=title,
            x="linger, ms",
            y="latency, ms",
            points=limits.lingers_ms,
            series=(Series("p50", p50), Series("p99", p99)),
        ),
    )


def _worker_costs(
    what: str,
    points: Sequence[tuple[Environment, Input]],
    limits: CurveLimits,
    say: Say,
    surfaces: Sequence[int] = (),
    program: Program = WORKER,
) -> tuple[float, ...]:
    """The cost at each point, which is an environment and an input: the median of the turns."""
    topics = []
    for place, (env, shape) in enumerate(points):
        names = surface_names(surfaces[place]) if surfaces else ("home",)
        load = shape.load(limits.seed, names)
        own = env.fresh()
        requests = limits.candidates // shape.candidates
        send(own, load.interleaved(requests, now_ms(), batch=shape.batch), load.headers)
        topics.append(own.candidates)

    costs: list[list[float]] = [[] for _ in points]
    for _ in range(limits.turns):
        for place, (env, shape) in enumerate(points):
            say(f"curve: {what}, point {place + 1} of {len(points)}")
            own = env.fresh(candidates=topics[place])
            requests = limits.candidates // shape.candidates
            cost, _ = measure_backlog(program, own, shape, requests)
            costs[place].append(cost.microseconds)
    return tuple(round(median(one), 2) for one in costs)


def _cost_curve(
    name: str, title: str, x: str, points: tuple[int, ...], values: tuple[float, ...]
) -> Curve:
    series = (Series(WORKER.name, values),)
    return Curve(name=name, title=title, x=x, y="CPU us a candidate", points=points, series=series)


def surface_names(count: int) -> tuple[str, ...]:
    """The names of the surfaces of a point."""
    return tuple(f"surface-{number:04d}" for number in range(count))


def _models(
    env: Environment,
    name: str,
    surfaces: str,
    objectives: Sequence[str] = ("quality", "engagement"),
) -> Environment:
    folder = env.folder / name
    folder.mkdir()
    return measured_environment(env.kafka, env.redis, folder, surfaces, objectives)
