"""The report on steering: what was changed, what was counted, and each figure beside its goal."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tests.rig.machine import Machine
from tests.rig.times import Times
from tests.trial.steering.judge import Applying, FeedCounts, Stale
from tests.trial.workload import Workload, counted_lines, figures, goal

APPLIED_P50_MS = 5.0
APPLIED_P99_MS = 20.0
STALE_P99_MS = 20.0
BACK_MS = 2000.0


@dataclass(frozen=True)
class Limits(Workload):
    """How much is tried."""

    changes: int = 1000
    acknowledged: int = 15
    outages: int = 3
    outage_seconds: float = 5.0


@dataclass(frozen=True)
class Changes:
    """The storm: how many changes of each kind, how long it and the calm before it lasted, and what
    came of it.

    `late_in_calm`, `late_in_storm`: how late a process woke that only sleeps.
    """

    kinds: dict[str, int]
    sets_in_force: int
    seconds: float
    applying: Applying
    stale: Stale
    calm: Times
    storm: Times
    late_in_calm: Times
    late_in_storm: Times
    races: int
    races_read_again: int
    races_wrong: int


@dataclass(frozen=True)
class Acknowledged:
    """`times`: from HSET sent to acknowledged. `false`: a worker was under another set then, or
    ranked under one.
    """

    times: Times
    false: int


@dataclass(frozen=True)
class OutageSeen:
    """One outage. `against` must be 0: feeds ranked in it under another set than the last good."""

    name: str
    gone_seconds: float
    feeds: Times
    against: int
    reported_ms: float | None
    applied_ms: float


@dataclass(frozen=True)
class Report:
    """`load` is the machine's load before and after (1 min)."""

    machine: Machine
    limits: Limits
    load: tuple[float, float]
    seconds: float
    feeds: FeedCounts
    changes: Changes
    acknowledged: Acknowledged
    outages: tuple[OutageSeen, ...]

    @property
    def wrong(self) -> dict[str, int]:
        """All that must be 0, by name."""
        return {
            "requests lost": self.feeds.lost,
            "feeds doubled": self.feeds.doubled,
            "feeds under a set that was not valid and in Redis": self.feeds.wrong_weights,
            "feeds not whole or with another sum": self.feeds.not_whole,
            "changes that a worker never applied": self.changes.applying.never,
            "races that not exactly one operator won": self.changes.races_wrong,
            "acknowledged falsely": self.acknowledged.false,
            "feeds of an outage not under the last good set": sum(
                outage.against for outage in self.outages
            ),
        }

    def as_json(self) -> dict[str, Any]:
        """The same figures, for `--json`."""
        return asdict(self) | {"wrong": self.wrong}

    def lines(self) -> Iterator[str]:
        """The report as a page."""
        yield from self.limits.lines(self.machine, self.load, self.seconds, "workers")
        yield from self._storm()
        yield from self._acknowledgements()
        yield from self._out()
        yield from counted_lines(self.feeds.requests, self.feeds.feeds, self.wrong)

    def _storm(self) -> Iterator[str]:
        changes = self.changes
        applying = self.changes.applying
        stale = self.changes.stale
        kinds = ", ".join(f"{count} {kind}" for kind, count in changes.kinds.items())
        made = f"{sum(changes.kinds.values()):,} in {changes.seconds:.0f} s"
        yield f"\nChanges: {made}, which made {changes.sets_in_force:,} valid sets"
        yield f"  {kinds}"
        yield f"  HSET to applied      {figures(applying.times)}"
        yield f"    over changes x workers; {goal('p50', applying.times.p50_ms, APPLIED_P50_MS)}"
        yield f"    {goal('p99', applying.times.p99_ms, APPLIED_P99_MS)}"
        yield (
            f"    left out: {applying.left_out}, replaced before a status named them; such a set was in force for "
            f"{applying.left_out_stood_ms:.1f} ms at most"
        )
        yield f"    or a later set     {figures(applying.or_later)}"
        yield f"  ranked under the old {figures(stale.times)}"
        yield f"    {stale.share:.2%} of the feeds; {goal('p99', stale.times.p99_ms, STALE_P99_MS)}"
        yield f"  push to applied      {figures(applying.push)}"
        yield f"  feeds, calm before   {figures(changes.calm)}"
        yield f"  feeds, changes       {figures(changes.storm)}"
        yield f"    {_ratios(changes.storm, changes.calm)}"
        yield f"  woken late, calm     {figures(changes.late_in_calm)}"
        yield f"  woken late, changes  {figures(changes.late_in_storm)}"
        yield "    a process that only sleeps, beside: what the machine itself adds"
        yield (
            f"  two operators at once: {changes.races} times, exactly one won {changes.races - changes.races_wrong} "
            f"times; both had to read again {changes.races_read_again} times"
        )

    def _acknowledgements(self) -> Iterator[str]:
        seen = self.acknowledged
        yield f"\nAcknowledged: {seen.times.count} changes, each waited for with `trimtab weights wait`"
        yield f"  HSET to acknowledged {figures(seen.times)}"
        yield f"  falsely: {seen.false}"

    def _out(self) -> Iterator[str]:
        yield "\nOutages of Redis in mid-stream"
        for outage in self.outages:
            yield f"  {outage.name}, gone for {outage.gone_seconds:.1f} s"
            yield f"    feeds              {figures(outage.feeds)}"
            yield f"      {_ratios(outage.feeds, self.changes.calm)}; not under the last good set: {outage.against}"
            if outage.reported_ms is not None:
                yield f"    all workers reported again {outage.reported_ms:.0f} ms after its return, on the same set"
            yield f"    a set then applied by all: {goal('within', outage.applied_ms, BACK_MS)}"


def _ratios(ours: Times, calm: Times) -> str:
    if not calm.count or not ours.count:
        return "no feeds to compare"
    return f"{ours.p50_ms / calm.p50_ms:.2f} times the calm p50, {ours.p99_ms / calm.p99_ms:.2f} times the calm p99"
