"""Programs under a steady stream: what a candidate costs there, and how long a feed takes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

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
    """What a case has cost, and its latencies. The harness has no cost."""

    name: str
    program: str
    rate: float
    cost: Cost | None
    latency: Times


def measure_streams(
    env: Environment, cases: Sequence[StreamCase], seed: int, say: Say
) -> list[StreamCost]:
    """Measure each case on topics of its own."""
    load = STREAM_JSON.load(seed)
    events = STREAM_JSON.candidates // STREAM_JSON.batch
    measured = []
    for case in cases:
        say(f"stream: {case.name}")
        stream = Stream(load, round(case.rate * case.seconds), case.rate, events)
        own = env.fresh(**case.variables)
        cost: Cost | None = None
        if case.program is None:
            latency = measure_harness(own, stream)
        else:
            cost, latency = measure_steady(case.program, own, stream)
        program = "harness alone" if case.program is None else case.program.name
        measured.append(StreamCost(case.name, program, case.rate, cost, latency))
    return measured
