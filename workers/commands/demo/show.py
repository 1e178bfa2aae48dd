"""What the demo prints: plain text for 100 columns, in colour on a terminal only."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import click

from workers.commands.demo.audit import Audit, InForce
from workers.commands.demo.claims import Arms, Foresight, Swap
from workers.ranking.experiment import CONTROL
from workers.ranking.feed import Feed
from workers.ranking.weights import Weights

Labels = Mapping[str, str]
"""Item id to what people read of a post."""

WIDTH = 100
_ROWS = 10
_NAMED = 3


class Narrator:
    """Prints to standard output, or beside it where that is for `--json`."""

    def __init__(self, beside: bool) -> None:
        self._beside = beside
        self._live = (sys.stderr if beside else sys.stdout).isatty()
        self._after_empty = False

    def say(self, *lines: str) -> None:
        """Print lines; without one, an empty line. Of empty lines in a row one is printed."""
        for line in lines or ("",):
            if line or not self._after_empty:
                click.echo(("\r\x1b[K" if self._live else "") + line, err=self._beside)
            self._after_empty = not line

    def head(self, text: str) -> None:
        """Print what comes next."""
        self.say("", click.style(text, bold=True), "")

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """Print what was made ready, as the block tells it, and how long that took."""
        told: list[str] = []
        began = time.monotonic()
        yield told.append
        self.say(f"  {name:<8} {' '.join(told):<{WIDTH - 20}} {time.monotonic() - began:5.1f} s")

    def note(self, text: str) -> None:
        """Print what happens meanwhile."""
        self.say(click.style(f"           {text}", dim=True))

    def count(self, text: str) -> None:
        """Show a line that the next one replaces; nothing where that is not possible."""
        if self._live:
            click.echo(f"\r\x1b[K  {text}", nl=False, err=self._beside)


def mix(weights: Weights) -> str:
    """A set of weights in words."""
    return " ".join(f"{objective} {weight:g}" for objective, weight in weights.values.items())


def formula(weights: Weights) -> str:
    """The final score in words."""
    return "final score = " + " + ".join(
        f"{weight:g} x {objective}" for objective, weight in weights.values.items()
    )


def clip(text: str, width: int) -> str:
    """The text in exactly so many columns, on one line, without what a terminal would not show."""
    shown = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return f"{shown[: width - 1]}…" if len(shown) > width else shown.ljust(width)


def feed_table(feed: Feed, labels: Labels) -> list[str]:
    """The top of a feed: position, final score, the score of each objective, post."""
    objectives = "".join(f"{objective:>12}" for objective in feed.weights.values)
    lines = [f"  pos  final score{objectives}  post"]
    for position, item in enumerate(feed.items[:_ROWS]):
        scores = "".join(f"{score:12.4f}" for score in item.scores)
        start = f"  {position:3d}  {item.final_score:11.4f}{scores}  "
        lines.append((start + clip(labels[item.item_id], WIDTH - len(start))).rstrip())
    return lines


def moves(before: Feed, after: Feed) -> Mapping[str, int]:
    """By how many positions each item of `after` that was in `before` moved, up being positive."""
    old = {item.item_id: position for position, item in enumerate(before.items)}
    return {
        item.item_id: old[item.item_id] - new
        for new, item in enumerate(after.items)
        if item.item_id in old
    }


def side_by_side(before: Feed, after: Feed, labels: Labels) -> list[str]:
    """The top of both orders of the same candidates, row by row; `moved` says by how many
    positions, + being up.
    """
    moved, half = moves(before, after), (WIDTH - 32) // 2
    lines = [
        f"       {clip(mix(before.weights), half + 8)}  {mix(after.weights)}",
        f"  pos   final  {'post':<{half}}   final  moved  post",
    ]
    for position, (old, new) in enumerate(
        zip(before.items[:_ROWS], after.items[:_ROWS], strict=False)
    ):
        left = f"  {position:3d}  {old.final_score:6.3f}  {clip(labels[old.item_id], half)}"
        move = f"{moved.get(new.item_id, 0):+d}".replace("+0", "=")
        lines.append(
            f"{left}  {new.final_score:6.3f}  {move:>5}  {clip(labels[new.item_id], half)}".rstrip()
        )
    return lines


def turn_lines(ranked_ms: int, readable_ms: int, command_ms: int) -> list[str]:
    """How long the write took to show."""
    return [
        f"  {ranked_ms:4d} ms later the first feed was ranked under them (its ranked_at),",
        f"  {readable_ms:4d} ms later it was readable under read_committed.",
        f"  Both counted from just before redis-cli was started, which took {command_ms} ms by itself.",
    ]


def foresight_lines(sent_again: int, found: Foresight) -> list[str]:
    """How the preview held."""
    good = "green" if found.holds else "red"
    part = (
        f" ({sent_again - found.compared} more came in part)" if found.compared < sent_again else ""
    )
    held = click.style(f"{found.as_previewed} of {found.compared}", fg=good, bold=True)
    return [
        f"  {sent_again} of the previewed requests, sent again: {held} feeds are as previewed{part},",
        "  the same order and the same final scores, bit for bit.",
    ]


def arms_lines(found: Arms) -> list[str]:
    """How many feeds each arm has, and whether users stay in theirs."""
    good = "red" if found.parted else "green"
    shares = ", ".join(
        f"{count:,} in {arm} ({found.percent(arm):.1f} %)"
        for arm, count in sorted(found.feeds.items())
    )
    parted = click.style(f"{found.parted} in more than one arm", fg=good, bold=True)
    return [
        f"  {found.total:,} feeds since its first: {shares}.",
        f"  {found.returning:,} users have several of them: {parted}.",
    ]


def swap_lines(found: Swap, objective: str, version: int) -> list[str]:
    """Whether the pin holds."""
    good = "red" if found.strayed else "green"
    strayed = click.style(f"{found.strayed} by another version", fg=good, bold=True)
    return [f"  {found.pinned:,} feeds since then: {strayed} than {objective}/{version}."]


def audit_lines(audit: Audit, written: InForce) -> list[str]:
    """The counts, how many feeds were ranked under each set of weights, and the first of what is
    wrong.
    """
    good = "green" if audit.clean else "red"
    wrong = f"{len(audit.lost)} lost, {len(audit.doubled)} doubled, {len(audit.torn)} torn"
    lines = [
        f"  {audit.requests:,} requests sent, {audit.feeds:,} feeds read under read_committed: "
        + click.style(wrong, fg=good, bold=True),
        *_under_lines(audit, written),
        *(
            f"  {feeds:7,} feeds by {objective}/{version}"
            for (objective, version), feeds in sorted(audit.by.items())
        ),
    ]
    if audit.partial:
        lines.append(
            f"  {len(audit.partial):,} feeds closed without some of their posts, as at a deadline"
        )
    for what, found in (("lost", audit.lost), ("doubled", audit.doubled)):
        lines += [f"    {what}: {request_id}" for request_id in found[:_NAMED]]
    return lines + [f"    torn: {request_id}: {why}" for request_id, why in audit.torn[:_NAMED]]


def _under_lines(audit: Audit, written: InForce) -> Iterator[str]:
    for arm, sets in written.items():
        for weights in sets:
            place = "" if arm == CONTROL else f", arm {arm}"
            yield f"  {audit.under.get((arm, weights.version), 0):7,} feeds under {mix(weights)}{place}"
