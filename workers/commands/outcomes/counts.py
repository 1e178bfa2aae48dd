"""`trimtab outcomes counts`: how many items were seen and taken.

Rules:
1. Each partition of `feed-outcomes` has absolute sums. The latest record of a key counts, and the
   partitions are added up.
2. A record that is no sums record ends the command: counts without it could be wrong.
3. Sums hold closed feeds only. `closed_until` says how far each partition is.
"""

import json
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass

import click

from workers.codec.outcomes import FeedOutcomes, decode_feed_outcomes
from workers.commands.options import (
    BrokersAt,
    PastTime,
    brokers_options,
    example,
    json_option,
    settings,
    surface_argument,
)
from workers.commands.text import NOTHING, moment_text, printable, table, wrap
from workers.errors import Failure
from workers.outcomes.counts import GroupBy, OutcomeCounts, count_by, position_label
from workers.outcomes.records import HOUR_MS
from workers.streaming.clients import Cluster
from workers.streaming.log_reader import TopicReader, partitions_of
from workers.streaming.records import Record

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


@dataclass(frozen=True)
class PartitionSums:
    """The sums of all partitions.

    `latest` has the latest record of each key and partition. `closed_until` has, for each
    partition, the time (ms since the epoch) before which every feed is in the sums; None if the
    partition has no sums yet.
    """

    latest: Sequence[FeedOutcomes]
    closed_until: dict[int, int | None]

    @property
    def surfaces(self) -> list[str]:
        """The surfaces that have sums."""
        return sorted({outcomes.key.surface for outcomes in self.latest})

    def of(self, surface: str, since: int | None) -> list[FeedOutcomes]:
        """The sums of one surface, from the hour on that `since` (ms since the epoch) is in."""
        first_hour = 0 if since is None else since // HOUR_MS
        chosen = []
        for outcomes in self.latest:
            if outcomes.key.surface == surface and outcomes.key.hour >= first_hour:
                chosen.append(outcomes)
        return chosen


def latest_records(records: Iterable[Record]) -> dict[tuple[int, bytes | None], Record]:
    """The latest record of each partition and key, from records in the order of their offsets."""
    latest: dict[tuple[int, bytes | None], Record] = {}
    for record in records:
        latest[record.partition, record.key] = record
    return latest


def read_sums(cluster: Cluster, topic: str) -> PartitionSums:
    """Read `feed-outcomes` to its end. Raises Failure, and KafkaException."""
    with closing(TopicReader(cluster, topic, from_beginning=True)) as reader:
        records = latest_records(reader.records(follow=False))
    partitions = partitions_of(cluster.admin(), topic, cluster)

    latest = []
    closed_until: dict[int, int | None] = dict.fromkeys(partitions)
    for record in records.values():
        try:
            outcomes = decode_feed_outcomes(record.value, record.headers)
        except ValueError as error:
            place = f"{record.topic}/{record.partition}@{record.offset}"
            raise Failure(f"{place}: {error}, expected sums of outcomes") from None

        latest.append(outcomes)
        if outcomes.closed_until >= 0:
            known = closed_until[record.partition]
            closed_until[record.partition] = max(known or 0, outcomes.closed_until)
    return PartitionSums(latest, closed_until)


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
    sums = read_sums(brokers.cluster(), topic_feed_outcomes)
    chosen = sums.of(surface, since)
    if not chosen:
        raise Failure(_nothing_counted(sums, surface, topic_feed_outcomes))

    rows = count_by(group_by, [(outcomes.key, outcomes.sums) for outcomes in chosen])
    if as_json:
        click.echo(json.dumps(counts_document(surface, group_by, since, rows, sums.closed_until)))
    else:
        click.echo("\n".join(counts_lines(surface, group_by, since, rows, sums.closed_until)))


def _nothing_counted(sums: PartitionSums, surface: str, topic: str) -> str:
    """Why there is nothing to count."""
    if not sums.latest:
        return (
            f"{topic}: no feed is counted yet. A feed is counted once its outcome window has"
            " closed, by `trimtab outcomes join`"
        )
    if surface in sums.surfaces:
        return f"surface: no feed of {surface!r} is counted since then in {topic}"
    known = ", ".join(sums.surfaces)
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
        return moment_text(int(row.label) * HOUR_MS).removesuffix(":00.000Z") + "Z"
    if group_by is GroupBy.POSITION:
        return position_label(int(row.label))
    return str(row.label)
