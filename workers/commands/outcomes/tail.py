"""`trimtab outcomes tail`: what readers did with each feed, once its window has closed."""

import click
import msgspec

from workers.codec.outcomes import RequestOutcomes, decode_request_outcomes
from workers.commands.options import BrokersAt, brokers_options, example, json_option, settings
from workers.commands.tail import TailRange, print_tail, tail_options
from workers.commands.text import moment_text, printable, table
from workers.errors import Failure
from workers.streaming.records import Record


@click.command(epilog=example("trimtab outcomes tail --from-beginning --count 10 --json"))
@brokers_options
@settings("topic_request_outcomes")
@tail_options("closed feed")
@json_option("Print JSON, one closed feed a line.")
def tail(brokers: BrokersAt, topic_request_outcomes: str, shown: TailRange, as_json: bool) -> None:
    """Print the outcomes of each feed as soon as its window has closed.

    Records are read under read_committed. Exit code 1 if --timeout ends it before --count closed
    feeds were printed.
    """

    def render(record: Record) -> str | bytes:
        try:
            outcomes = decode_request_outcomes(record.value, record.headers)
        except ValueError as error:
            raise Failure(f"{error}, expected the outcomes of a feed") from None
        return msgspec.json.encode(outcomes) if as_json else outcomes_text(outcomes)

    print_tail(brokers, topic_request_outcomes, shown, "closed feed", render)


def outcomes_text(feed: RequestOutcomes) -> str:
    """The outcomes of a feed for people: a line about the feed, then a table of the items that had
    an outcome.
    """
    counts = [f"{feed.items} items", f"{feed.seen} seen", f"{feed.takes} taken"]
    counts += [f"{count} {name}" for name, count in feed.others.items()]
    about = (
        f"{feed.request_id}  {feed.surface}  {feed.arm}  {feed.completion}  {', '.join(counts)}"
        f"  weights {feed.weights}  published {moment_text(feed.published_at)}"
    )
    lines = [printable(about)]
    if feed.outcomes:
        rows = [["pos", "outcomes", "item"]]
        for item in feed.outcomes:
            rows.append([str(item.position), ", ".join(item.outcomes), item.item_id])
        lines += table(rows, align="rl")
    return "\n".join([*lines, ""])
