"""`trimtab outcomes counts`: how many items were seen and taken.

Sums hold closed feeds only. `closed_until` says how far each partition is.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from contextlib import closing

import click

from workers.commands.options import (
    BrokersAt,
    PastTime,
    brokers_options,
    example,
    json_option,
    settings,
    surface_argument,
)
from workers.commands.text import NOTHING, hour_text, moment_text, printable, table, wrap
from workers.errors import Failure
from workers.outcomes.counts import GroupBy, OutcomeCounts, count_by, position_label
from workers.outcomes.records import HOUR_MS
from workers.streaming.feed_sums import FeedSumsReader

_ATTENTION = (
    "By position the counts are a picture of attention: what stands higher is seen and taken more"
    " because it stands there. Never compare arms through positions."
)
_SEVERAL_MODELS = "A feed that several models scored counts once for each of them."
_NO_ROWS = {
    GroupBy.MODEL: "No feed was scored by a model.",
    GroupBy.POSITION: "No item was seen.",
}
_CLOSED_ONLY = (
    "Sums hold closed feeds only, so they are one outcome window behind. All feeds that were"
    " published before these times are in:"
)


def _parse_group_by(_context: click.Context, _option: click.Parameter, name: str) -> GroupBy:
    return GroupBy(name)


@click.command(
    epilog=example(
        "trimtab outcomes counts home --by arm", "trimtab outcomes counts home --by hour --since 2d"
    )
)
@brokers_options
@settings("topic_feed_outcomes")
@surface_argument
@click.option(
    "--since",
    type=PastTime(),
    help="Count feeds from the hour of this time on: 2h or 7d ago, or 2026-01-31T18:30Z.",
)
@click.option(
    "--by",
    "group_by",
    type=click.Choice([group_by.value for group_by in GroupBy]),
    default=GroupBy.ARM.value,
    show_default=True,
    callback=_parse_group_by,
    help="What a row counts.",
)
@json_option("Print the counts as one JSON object.")
def counts(
    brokers: BrokersAt,
    topic_feed_outcomes: str,
    surface: str,
    since: int | None,
    group_by: GroupBy,
    as_json: bool,
) -> None:
    """Count what readers did with the feeds of a surface.

    Take-rate is takes divided by items seen, with its 95 % Wilson interval. Feeds count in the UTC
    hour in which they were published, and once their outcome window has closed. Exit code 1 if
    there is nothing to count.
    """
    with closing(
        FeedSumsReader(
            brokers.cluster(), topic_feed_outcomes, wants=lambda key: key.surface == surface
        )
    ) as reader:
        reader.read_to_end()
        chosen = [(outcomes.key, outcomes.sums) for outcomes in reader.latest(surface, since)]
    if not chosen:
        raise Failure(nothing_counted(reader.surfaces, surface, topic_feed_outcomes))

    rows = count_by(group_by, chosen)
    if as_json:
        click.echo(json.dumps(counts_document(surface, group_by, since, rows, reader.closed_until)))
    else:
        click.echo("\n".join(counts_lines(surface, group_by, since, rows, reader.closed_until)))


def nothing_counted(surfaces: Collection[str], surface: str, topic: str) -> str:
    """Why there is nothing to count. `surfaces` are those that have sums."""
    if not surfaces:
        return (
            f"{topic}: no feed is counted yet. A feed is counted once its outcome window has"
            " closed, by `trimtab outcomes join`"
        )
    if surface in surfaces:
        return f"surface: no feed of {surface!r} is counted since then in {topic}"
    known = ", ".join(sorted(surfaces))
    return f"surface: got {surface!r}, expected one that is counted in {topic}: {known}"


# For programs


def counts_document(
    surface: str,
    group_by: GroupBy,
    since: int | None,
    rows: Iterable[OutcomeCounts],
    closed_until: dict[int, int | None],
) -> dict[str, object]:
    """What --json prints. Times in ms since the epoch."""
    partitions = [
        {"partition": partition, "closed_until": until} for partition, until in closed_until.items()
    ]
    return {
        "surface": surface,
        "by": group_by,
        "since": since,
        "rows": [_row_document(group_by, row) for row in rows],
        "partitions": partitions,
    }


def _row_document(group_by: GroupBy, row: OutcomeCounts) -> dict[str, object]:
    label = row.label
    if group_by is GroupBy.HOUR:
        label = int(label) * HOUR_MS
    document: dict[str, object] = {"label": label}

    if group_by is not GroupBy.POSITION:
        document |= {"feeds": row.feeds, "items": row.items}
    document |= {"seen": row.seen, "takes": row.takes, "take_rate": row.take_rate}
    interval = row.interval
    document["interval"] = None if interval is None else interval._asdict()
    if group_by is not GroupBy.POSITION:
        document["others"] = row.others
    return document


# For people


def counts_lines(
    surface: str,
    group_by: GroupBy,
    since: int | None,
    rows: Sequence[OutcomeCounts],
    closed_until: dict[int, int | None],
) -> list[str]:
    """The table, and what one must know to read it."""
    title = f"{surface} by {group_by}"
    if since is not None:
        title += f", feeds from {moment_text(since // HOUR_MS * HOUR_MS)} on"
    lines = [printable(title), *_table(group_by, rows), ""]
    if not rows:
        lines += wrap(_NO_ROWS[group_by])

    if group_by is GroupBy.POSITION:
        lines += wrap(_ATTENTION)
    if group_by is GroupBy.MODEL:
        lines += wrap(_SEVERAL_MODELS)
    lines += wrap(_CLOSED_ONLY)
    for partition, until in closed_until.items():
        lines.append(
            f"  partition {partition}  {'nothing yet' if until is None else moment_text(until)}"
        )
    return lines


def _table(group_by: GroupBy, rows: Sequence[OutcomeCounts]) -> list[str]:
    is_by_position = group_by is GroupBy.POSITION
    others = list(dict.fromkeys(name for row in rows for name in row.others))

    head = [group_by.value]
    if not is_by_position:
        head += ["feeds", "items"]
    head += ["seen", "takes", "take-rate", "95 % interval", *others]

    cells = [head]
    for row in rows:
        line = [_label_text(group_by, row)]
        if not is_by_position:
            line += [f"{row.feeds:,}", f"{row.items:,}"]
        line += [f"{row.seen:,}", f"{row.takes:,}", *_rate_texts(row)]
        line += [f"{row.others.get(name, 0):,}" for name in others]
        cells.append(line)
    return table(cells, align="lr")


def _rate_texts(row: OutcomeCounts) -> list[str]:
    rate = row.take_rate
    interval = row.interval
    if rate is None or interval is None:
        return [NOTHING, NOTHING]
    return [_percent(rate), f"{_percent(interval.low)} to {_percent(interval.high)}"]


def _percent(rate: float) -> str:
    return f"{100 * rate:.2f} %"


def _label_text(group_by: GroupBy, row: OutcomeCounts) -> str:
    if group_by is GroupBy.HOUR:
        return hour_text(int(row.label))
    if group_by is GroupBy.POSITION:
        return position_label(int(row.label))
    return str(row.label)
