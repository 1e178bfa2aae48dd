"""Programs on a backlog: all events are there before a program starts, so it is never idle.

Programs take turns on the same records: the machine is faster at one time than at another, so a
ratio is taken within a turn.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from tests.bench.cost import Cost, cost_of, moments_of
from tests.bench.inputs import Input
from tests.bench.meter import Meter
from tests.bench.programs import Program
from tests.bench.topics import read_all_feeds, send
from tests.rig.environment import Environment
from tests.rig.progress import wait_until_published
from tests.rig.traffic import now_ms
from workers.streaming.records import Fetched

Say = Callable[[str], None]
_PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class Case:
    """One program on one input. `env` has its models and surfaces; `variables` are its settings."""

    name: str
    program: Program
    input: Input
    env: Environment
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BacklogCost:
    """What a case has cost, turn by turn. `ratios` are those to the yardstick in the same turn."""

    name: str
    program: str
    delivery: str
    lacks: str
    input: str
    turns: tuple[Cost, ...]
    ratios: tuple[float, ...]
    speed_ratios: tuple[float, ...]

    @property
    def microseconds(self) -> float:
        """CPU a candidate: the median of the turns."""
        return round(median(turn.microseconds for turn in self.turns), 2)

    @property
    def candidates_a_second(self) -> int:
        """By the wall clock: the median of the turns."""
        return round(median(turn.candidates_a_second for turn in self.turns))

    @property
    def ratio(self) -> float:
        """CPU divided by that of the yardstick: the median of the turns."""
        return round(median(self.ratios), 3)

    @property
    def speed_ratio(self) -> float:
        """Candidates a second divided by those of the yardstick: the median of the turns."""
        return round(median(self.speed_ratios), 3)


class Backlogs:
    """The backlogs of one run, each written once. `candidates` is about how many each one has."""

    def __init__(self, env: Environment, seed: int, candidates: int) -> None:
        self._env = env
        self._seed = seed
        self._candidates = candidates
        self._written: dict[Input, str] = {}

    def requests(self, shape: Input) -> int:
        """How many requests the backlog of an input has."""
        return self._candidates // shape.candidates

    def measure(self, case: Case) -> tuple[Cost, list[Fetched]]:
        """What a case costs, and its feeds. They are read afterwards, so that reading does not
        disturb the program.
        """
        topic = self.topic(case.input)
        env = case.env.fresh(candidates=topic, **case.variables)
        return measure_backlog(case.program, env, case.input, self.requests(case.input))

    def topic(self, shape: Input) -> str:
        """The topic of an input. It is written at the first call."""
        if shape not in self._written:
            env = self._env.fresh()
            load = shape.load(self._seed)
            send(
                env,
                load.interleaved(self.requests(shape), now_ms(), batch=shape.batch),
                load.headers,
            )
            self._written[shape] = env.candidates
        return self._written[shape]


def measure_backlog(
    program: Program, env: Environment, shape: Input, requests: int
) -> tuple[Cost, list[Fetched]]:
    """Rank a backlog that is there. Returns the cost and the feeds."""
    events = requests * -(-shape.candidates // shape.batch)
    with program.start(env) as process, Meter(process.pid) as meter:
        if program.commits:
            wait_until_published(env, process, events)
        else:
            process.wait_until(lambda: env.published() >= requests, _PATIENCE_SECONDS)
        feeds = read_all_feeds(env, requests)
    return cost_of(meter, moments_of(feeds), shape.candidates), feeds


def measure_turns(
    backlogs: Backlogs, cases: Sequence[Case], yardstick: str, turns: int, say: Say
) -> list[BacklogCost]:
    """Measure all cases in each turn. The case named `yardstick` is what ratios are taken to."""
    costs: dict[str, list[Cost]] = {case.name: [] for case in cases}
    for turn in range(turns):
        for case in cases:
            say(f"turn {turn + 1}: {case.name}")
            cost, _ = backlogs.measure(case)
            costs[case.name].append(cost)

    measured = []
    for case in cases:
        ratios = []
        speeds = []
        for ours, theirs in zip(costs[case.name], costs[yardstick], strict=True):
            ratios.append(round(ours.microseconds / theirs.microseconds, 3))
            speeds.append(round(ours.candidates_a_second / theirs.candidates_a_second, 3))
        measured.append(
            BacklogCost(
                name=case.name,
                program=case.program.name,
                delivery=case.program.delivery,
                lacks=case.program.lacks,
                input=case.input.name,
                turns=tuple(costs[case.name]),
                ratios=tuple(ratios),
                speed_ratios=tuple(speeds),
            )
        )
    return measured
