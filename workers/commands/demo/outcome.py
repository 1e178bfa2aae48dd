"""What comes of the demo: what was seen, what was counted, and the document that `--json` prints."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from workers.commands.demo.audit import Audit
from workers.commands.demo.claims import Arms, Foresight, Swap
from workers.commands.demo.watch import Seen
from workers.ranking.feed import Feed


@dataclass(frozen=True)
class Turn:
    """The write of other weights and the first feed under them; times in ms since the epoch."""

    began: int
    returned: int
    first: Seen

    @property
    def ranked_ms(self) -> int:
        """From just before redis-cli was started to the `ranked_at` of that feed."""
        return self.first.feed.ranked_at - self.began

    @property
    def readable_ms(self) -> int:
        """From just before redis-cli was started to when that feed was read under read_committed."""
        return self.first.readable_at - self.began


@dataclass(frozen=True)
class Outcome:
    """What came of it. `trouble` says why it was cut short; what was not reached is None."""

    audit: Audit
    turn: Turn | None
    before: Feed | None
    after: Feed | None
    foresight: Foresight | None
    arms: Arms | None
    swap: Swap | None
    trouble: str | None

    @property
    def good(self) -> bool:
        """Whether all was shown and is as it should be: nothing lost, doubled or torn, all as
        previewed, no user in two arms, the bad model refused, and the pin held.
        """
        foreseen = self.foresight is None or self.foresight.holds
        parted = self.arms is not None and self.arms.parted > 0
        swapped = self.swap is None or self.swap.holds
        return self.audit.clean and self.trouble is None and foreseen and not parted and swapped

    def document(self) -> dict[str, object]:
        """The outcome as `--json` prints it; an order is a list of item ids, the best first."""
        found = self.audit
        return {
            "requests": found.requests,
            "feeds": found.feeds,
            "lost": len(found.lost),
            "doubled": len(found.doubled),
            "torn": len(found.torn),
            "partial": len(found.partial),
            "ranked_ms": self.turn and self.turn.ranked_ms,
            "readable_ms": self.turn and self.turn.readable_ms,
            "before": self.before and _order(self.before),
            "after": self.after and _order(self.after),
            "preview": self.foresight and _foresight(self.foresight),
            "experiment": self.arms and _arms(self.arms),
            "models": _models(found.by),
            "swap": self.swap and asdict(self.swap),
            "trouble": self.trouble,
        }


def _order(feed: Feed) -> dict[str, object]:
    return {"weights": dict(feed.weights.values), "items": [item.item_id for item in feed.items]}


def _foresight(found: Foresight) -> dict[str, object]:
    return {"compared": found.compared, "as_previewed": found.as_previewed}


def _arms(found: Arms) -> dict[str, object]:
    return {
        "arms": dict(found.feeds),
        "returning_users": found.returning,
        "users_in_two_arms": found.parted,
    }


def _models(by: Mapping[tuple[str, int], int]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (objective, version), feeds in sorted(by.items()):
        found.setdefault(objective, {})[str(version)] = feeds
    return found
