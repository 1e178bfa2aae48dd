"""`trimtab feeds tail`: ranked feeds as a downstream consumer reads them."""

import sys
from collections import Counter
from collections.abc import Iterator

import click

from workers.codec.feeds import FeedUnreadable, decode_feed, encode_feed
from workers.codec.formats import Format
from workers.commands.options import KAFKA, cluster_of, example, settings
from workers.ranking.feed import Feed
from workers.streaming.log_reader import TopicReader


@click.group(epilog=example("trimtab feeds tail --from-beginning"))
def feeds() -> None:
    """Ranked feeds."""


@feeds.command(epilog=example("trimtab feeds tail --from-beginning --count 10 --json"))
@settings(*KAFKA, "topic_feeds")
@click.option("--from-beginning", is_flag=True, help="Also what was published before.")
@click.option("--count", type=click.IntRange(1), help="Stop after so many feeds.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    help="Stop after so many seconds of silence.",
)
@click.option("--json", "as_json", is_flag=True, help="One feed a line.")
@click.option(
    "--top", type=click.IntRange(1), default=10, show_default=True, help="Items shown of each feed."
)
def tail(
    kafka: str | None,
    kafka_config: str | None,
    topic_feeds: str,
    from_beginning: bool,
    count: int | None,
    timeout: float | None,
    as_json: bool,
    top: int,
) -> None:
    """Print feeds as they become readable under read_committed.

    Exit code 1 where --timeout came before --count feeds had.
    """
    reader = TopicReader(cluster_of(kafka, kafka_config), topic_feeds, from_beginning)
    shown = 0
    try:
        for record in reader.records(follow=True, timeout=timeout):
            try:
                feed = decode_feed(record.value, record.headers)
            except FeedUnreadable as foreign:
                click.echo(
                    f"{record.topic}/{record.partition}@{record.offset}: {foreign}", err=True
                )
                continue
            click.echo(encode_feed(feed, Format.JSON, sys.maxsize) if as_json else table(feed, top))
            shown += 1
            if shown == count:
                return
    except KeyboardInterrupt:
        return
    finally:
        reader.close()
    if count is not None:
        click.echo(f"{shown} of {count} feeds within {timeout:g} s of silence", err=True)
        sys.exit(1)


def table(feed: Feed, top: int) -> str:
    """A feed for people: position, final score, what rules added, the score of each objective,
    source, item.
    """
    mix = ", ".join(f"{o} {w:g}" for o, w in feed.weights.values.items())
    lines = [
        f"{feed.request_id}  {feed.surface}  {feed.completion}  {len(feed.items)} items"
        f"{''.join(f', {note}' for note in _notes(feed))}  weights {feed.weights.version} ({mix})"
    ]
    for row in _rows(feed, top):
        lines.append("  ".join(row))
    return "\n".join([*lines, ""])


def _notes(feed: Feed) -> Iterator[str]:
    """What is not among the items, and what they were ranked without."""
    reasons = Counter(removal.reason for removal in feed.removed).items()
    cut = (
        ("removed", feed.unlisted),
        ("below top_k", feed.below_top_k),
        ("truncated", feed.truncated),
    )
    yield from (
        f"{count} {why}" for why, count in (("refused", feed.refused), *reasons, *cut) if count
    )
    if feed.defaulted:
        yield f"{len(feed.defaulted)} by default features"
    if feed.skipped:
        yield f"without {', '.join(feed.skipped)}"


def _rows(feed: Feed, top: int) -> Iterator[list[str]]:
    adjusted, sourced = feed.diversity is not None, feed.reads_sources
    head = [
        "pos",
        "  final",
        *(["adjusted"] * adjusted),
        *(f"{o[:10]:>10}" for o in feed.weights.values),
    ]
    yield [*head, *([f"{'source':<16}"] * sourced), "item"]
    for position, item in enumerate(feed.items[:top]):
        adjustment = [f"{sum(item.adjustments.values()):8.4f}"] * adjusted
        source = [f"{(item.source or '-')[:16]:<16}"] * sourced
        scores = [f"{score:10.4f}" for score in item.scores]
        yield [
            f"{position:3d}",
            f"{item.final_score:7.4f}",
            *adjustment,
            *scores,
            *source,
            item.item_id,
        ]
