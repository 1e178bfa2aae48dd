"""The report on swaps of models: what was swapped, what was counted, and each figure beside its
goal.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tests.rig.machine import Machine
from tests.rig.times import Times
from tests.trial.models.plan import REASONS, Kind
from tests.trial.workload import Workload, counted_lines, figures, goal

TOGETHER_MS = 2000.0
GAP_MS = 200.0


@dataclass(frozen=True)
class Limits(Workload):
    """How much is tried; every kind of bad version comes once.

    A trip is three swaps: an older version activated, rolled back, latest again.
    """

    copies: int = 9
    trips: int = 2
    calm_seconds: float = 30.0


@dataclass(frozen=True)
class Silence:
    """The longest time without a feed, in ms.

    `gap` is between two feeds of the whole stream, `wait` that of one worker while a request was
    there to be ranked; `paused`: how late a process woke that only sleeps, in either.
    """

    gap: float
    wait: float
    paused: float

    @property
    def longest(self) -> float:
        """The longer of the two (ms)."""
        return max(self.gap, self.wait)

    def is_explained_by_a_swap(self, elsewhere: float) -> bool:
        """Whether it is over the goal without the machine's own pause, and longer than the longest
        without a swap.
        """
        return self.longest - self.paused > GAP_MS and self.longest > elsewhere


@dataclass(frozen=True)
class SwapSeen:
    """What came of one swap, in ms from when it was complete; nothing of a bad one but when all
    workers refused it.

    `scored`: each partition's first feed by the new version; `old`: each one's last feed before it.
    `both`: for how long feeds were ranked by both versions. `known`: until all workers reported it.
    """

    kind: Kind
    objective: str
    version: int
    scored: tuple[float, ...]
    old: tuple[float, ...]
    both: float
    known: float
    silence: Silence

    @property
    def is_bad(self) -> bool:
        """Whether the version must be refused."""
        return self.kind in REASONS


@dataclass(frozen=True)
class Report:
    """`load` is the machine's load before and after (1 min); `misnamed`: commands that named
    another version.

    `calm` is before all swaps, `apart` between them.
    """

    machine: Machine
    limits: Limits
    load: tuple[float, float]
    seconds: float
    swapping_seconds: float
    requests: int
    feeds: int
    lost: int
    doubled: int
    not_whole: int
    out_of_turn: int
    misscored: int
    unrefused: int
    misnamed: int
    partitions_moved: bool
    swaps: tuple[SwapSeen, ...]
    calm: Silence
    apart: Silence

    @property
    def wrong(self) -> dict[str, int]:
        """All that must be 0, by name."""
        return {
            "requests lost": self.lost,
            "feeds doubled": self.doubled,
            "feeds not whole, with another sum, or without one version for each weight": self.not_whole,
            "feeds by a version that was not to be in force": self.out_of_turn,
            "feeds with a score that its model does not give": self.misscored,
            "bad versions that a worker did not refuse for what is wrong with them": self.unrefused,
            "commands that named another version": self.misnamed,
        }

    @property
    def explained_by_swaps(self) -> int:
        """Swaps around which no feed came for so long that only the swap can be why."""
        elsewhere = max(self.calm.longest, self.apart.longest)
        return sum(swap.silence.is_explained_by_a_swap(elsewhere) for swap in self.swaps)

    def as_json(self) -> dict[str, Any]:
        """The same figures, for `--json`."""
        return asdict(self) | {"wrong": self.wrong, "explained_by_swaps": self.explained_by_swaps}

    def lines(self) -> Iterator[str]:
        """The report as a page."""
        yield from self._head()
        yield from self._swaps()
        yield from self._times()
        yield from self._silences()
        yield from counted_lines(self.requests, self.feeds, self.wrong)

    def _head(self) -> Iterator[str]:
        yield from self.limits.lines(
            self.machine, self.load, self.seconds, "workers and the broker"
        )
        if self.partitions_moved:
            yield "moved    partitions went from one worker to another: times are of partitions, not of workers"

    def _swaps(self) -> Iterator[str]:
        bad = sum(swap.is_bad for swap in self.swaps)
        added = sum(swap.kind in {Kind.ADDED, Kind.REMOVED} for swap in self.swaps)
        yield (
            f"\nSwaps: {len(self.swaps) - added} in {self.swapping_seconds:.0f} s, {bad} of them of bad models; "
            "an objective added and removed"
        )
        yield "  ms from complete to: last feed by the old, first by the new on the last worker; then both at work,"
        yield "  longest gap in the stream, longest wait of a worker's feeds, and a sleeper's lateness in these"
        for swap in self.swaps:
            yield f"  {swap.objective:<10} {swap.version:>2}  {swap.kind:<21} {_came_of(swap)}  {_text(swap.silence)}"

    def _times(self) -> Iterator[str]:
        good = [swap for swap in self.swaps if not swap.is_bad]
        copied = [swap for swap in good if swap.kind is Kind.COPIED]
        turned = [swap for swap in good if swap.kind is not Kind.COPIED]
        together = Times.of(_ns(max(swap.scored) for swap in good if swap.scored))
        both = Times.of(_ns(swap.both for swap in good))
        yield "\nFrom complete to the first feed by the new version, over swaps x workers"
        yield f"  folders copied       {figures(_over(swap.scored for swap in copied))}"
        yield f"  pins and weights     {figures(_over(swap.scored for swap in turned))}"
        yield f"  last by the old      {figures(_over(swap.old for swap in good))}"
        yield f"  all on the new       {figures(together)}"
        yield f"    {goal('max', together.max_ms, TOGETHER_MS)}"
        yield f"  both at work         {figures(both)}"
        yield f"    {goal('max', both.max_ms, TOGETHER_MS)}"
        yield f"  bad, refused by all  {figures(Times.of(_ns(swap.known for swap in self.swaps if swap.is_bad)))}"

    def _silences(self) -> Iterator[str]:
        yield "\nThe longest time without a feed: of the stream, of one worker with requests, a sleeper's lateness"
        yield f"  calm before          {_text(self.calm)}"
        yield f"  between swaps        {_text(self.apart)}"
        yield f"  around good swaps    {_text(_worst(swap.silence for swap in self.swaps if not swap.is_bad))}"
        yield f"  around bad models    {_text(_worst(swap.silence for swap in self.swaps if swap.is_bad))}"
        verdict = "met" if not self.explained_by_swaps else "NOT MET"
        yield (
            f"    over {GAP_MS:g} ms beyond the machine's own pause, and longer than without a swap: around "
            f"{self.explained_by_swaps} swaps, goal 0: {verdict}"
        )


def _came_of(swap: SwapSeen) -> str:
    if swap.is_bad:
        return f"refused by all at {swap.known:5.0f}    "
    return (
        f"{max(swap.old, default=0):5.0f} {max(swap.scored, default=0):5.0f}  both {swap.both:4.0f}"
    )


def _text(silence: Silence) -> str:
    return f"gap {silence.gap:5.0f} ms, wait {silence.wait:5.0f} ms, late {silence.paused:5.0f} ms"


def _worst(silences: Iterable[Silence]) -> Silence:
    found = list(silences)
    return Silence(
        gap=max((silence.gap for silence in found), default=0.0),
        wait=max((silence.wait for silence in found), default=0.0),
        paused=max((silence.paused for silence in found), default=0.0),
    )


def _over(groups: Iterable[Iterable[float]]) -> Times:
    return Times.of(_ns(time for group in groups for time in group))


def _ns(times: Iterable[float]) -> list[float]:
    return [time * 1e6 for time in times]
