"""`trimtab feeds tail`: ranked feeds as a downstream consumer reads them."""

import sys

import click

from workers.codec.feeds import FeedUnreadable, decode_feed, encode_feed
from workers.codec.formats import Format
from workers.commands.options import KAFKA, cluster_of, example, settings
from workers.ranking.feed import Feed
from workers.streaming.read import Reader


@click.group(epilog=example("trimtab feeds tail --from-beginning"))
def feeds() -> None:
    """Ranked feeds."""


@feeds.command(epilog=example("trimtab feeds tail --from-beginning --count 10 --json"))
@settings(*KAFKA, "topic_feeds")
@click.option("--from-beginning", is_flag=True, help="Also what was published before.")
@click.option("--count", type=click.IntRange(1), help="Stop after so many feeds.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Stop after so many seconds of silence.")
@click.option("--json", "as_json", is_flag=True, help="One feed a line.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Items shown of each feed.")
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
    reader = Reader(cluster_of(kafka, kafka_config), topic_feeds, from_beginning)
    shown = 0
    try:
        for record in reader.records(follow=True, timeout=timeout):
            try:
                feed = decode_feed(record.value, record.headers)
            except FeedUnreadable as foreign:
                click.echo(f"{record.topic}/{record.partition}@{record.offset}: {foreign}", err=True)
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
    """A feed for people: position, final score, the score of each objective, item."""
    objectives = list(feed.weights.values)
    mix = ", ".join(f"{o} {w:g}" for o, w in feed.weights.values.items())
    left_out = ((feed.refused, "refused"), (feed.below_top_k, "below top_k"))
    lines = [
        f"{feed.request_id}  {feed.surface}  {feed.completion}  {len(feed.items)} items"
        f"{''.join(f', {count} {why}' for count, why in left_out if count)}  weights {feed.weights.version} ({mix})",
        "  ".join(["pos", "  final", *(f"{o[:10]:>10}" for o in objectives), "item"]),
    ]
    for position, item in enumerate(feed.items[:top]):
        scores = "  ".join(f"{score:10.4f}" for score in item.scores)
        lines.append(f"{position:3d}  {item.final_score:7.4f}  {scores}  {item.item_id}")
    return "\n".join([*lines, ""])
