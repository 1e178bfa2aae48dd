"""Programs under a steady stream: what a candidate costs there, and how long a feed takes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from tests.bench.cost import Cost
from tests.bench.inputs import STREAM_JSON
from tests.bench.programs import Program
from tests.bench.steady import Stream, measure_harness, measure_steady
from tests.rig.environment import Environment
from tests.rig.times import Times

Say = Callable[[str], None]
LINGER = "TRIMTAB_LINGER_MS"


@dataclass(frozen=True)
class StreamCase:
    """A program under `rate` requests a second for `seconds`. Without a program: the harness alone.

    `variables` are settings of the program.
    """

    name: str
    program: Program | None
    rate: float
    seconds: float
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StreamCost:
    """What a case has cost and its latencies, turn by turn. The harness has no cost.

    The figures are medians of the turns.
    """

    name: str
    program: str
    rate: float
    costs: tuple[Cost, ...]
    latencies: tuple[Times, ...]

    @property
    def microseconds(self) -> float | None:
        """CPU a candidate. None for the harness."""
        if not self.costs:
            return None
        return round(median(cost.microseconds for cost in self.costs), 2)

    @property
    def p50_ms(self) -> float:
        """Half of the feeds are as fast."""
        return round(median(latency.p50_ms for latency in self.latencies), 2)

    @property
    def p99_ms(self) -> float:
        """All feeds but one of a hundred are as fast."""
        return round(median(latency.p99_ms for latency in self.latencies), 2)

    def line(self) -> str:
        """As a line of the report."""
        cpu = "" if self.microseconds is None else f"; CPU {self.microseconds:.1f} us a candidate"
        turns = ", ".join(f"{one.p50_ms:.1f}/{one.p99_ms:.1f}" for one in self.latencies)
        return (
            f"  {self.name:<44}p50 {self.p50_ms:6.1f} ms, p99 {self.p99_ms:6.1f} ms  ({turns}){cpu}"
        )


def measure_streams(
    env: Environment, cases: Sequence[StreamCase], turns: int, seed: int, say: Say
) -> list[StreamCost]:
    """Measure all cases in each turn, each on topics of its own."""
    load = STREAM_JSON.load(seed)
    events = STREAM_JSON.candidates // STREAM_JSON.batch
    costs: dict[str, list[Cost]] = {case.name: [] for case in cases}
    latencies: dict[str, list[Times]] = {case.name: [] for case in cases}
    for turn in range(turns):
        for case in cases:
            say(f"stream, turn {turn + 1}: {case.name}")
            stream = Stream(load, round(case.rate * case.seconds), case.rate, events)
            own = env.fresh(**case.variables)
            if case.program is None:
                latencies[case.name].append(measure_harness(own, stream))
                continue
            cost, latency = measure_steady(case.program, own, stream)
            costs[case.name].append(cost)
            latencies[case.name].append(latency)

    measured = []
    for case in cases:
        measured.append(
            StreamCost(
                name=case.name,
                program="harness alone" if case.program is None else case.program.name,
                rate=case.rate,
                costs=tuple(costs[case.name]),
                latencies=tuple(latencies[case.name]),
            )
        )
    return measured
