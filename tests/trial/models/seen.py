"""What the feeds of a trial of models come to, swap by swap. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tests.bench.rig import OBJECTIVES
from tests.trial.judge import MS, Span
from tests.trial.models import judge
from tests.trial.models.judge import Gap, Turn
from tests.trial.models.owner import Made
from tests.trial.models.plan import ADDED, REASONS
from tests.trial.models.report import Silence, SwapSeen
from tests.trial.models.stream import FeedScored
from tests.trial.stillness import Waking

Feeds = Mapping[int, Sequence[FeedScored]]
_ALL = (*OBJECTIVES, ADDED)


class Followed(NamedTuple):
    """How many feeds were scored by a version out of turn, and how each partition turned to each
    good swap.
    """

    astray: int
    turns: Mapping[Made, Sequence[Turn]]


def follow(feeds: Feeds, made: Sequence[Made]) -> Followed:
    """Hold every feed against the eras of every objective; a feed that is out of turn in several
    counts once.
    """
    astray, found = set[int](), dict[Made, list[Turn]]()
    for objective in _ALL:
        swaps = [
            one for one in made if one.swap.objective == objective and one.swap.kind not in REASONS
        ]
        eras = judge.eras_of(objective, made)
        for own in feeds.values():
            places = judge.eras_in_order(own, objective, eras)
            astray |= {feed.request for feed, era in zip(own, places, strict=True) if era is None}
            turns = judge.turns(own, places)
            for era, one in enumerate(swaps, start=1):
                found.setdefault(one, []).extend([turns[era]] if era in turns else [])
    return Followed(len(astray), found)


class Silences(NamedTuple):
    """Where no feed came: in the whole stream, and of a partition that had requests; and when a
    sleeper woke.
    """

    gaps: Sequence[Gap]
    waits: Sequence[Gap]
    wakings: Sequence[Waking]

    @classmethod
    def of(cls, feeds: Feeds, sent: Sequence[int], wakings: Sequence[Waking]) -> "Silences":
        """Those of some feeds."""
        every = [feed for own in feeds.values() for feed in own]
        return cls(
            judge.gaps(every),
            [gap for own in feeds.values() for gap in judge.waits(own, sent)],
            wakings,
        )

    def within(self, span: Span, apart_from: Sequence[Span] = ()) -> Silence:
        """The longest that meet a span, and none of some others."""
        gap, wait = (judge.longest(found, span, apart_from) for found in (self.gaps, self.waits))
        paused = max(judge.machine_paused(self.wakings, one) for one in (gap, wait))
        return Silence(round(gap.ms, 1), round(wait.ms, 1), round(paused, 1))


def spans_of(made: Sequence[Made], followed: Followed) -> list[Span]:
    """From before each swap to the first feed under it on the last partition; of a bad one, until
    all refused it.
    """
    return [_span(one, followed.turns.get(one, ())) for one in made]


def _span(one: Made, turns: Sequence[Turn]) -> Span:
    return Span(one.began, max(((turn.first + 1) * MS for turn in turns), default=one.known))


def swaps_seen(made: Sequence[Made], followed: Followed, silences: Silences) -> Iterator[SwapSeen]:
    """What came of each swap."""
    for one in made:
        turns = followed.turns.get(one, ())
        yield SwapSeen(
            kind=one.swap.kind,
            objective=one.swap.objective,
            version=one.swap.version,
            scored=tuple(_since(one, turn.first) for turn in turns),
            old=tuple(_since(one, turn.last) for turn in turns),
            both=_both(turns),
            known=round((one.known - one.complete) / MS, 1),
            silence=silences.within(_span(one, turns)),
        )


def _since(one: Made, ms: int) -> float:
    return round(max(0, (ms + 1) * MS - one.complete) / MS, 1)


def _both(turns: Sequence[Turn]) -> float:
    if not turns:
        return 0.0
    return max(0.0, 1.0 + max(turn.last for turn in turns) - min(turn.first for turn in turns))
