"""`trimtab feeds tail`: ranked feeds as a downstream consumer reads them."""

import sys
from collections import Counter
from collections.abc import Iterator

import click

from workers.codec.feeds import decode_feed, encode_feed
from workers.codec.formats import Format
from workers.commands.options import BrokersAt, brokers_options, example, json_option, settings
from workers.commands.tail import TailRange, print_tail, tail_options
from workers.commands.text import NOTHING, printable, table, weights_text
from workers.ranking.feed import Feed
from workers.streaming.records import Record

_OBJECTIVE_WIDTH = 10
_SOURCE_WIDTH = 16


@click.group(epilog=example("trimtab feeds tail --from-beginning"))
def feeds() -> None:
    """Show ranked feeds."""


@feeds.command(epilog=example("trimtab feeds tail --from-beginning --count 10 --json"))
@brokers_options
@settings("topic_feeds")
@tail_options("feed")
@json_option("Print JSON, one feed a line.")
@click.option(
    "--top",
    type=click.IntRange(1),
    metavar="N",
    default=10,
    show_default=True,
    help="Show the first N items of each feed.",
)
def tail(brokers: BrokersAt, topic_feeds: str, shown: TailRange, as_json: bool, top: int) -> None:
    """Print feeds as soon as they are published.

    Feeds are read under read_committed. Exit code 1 if --timeout ends it before --count feeds were
    printed.
    """

    def render(record: Record) -> str | bytes:
        feed = decode_feed(record.value, record.headers)
        if as_json:
            return encode_feed(feed, Format.JSON, sys.maxsize)
        return feed_text(feed, top)

    print_tail(brokers, topic_feeds, shown, "feed", render)


def feed_text(feed: Feed, top: int) -> str:
    """A feed for people: a line about the feed, then a table of its first `top` items.

    The columns are position, final score, what rules added, the score of each objective, source and
    item. Those that a feed does not have are left out.
    """
    notes = "".join(f", {note}" for note in _notes(feed))
    weights = f"{feed.weights.version} ({weights_text(feed.weights.values)})"
    about = (
        f"{feed.request_id}  {feed.surface}  {feed.completion}  {len(feed.items)} items{notes}"
        f"  weights {weights}"
    )
    return "\n".join([printable(about), *_item_table(feed, top), ""])


def _notes(feed: Feed) -> Iterator[str]:
    """What is not among the items, and what they were ranked without."""
    if feed.refused:
        yield f"{feed.refused} refused"
    for reason, count in Counter(removal.reason for removal in feed.removed).items():
        yield f"{count} {reason}"
    if feed.unlisted:
        yield f"{feed.unlisted} removed"
    if feed.below_top_k:
        yield f"{feed.below_top_k} below top_k"
    if feed.truncated:
        yield f"{feed.truncated} truncated"
    if feed.defaulted:
        yield f"{len(feed.defaulted)} by default features"
    if feed.skipped:
        yield f"without {', '.join(feed.skipped)}"


def _item_table(feed: Feed, top: int) -> list[str]:
    has_adjustments = feed.diversity is not None
    has_sources = feed.has_source_rules

    head = ["pos", "final"]
    if has_adjustments:
        head.append("adjusted")
    head += [objective[:_OBJECTIVE_WIDTH] for objective in feed.weights.values]
    numbers = len(head)
    if has_sources:
        head.append("source")
    head.append("item")

    rows = [head]
    for position, item in enumerate(feed.items[:top]):
        row = [str(position), f"{item.final_score:.4f}"]
        if has_adjustments:
            row.append(f"{sum(item.adjustments.values()):.4f}")
        row += [f"{score:.4f}" for score in item.scores]
        if has_sources:
            row.append((item.source or NOTHING)[:_SOURCE_WIDTH])
        row.append(item.item_id)
        rows.append(row)
    return table(rows, align="r" * numbers + "l")
