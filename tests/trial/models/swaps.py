"""What the feeds of a trial of models come to, swap by swap. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tests.rig.environment import OBJECTIVES
from tests.rig.machine import Wakeup
from tests.rig.times import MS, Span
from tests.trial.models import judge
from tests.trial.models.feeds import FeedScored
from tests.trial.models.judge import Gap, Turn
from tests.trial.models.owner import Made
from tests.trial.models.plan import ADDED, REASONS
from tests.trial.models.report import Silence, SwapSeen

Feeds = Mapping[int, Sequence[FeedScored]]
_ALL = (*OBJECTIVES, ADDED)


class Followed(NamedTuple):
    """How many feeds were scored by a version out of turn, and how each partition turned to each
    good swap.
    """

    out_of_turn: int
    turns: Mapping[Made, Sequence[Turn]]


def follow(feeds: Feeds, swaps_made: Sequence[Made]) -> Followed:
    """Hold every feed against the periods of every objective. A feed that is out of turn in several
    counts once.
    """
    out_of_turn: set[int] = set()
    turns_to: dict[Made, list[Turn]] = {}
    for objective in _ALL:
        swaps = [
            made
            for made in swaps_made
            if made.swap.objective == objective and made.swap.kind not in REASONS
        ]
        periods = judge.periods_of(objective, swaps_made)
        for own in feeds.values():
            places = judge.periods_in_order(own, objective, periods)
            for feed, place in zip(own, places, strict=True):
                if place is None:
                    out_of_turn.add(feed.request)

            turns = judge.turns(own, places)
            for period, made in enumerate(swaps, start=1):
                found = turns_to.setdefault(made, [])
                if period in turns:
                    found.append(turns[period])
    return Followed(len(out_of_turn), turns_to)


class Silences(NamedTuple):
    """When no feed came: in the whole stream, and of a partition that had requests. And when a
    sleeping process woke.
    """

    gaps: Sequence[Gap]
    waits: Sequence[Gap]
    wakeups: Sequence[Wakeup]

    @classmethod
    def of(cls, feeds: Feeds, sent: Sequence[int], wakeups: Sequence[Wakeup]) -> "Silences":
        """Those of some feeds."""
        every = [feed for own in feeds.values() for feed in own]
        return cls(
            judge.gaps(every),
            [gap for own in feeds.values() for gap in judge.waits(own, sent)],
            wakeups,
        )

    def within(self, span: Span, apart_from: Sequence[Span] = ()) -> Silence:
        """The longest that meet a span, and none of some others."""
        gap = judge.longest(self.gaps, span, apart_from)
        wait = judge.longest(self.waits, span, apart_from)
        paused = max(
            judge.machine_paused(self.wakeups, gap), judge.machine_paused(self.wakeups, wait)
        )
        return Silence(round(gap.ms, 1), round(wait.ms, 1), round(paused, 1))


def spans_of(swaps_made: Sequence[Made], followed: Followed) -> list[Span]:
    """From before each swap to the first feed under it on the last partition; of a bad one, until
    all refused it.
    """
    return [_span(made, followed.turns.get(made, ())) for made in swaps_made]


def _span(made: Made, turns: Sequence[Turn]) -> Span:
    return Span(made.began, max(((turn.first + 1) * MS for turn in turns), default=made.known))


def swaps_seen(
    swaps_made: Sequence[Made], followed: Followed, silences: Silences
) -> Iterator[SwapSeen]:
    """What came of each swap."""
    for made in swaps_made:
        turns = followed.turns.get(made, ())
        yield SwapSeen(
            kind=made.swap.kind,
            objective=made.swap.objective,
            version=made.swap.version,
            scored=tuple(_since(made, turn.first) for turn in turns),
            old=tuple(_since(made, turn.last) for turn in turns),
            both=_both(turns),
            known=round((made.known - made.complete) / MS, 1),
            silence=silences.within(_span(made, turns)),
        )


def _since(made: Made, ms: int) -> float:
    return round(max(0, (ms + 1) * MS - made.complete) / MS, 1)


def _both(turns: Sequence[Turn]) -> float:
    if not turns:
        return 0.0
    return max(0.0, 1.0 + max(turn.last for turn in turns) - min(turn.first for turn in turns))
