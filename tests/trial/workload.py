"""What the trials of steering and models have in common: workers under a stream of requests that never stops, what is
recorded meanwhile, and how their reports begin and end.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from tests.rig.background import Background, Signals
from tests.rig.environment import Environment
from tests.rig.machine import Machine, Wakeup, record_wakeups
from tests.rig.process import Process
from tests.rig.progress import wait_until_published
from tests.rig.statuses import Statuses
from tests.rig.times import Times
from tests.rig.topics import RecordReader
from tests.rig.traffic import Load, Pace, send_steadily
from workers.streaming.records import Fetched

SURFACE = "home"

Feed = TypeVar("Feed")
Actor = TypeVar("Actor")
Acts = TypeVar("Acts")
T = TypeVar("T")


@dataclass(frozen=True)
class Workload:
    """The worker processes and the stream: `rate` requests a second, each in `events` events."""

    seed: int = 1
    workers: int = 4
    rate: float = 100.0
    candidates: int = 50
    events: int = 5
    warm_up_seconds: float = 8.0

    @property
    def load(self) -> Load:
        """What is sent."""
        return Load(self.seed, self.candidates)

    def lines(
        self, machine: Machine, load: tuple[float, float], seconds: float, reported_by: str
    ) -> Iterator[str]:
        """The head of a report. `reported_by`: whose times count whole milliseconds."""
        before, after = load
        yield from machine.lines()
        yield (
            f"workload {self.workers} worker processes, one Kafka, one Redis; {self.rate:g} requests/s of "
            f"{self.candidates} candidates in {self.events} events; seed {self.seed}"
        )
        yield f"load     {before:.1f} before, {after:.1f} after; everything shares these cores; {seconds:.0f} s"
        yield f"times    upper bounds: {reported_by} report whole ms, taken as their end"


def counted_lines(requests: int, feeds: int, wrong: Mapping[str, int]) -> Iterator[str]:
    """The end of a report: all that must be 0."""
    yield f"\nCounted over {requests:,} requests, {feeds:,} feeds"
    for name, count in wrong.items():
        yield f"  {count:>3} {name}"


def figures(times: Times) -> str:
    """Percentiles and how many times they are of, on a line."""
    return f"{times.text()}  ({times.count:,})"


def goal(name: str, value: float, limit: float) -> str:
    """A figure beside its goal, both in ms."""
    verdict = "met" if value <= limit else "NOT MET"
    return f"{name} {value:.1f} ms, goal {limit:g} ms: {verdict}"


class Recording(NamedTuple, Generic[Feed, Acts]):
    """When each request was sent (ns), the feeds as they were read, when a sleeping process woke,
    and what was done.
    """

    sent: list[int]
    feeds: list[Feed]
    wakeups: list[Wakeup]
    acts: Acts


def record(
    env: Environment,
    workload: Workload,
    see: Callable[[Fetched], Feed],
    workers: AbstractContextManager[tuple[Actor, Process]],
    act: Callable[[Actor], Acts],
) -> Recording[Feed, Acts]:
    """Start the workers, and act while requests are sent. `see` makes of each feed what is kept."""
    pace = Pace(workload.rate, workload.events)
    with Background(record_feeds, env.kafka, env.feeds, see) as reading:
        with workers as (actor, process):
            with (
                Background(record_wakeups) as sleeping,
                Background(
                    send_steadily, env.kafka, env.candidates, workload.load, pace
                ) as sending,
            ):
                acts = act(actor)
                sent = sending.stop()
                wakeups = sleeping.stop()
            wait_until_published(env, process, len(sent) * workload.events)
        return Recording(sent, reading.stop(), wakeups, acts)


def record_feeds(signals: Signals, kafka: str, topic: str, see: Callable[[Fetched], T]) -> list[T]:
    """Read feeds until asked to end, and then to the end of the topic."""
    seen: list[T] = []
    with RecordReader(kafka, topic) as reader:
        signals.ready.set()
        while not (signals.stopping.is_set() and reader.has_reached(reader.ends())):
            feed = reader.poll(0.1)
            if feed is not None:
                seen.append(see(feed))
    return seen


@contextmanager
def start_workers(env: Environment, workers: int, statuses: Statuses) -> Iterator[Process]:
    """Workers that have shared out all partitions. More workers than partitions never have."""

    def have_shared_out() -> bool:
        owners = statuses.owners()
        partitions = [partition for partition, _ in owners]
        working = {worker for _, worker in owners}
        return partitions == list(range(env.partitions)) and len(working) == workers

    with env.start_worker("--processes", str(workers)) as process:
        process.wait_until(have_shared_out, patience=300.0)
        yield process
