"""What both trials have in common: workers under a stream that never stops, and how their reports
begin and end.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from tests.bench.load import Load
from tests.bench.machine import Machine
from tests.bench.rig import Lane
from tests.bench.runner import Running
from tests.trial.apart import Apart
from tests.trial.judge import Span
from tests.trial.stillness import Waking, sleep_and_wake
from tests.trial.stream import read_feeds, send_requests
from workers.streaming.records import Fetched

Feed = TypeVar("Feed")
Stage = TypeVar("Stage")
Acts = TypeVar("Acts")


@dataclass(frozen=True)
class Scene:
    """So many workers and such a stream: `rate` is in requests a second, each in so many `events`."""

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
        self, machine: Machine, load: tuple[float, float], seconds: float, told_by: str
    ) -> Iterator[str]:
        """The head of a report; `told_by`: whose times count whole milliseconds."""
        yield from machine.lines()
        yield (
            f"scene    {self.workers} worker processes, one Kafka, one Redis; {self.rate:g} requests/s of "
            f"{self.candidates} candidates in {self.events} events; seed {self.seed}"
        )
        before, after = load
        yield f"load     {before:.1f} before, {after:.1f} after; everything shares these cores; {seconds:.0f} s"
        yield f"times    upper bounds: what {told_by} counts whole ms, taken as their end"


def counted_lines(requests: int, feeds: int, wrong: Mapping[str, int]) -> Iterator[str]:
    """The end of a report: all that must be 0."""
    yield f"\nCounted over {requests:,} requests, {feeds:,} feeds"
    for name, count in wrong.items():
        yield f"  {count:>3} {name}"


class Played(NamedTuple, Generic[Feed, Acts]):
    """When each request was sent (ns), the feeds as they were read, when a sleeper woke, and what
    was done.
    """

    sent: list[int]
    feeds: list[Feed]
    wakings: list[Waking]
    acts: Acts


def play(
    lane: Lane,
    scene: Scene,
    see: Callable[[Fetched], Feed],
    stage: AbstractContextManager[tuple[Stage, Running]],
    act: Callable[[Stage], Acts],
) -> Played[Feed, Acts]:
    """Act on a stage over one stream of requests; `see` makes of each feed what is kept of it."""
    place = lane.place
    with Apart(read_feeds, place.kafka, place.feeds, see) as reading:
        with stage as (ready, running):
            words = place.kafka, place.candidates, scene.load, scene.rate, scene.events
            with Apart(sleep_and_wake) as sleeping, Apart(send_requests, *words) as sending:
                acts = act(ready)
                sent, wakings = sending.end(), sleeping.end()
            lane.wait_until_published(running, len(sent) * scene.events)
        return Played(sent, reading.end(), wakings, acts)


def span_of(act: Callable[[], object]) -> Span:
    """From when something began to when it was done."""
    start = time.time_ns()
    act()
    return Span(start, time.time_ns())
