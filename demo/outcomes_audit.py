"""What `--outcomes` counts and claims. Pure.

Each claim is a fact that either holds or not. Some compare what Trimtab reported with what is true of
the simulated readers, which Trimtab does not know.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from demo.audit import Audit
from workers.ranking.experiment import CONTROL
from workers.steering.history import HistoryEntry

MAX_BACK_MS = 5_000
"""Within this time after an arm was stopped all of its users must be back in control."""


class Fact(NamedTuple):
    """Something that must be so, and whether it is."""

    text: str
    holds: bool


class Totals(NamedTuple):
    """Feeds that are closed, and what readers did with their items."""

    feeds: int
    seen: int
    takes: int


@dataclass(frozen=True)
class Books:
    """What the readers did, and what both stages of outcomes made of it.

    `interactions` counts those that the readers sent, `refused` those in the dead letters, and
    `counted` those in the sums of the join.
    """

    interactions: int
    refused: int
    counted: int
    over_feeds: Totals
    over_users: Totals


class Answer(NamedTuple):
    """What is kept of each feed. `weights` is their version, `ranked_at` in ms since the epoch."""

    request_id: str
    user_id: str
    arm: str
    weights: str
    ranked_at: int


@dataclass(frozen=True)
class Stop:
    """An arm that a guard rail has stopped.

    - `after_ms` is the time from the start of the experiment to the stop.
    - `back_ms` is the time from the stop until the last feed of the arm was ranked; 0 if there was
      none after the stop. `first_ms` is that until the first feed of control for one of its users;
      0 if there is none.
    - `feeds_after` counts the feeds after that of the users who had been in the arm, and `elsewhere`
      those of them that are not of control.
    """

    revision: int
    actor: str
    reason: str
    after_ms: int
    back_ms: int
    first_ms: int
    users: int
    feeds_after: int
    elsewhere: int


def follow_stop(entry: HistoryEntry, started_at: int, feeds: Sequence[Answer], arm: str) -> Stop:
    """What became of the users of an arm after it was stopped by the change `entry`, in an
    experiment that was started at `started_at`, in ms since the epoch.
    """
    stopped_at = entry.at
    of_arm = [feed for feed in feeds if feed.arm == arm]
    users = {feed.user_id for feed in of_arm}
    last_at = max((feed.ranked_at for feed in of_arm), default=stopped_at)
    back_at = max(last_at, stopped_at)

    later = [feed for feed in feeds if feed.user_id in users and feed.ranked_at > back_at]
    first_at = min((feed.ranked_at for feed in later if feed.arm == CONTROL), default=stopped_at)
    return Stop(
        revision=entry.revision,
        actor=entry.actor,
        reason=entry.reason,
        after_ms=stopped_at - started_at,
        back_ms=back_at - stopped_at,
        first_ms=first_at - stopped_at,
        users=len(users),
        feeds_after=len(later),
        elsewhere=sum(feed.arm != CONTROL for feed in later),
    )


@dataclass(frozen=True)
class Compared:
    """An arm as the report sees it, beside what is true. Lifts are fractions."""

    arm: str
    take_rate: float
    true_take_rate: float
    lift: float
    low: float
    high: float
    true_lift: float

    @property
    def is_inside(self) -> bool:
        """Whether the true lift is in the interval of the report."""
        return self.low <= self.true_lift <= self.high


@dataclass(frozen=True)
class OutcomesResult:
    """The result of `--outcomes`. What was not reached is None or empty.

    `winner` is the arm that was found better and promoted, `harmful` the one that must be stopped at
    `bound`, the lift that its take-rate may not fall below. `trouble` says why the demo was cut short.
    """

    audit: Audit
    winner: str
    harmful: str
    bound: float
    books: Books | None = None
    stop: Stop | None = None
    decided_after_ms: int | None = None
    compared: Mapping[str, Compared] | None = None
    promoted: bool = False
    trouble: str | None = None

    @property
    def good(self) -> bool:
        """Whether the demo came to its end and every fact holds."""
        return self.trouble is None and all(fact.holds for fact in self.facts())

    def facts(self) -> list[Fact]:
        """Everything that was counted and can be claimed so far."""
        audit = self.audit
        facts = [
            Fact(
                f"{audit.requests:,} requests, {audit.feeds:,} feeds: {len(audit.lost)} lost,"
                f" {len(audit.doubled)} doubled, {len(audit.torn)} torn",
                audit.clean,
            )
        ]
        if self.books is not None:
            facts += _facts_of_books(self.books, audit.feeds)
        if self.stop is not None:
            facts += _facts_of_stop(self.stop, self.harmful)
        if self.compared is not None:
            facts += self._facts_of_truth(self.compared)
        if self.trouble is None:
            facts.append(Fact(f"{self.winner} is promoted", self.promoted))
        return facts

    def _facts_of_truth(self, compared: Mapping[str, Compared]) -> list[Fact]:
        facts: list[Fact] = []
        if self.decided_after_ms is not None and self.winner in compared:
            lift = compared[self.winner].true_lift
            text = f"{self.winner} was found better, and it is: by {lift * 100:+.1f} %"
            facts.append(Fact(text, lift > 0))
        if self.stop is not None and self.harmful in compared:
            lift = compared[self.harmful].true_lift
            text = (
                f"{self.harmful} was stopped at {self.bound * 100:+.0f} %, and it truly is below:"
                f" {lift * 100:+.1f} %"
            )
            facts.append(Fact(text, lift < self.bound))
        return facts

    def document(self) -> dict[str, object]:
        """The result as `--json` prints it. Times in ms, rates and lifts as fractions."""
        compared: dict[str, object] = {}
        for arm, numbers in (self.compared or {}).items():
            compared[arm] = {
                "take_rate": numbers.take_rate,
                "true_take_rate": numbers.true_take_rate,
                "lift": numbers.lift,
                "interval": {"low": numbers.low, "high": numbers.high},
                "true_lift": numbers.true_lift,
            }
        return {
            "requests": self.audit.requests,
            "feeds": self.audit.feeds,
            "lost": len(self.audit.lost),
            "doubled": len(self.audit.doubled),
            "torn": len(self.audit.torn),
            "decided_after_ms": self.decided_after_ms,
            "stop": None
            if self.stop is None
            else {
                "arm": self.harmful,
                "after_ms": self.stop.after_ms,
                "back_ms": self.stop.back_ms,
                "first_ms": self.stop.first_ms,
                "actor": self.stop.actor,
                "reason": self.stop.reason,
            },
            "arms": compared,
            "promoted": self.promoted,
            "facts": [{"fact": fact.text, "holds": fact.holds} for fact in self.facts()],
            "trouble": self.trouble,
        }


def _facts_of_books(books: Books, feeds: int) -> list[Fact]:
    is_balanced = books.over_feeds == books.over_users and books.over_feeds.feeds == feeds
    return [
        Fact(
            f"{books.interactions:,} interactions sent: {books.counted:,} counted once,"
            f" {books.refused:,} refused",
            books.counted + books.refused == books.interactions,
        ),
        Fact(
            f"the join has {_totals_text(books.over_feeds)}; the users stage"
            f" {_totals_text(books.over_users)}",
            is_balanced,
        ),
    ]


def _facts_of_stop(stop: Stop, harmful: str) -> list[Fact]:
    return [
        Fact(
            f"no feed of {harmful} was ranked later than {stop.back_ms:,} ms after it was stopped",
            stop.back_ms <= MAX_BACK_MS,
        ),
        Fact(
            f"its {stop.users:,} users have got {stop.feeds_after:,} feeds since then,"
            f" {stop.elsewhere} of another arm than control",
            stop.feeds_after > 0 and stop.elsewhere == 0,
        ),
    ]


def _totals_text(totals: Totals) -> str:
    return f"{totals.feeds:,} feeds, {totals.seen:,} seen, {totals.takes:,} taken"
