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

    def measure_halves(self, case: Case) -> tuple[Cost, Cost, list[Fetched]]:
        """What a case costs in the first half of its feeds and in the second, and its feeds. A
        program that gets faster as it runs shows it here.
        """
        env = case.env.fresh(candidates=self.topic(case.input), **case.variables)
        shape = case.input
        meter, feeds = _rank(case.program, env, shape, self.requests(shape))
        moments = moments_of(feeds)
        half = len(moments) // 2
        first = cost_of(meter, moments[:half], shape.candidates, segments=1)
        second = cost_of(meter, moments[half:], shape.candidates)
        return first, second, feeds

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
    meter, feeds = _rank(program, env, shape, requests)
    return cost_of(meter, moments_of(feeds), shape.candidates), feeds


def _rank(
    program: Program, env: Environment, shape: Input, requests: int
) -> tuple[Meter, list[Fetched]]:
    events = requests * -(-shape.candidates // shape.batch)
    with program.start(env) as process, Meter(process.pid) as meter:
        if program.commits:
            wait_until_published(env, process, events)
        else:
            process.wait_until(lambda: env.published() >= requests, _PATIENCE_SECONDS)
        feeds = read_all_feeds(env, requests)
    return meter, feeds


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
        measured.append(
            _cost(case.name, case.program, case.input, costs[case.name], costs[yardstick])
        )
    return measured


def cost_beside(
    name: str, program: Program, shape: Input, cost: Cost, yardstick: Cost
) -> BacklogCost:
    """The cost of one turn beside that of the yardstick."""
    return _cost(name, program, shape, [cost], [yardstick])


def _cost(
    name: str,
    program: Program,
    shape: Input,
    turns: Sequence[Cost],
    yardstick: Sequence[Cost],
) -> BacklogCost:
    ratios = []
    speeds = []
    for ours, theirs in zip(turns, yardstick, strict=True):
        ratios.append(round(ours.microseconds / theirs.microseconds, 3))
        speeds.append(round(ours.candidates_a_second / theirs.candidates_a_second, 3))
    return BacklogCost(
        name=name,
        program=program.name,
        delivery=program.delivery,
        lacks=program.lacks,
        input=shape.name,
        turns=tuple(turns),
        ratios=tuple(ratios),
        speed_ratios=tuple(speeds),
    )
