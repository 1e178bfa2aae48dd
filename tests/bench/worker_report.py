"""What one worker costs beside the plain loop and other peers: the figures, as lines and as rows of
the table of goals.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tests.bench.backlog import BacklogCost
from tests.bench.goals import Goal, Row, table_head
from tests.bench.memory import Memory
from tests.bench.streams import StreamCost
from tests.rig.machine import Machine

YARDSTICK = "plain loop, single JSON"
"""The case that ratios are taken to."""
STREAM = "stream, default linger"
PROTOBUF_FEEDS = "batch Protobuf of 100, Protobuf feeds"
TREES = "100 trees x 31 leaves, twice, batch Protobuf of 100"

_BACKLOG_GOALS = (
    Goal("single JSON", "ratio <= 0.55 (4.4 us)", most=0.55, is_compared=True),
    Goal("single Protobuf", "ratio <= 0.55 (4.4 us)", most=0.55, is_compared=True),
    Goal("batch JSON of 50", "ratio <= 0.40 (3.2 us)", most=0.40, is_compared=True),
    Goal("batch Protobuf of 100", "ratio <= 0.20 (1.6 us)", most=0.20, is_compared=True),
)
_PROTOBUF_FEEDS_GOAL = Goal(PROTOBUF_FEEDS, "no dearer than JSON feeds", most=1.0, is_compared=True)
_SHARE_GOAL = Goal(TREES, "share inside onnxruntime >= 0.70", least=0.70, is_compared=True)
_STREAM_GOAL = Goal(
    "stream of 100 requests/s x 50, events of 10", "ratio <= 2 (16 us)", most=2.0, is_compared=True
)
_LATENCY_GOALS = {100: (6.0, 20.0), 500: (8.0, 30.0)}
"""By requests a second: the most ms of p50 and p99."""
_MEMORY_GOAL = Goal("10,000 open requests of 50, resident", "<= 200 MiB", most=200.0)
_SPEED_GOAL = Goal("candidates/s of one process, single JSON", ">= 1.5 times the loop", least=1.5)


@dataclass(frozen=True)
class WorkerLimits:
    """How much is measured, and from which seed. Rates are in requests a second; `turns` are those of
    backlogs and of streams.
    """

    seed: int = 1
    backlog_candidates: int = 500_000
    turns: int = 3
    rates: tuple[int, ...] = (100, 500)
    stream_seconds: float = 10.0
    open_requests: int = 10_000


def latency_case(program: str, rate: int) -> str:
    """The name of the stream of a program at a rate, with linger 0."""
    return f"{program}, {rate} requests/s, linger 0"


@dataclass(frozen=True)
class WorkerReport:
    """`load` is the machine's load before and after (1 min). What was not asked for is empty."""

    machine: Machine
    limits: WorkerLimits
    load: tuple[float, float]
    backlogs: tuple[BacklogCost, ...]
    onnx_share: float | None
    streams: tuple[StreamCost, ...]
    memory: Memory | None

    def as_json(self) -> dict[str, Any]:
        """The same figures, for `--json`."""
        return asdict(self)

    def rows(self) -> Iterator[Row]:
        """The table of goals, as far as it was measured."""
        backlogs = {cost.name: cost for cost in self.backlogs}
        for goal in _BACKLOG_GOALS:
            if goal.workload in backlogs:
                yield _cost_row(goal, backlogs[goal.workload])
        yield from self._feed_rows(backlogs)
        yield from self._stream_rows(backlogs[YARDSTICK])
        if self.memory is not None:
            yield Row(
                _MEMORY_GOAL,
                f"{self.memory.open_mib:.0f} MiB, peak {self.memory.peak_mib:.0f}",
                self.memory.open_mib,
            )
        if "single JSON" in backlogs:
            ours = backlogs["single JSON"]
            theirs = backlogs[YARDSTICK].candidates_a_second
            measured = f"{ours.candidates_a_second:,}, loop {theirs:,}"
            yield Row(_SPEED_GOAL, measured, ours.speed_ratio)

    def _feed_rows(self, backlogs: dict[str, BacklogCost]) -> Iterator[Row]:
        if PROTOBUF_FEEDS in backlogs:
            protobuf = backlogs[PROTOBUF_FEEDS]
            json = backlogs["batch Protobuf of 100"]
            measured = f"{protobuf.microseconds:.2f} us, JSON {json.microseconds:.2f}"
            yield Row(_PROTOBUF_FEEDS_GOAL, measured, round(protobuf.ratio / json.ratio, 3))
        if self.onnx_share is not None:
            yield Row(_SHARE_GOAL, f"{self.onnx_share:.0%}", self.onnx_share)

    def _stream_rows(self, yardstick: BacklogCost) -> Iterator[Row]:
        streams = {one.name: one for one in self.streams}
        if STREAM in streams:
            microseconds = streams[STREAM].microseconds
            assert microseconds is not None
            ratio = microseconds / yardstick.microseconds
            yield Row(_STREAM_GOAL, f"{microseconds:.1f} us", round(ratio, 3))

        for rate, (p50, p99) in _LATENCY_GOALS.items():
            ours = streams.get(latency_case("worker", rate))
            if ours is None:
                continue
            loop = streams[latency_case("loop", rate)]
            harness = streams[latency_case("harness", rate)]
            workload = f"last candidate -> feed, {rate} requests/s, linger 0"
            yield Row(
                Goal(f"{workload}: p50", _latency_text(p50), most=min(p50, loop.p50_ms)),
                f"{ours.p50_ms:.1f}, loop {loop.p50_ms:.1f}, harness {harness.p50_ms:.1f}",
                ours.p50_ms,
            )
            yield Row(
                Goal(f"{workload}: p99", _latency_text(p99), most=min(p99, loop.p99_ms)),
                f"{ours.p99_ms:.1f}, loop {loop.p99_ms:.1f}, harness {harness.p99_ms:.1f}",
                ours.p99_ms,
            )

    def lines(self) -> Iterator[str]:
        """The report as a page."""
        limits = self.limits
        yield from self.machine.lines()
        yield f"events   32 features by position; 50 candidates a request, 100 in Protobuf batches; seed {limits.seed}"
        yield "models   two MLPs 32-64-32-1; Kafka on this machine, 4 partitions"
        before, after = self.load
        yield f"load     {before:.1f} before, {after:.1f} after; broker, producer and readers share these cores"

        yield f"\nGoals: the ratio is to the {YARDSTICK}, in the same turn; median of {limits.turns} turns"
        yield table_head()
        for row in self.rows():
            yield row.line()

        yield f"\nBacklogs of about {limits.backlog_candidates:,} candidates: CPU us a candidate, whole process"
        for cost in self.backlogs:
            yield _backlog_line(cost)
        if self.streams:
            yield (
                f"\nStreams of {limits.stream_seconds:g} s, 50 candidates a request in events of 10: "
                "p50 and p99 of each turn"
            )
        for stream in self.streams:
            yield stream.line()
        if self.memory is not None:
            yield from self.memory.lines()


def _latency_text(most_ms: float) -> str:
    return f"<= {most_ms:g} ms, and the loop's"


def _cost_row(goal: Goal, cost: BacklogCost) -> Row:
    turns = ", ".join(f"{ratio:.2f}" for ratio in cost.ratios)
    return Row(goal, f"{cost.microseconds:.2f} us (ratios {turns})", cost.ratio)


def _backlog_line(cost: BacklogCost) -> str:
    turns = ", ".join(f"{turn.microseconds:.2f}" for turn in cost.turns)
    peak = max(turn.peak_resident_mib for turn in cost.turns)
    return (
        f"  {cost.name:<54}{cost.delivery:<15}{cost.microseconds:7.2f}  ({turns})  ratio {cost.ratio:.2f}; "
        f"{cost.candidates_a_second:,} candidates/s, at most {peak:.0f} MiB resident"
    )
