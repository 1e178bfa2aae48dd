"""`trimtab weights preview`, and what a change of weights is previewed with: published feeds.

Feeds carry the scores of every objective. So a preview ranks them again and runs no model.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import click

from workers.codec.feeds import FeedUnreadable, decode_feed, read_feed_identity
from workers.commands.options import (
    KAFKA,
    BrokersAt,
    CommandFunction,
    PastTime,
    arm_option,
    example,
    fields_argument,
    gather,
    json_option,
    settings,
    surface_argument,
)
from workers.commands.redis_access import SteeringAt, steering_options
from workers.commands.text import (
    NOTHING,
    table,
    weights_document,
    weights_text,
    wrap,
)
from workers.ranking.experiment import CONTROL
from workers.ranking.feed import Feed
from workers.ranking.preview import Preview
from workers.ranking.preview import preview as preview_of
from workers.ranking.weights import Weights, WeightsRefused
from workers.settings import ConfigurationError
from workers.steering.documents import WEIGHTS
from workers.steering.view import SurfaceView
from workers.streaming.recent_records import Recent
from workers.streaming.records import Record

_DEFAULT_LAST = 1000
_CHANGES = (
    "anywhere",
    "in the first place",
    "in which items are the first 10",
    "in the order of the first 10",
)
_SAMPLE = (*KAFKA, "topic_feeds", "last", "since")


# The feeds that a change is previewed with


@dataclass(frozen=True)
class FeedsSample:
    """Published feeds: the newest `last`, or all `since` a time in ms since the epoch.

    At most one of the two is given. Without either: the newest 1,000.
    """

    brokers: BrokersAt
    topic: str
    last: int | None
    since: int | None

    @classmethod
    def of(
        cls,
        kafka: str | None,
        kafka_config: str | None,
        topic_feeds: str,
        last: int | None,
        since: int | None,
    ) -> "FeedsSample":
        """From the options of these names. Raises ConfigurationError."""
        if last is not None and since is not None:
            raise ConfigurationError("--last: given with --since, expected one of them")
        return cls(BrokersAt.of(kafka, kafka_config), topic_feeds, last, since)

    def feeds(self, surface: str) -> Iterator[Feed]:
        """The feeds of a surface, of all its arms. Raises ConfigurationError and Kafka's Failures."""
        recent = Recent(self.brokers.cluster(), self.topic)

        def is_of_surface(record: Record) -> bool:
            published = read_feed_identity(record.value, record.headers)
            return published is not None and published.surface == surface

        records: Iterable[Record]
        if self.since is not None:
            records = recent.since(self.since)
        else:
            records = recent.last(self.last or _DEFAULT_LAST, is_of_surface)

        for record in records:
            with suppress(FeedUnreadable):  # a record that is not a feed belongs to no surface
                if is_of_surface(record):
                    yield decode_feed(record.value, record.headers)


def sample_options(command: CommandFunction) -> CommandFunction:
    """--last, --since and where the feeds are, as `sample`."""
    last = click.option(
        "--last",
        type=click.IntRange(1),
        metavar="N",
        help=f"Use the newest N feeds.  [default: {_DEFAULT_LAST}]",
    )
    since = click.option(
        "--since",
        type=PastTime(),
        help="Use all feeds since this time: 10m, 2h or 1d ago, or 2026-01-31T18:30Z.",
    )
    gathered = gather("sample", _SAMPLE, FeedsSample.of)(command)
    return last(since(settings(*KAFKA, "topic_feeds")(gathered)))


# The change


weights_argument = fields_argument(
    "weights", metavar="OBJECTIVE=NUMBER...", expected="objective=number"
)


def changed_weights(view: SurfaceView, arm: str | None, fields: Mapping[str, str]) -> Weights:
    """The set in force with these fields changed.

    Raises ConfigurationError if workers would refuse it.
    """
    base = WEIGHTS.fields_of(view.base_of(arm))
    try:
        return view.rules.validate(base | dict(fields))
    except WeightsRefused as refused:
        raise ConfigurationError(f"weights: {refused}") from None


# The command


@click.command(
    epilog=example("trimtab weights preview home quality=0.2 engagement=0.8 --since 10m")
)
@surface_argument
@weights_argument
@arm_option("Preview a change of this arm.  [default: control, the surface's own weights]")
@json_option()
@sample_options
@steering_options
def preview(
    surface: str,
    weights: dict[str, str],
    arm: str | None,
    as_json: bool,
    sample: FeedsSample,
    steering: SteeringAt,
) -> None:
    """Show what changed weights would do to published feeds.

    Published feeds of SURFACE, of all its arms, are ranked again. Their order is the one that
    workers would publish for the same requests. Feeds carry the scores of every objective, so no
    model is run. An objective that is not named keeps the weight that is in force.
    """
    with steering.open(surface) as opened:
        view = opened.editor.read_view(opened.surface, arm)
    wanted = changed_weights(view, arm, weights)
    result = preview_of(sample.feeds(surface), view.base_of(arm), wanted)

    if as_json:
        click.echo(json.dumps(preview_document(result, surface, arm or CONTROL)))
    else:
        click.echo("\n".join(preview_lines(result, surface, arm or CONTROL)))


def preview_document(preview: Preview, surface: str, arm: str) -> dict[str, object]:
    """A preview as schemas/cli/weights-preview.schema.json describes it."""
    objectives = {name: shift._asdict() for name, shift in preview.objectives.items()}
    return {
        "surface": surface,
        "arm": arm,
        "before": weights_document(preview.before),
        "after": weights_document(preview.after),
        "feeds": preview.feeds,
        "skipped": preview.skipped,
        "incomplete": preview.incomplete,
        "changed": preview.changed._asdict(),
        "kendall_tau": preview.kendall_tau,
        "overlap_at_10": preview.overlap_at_10,
        "churn": preview.churn,
        "objectives": objectives,
        "movers": [mover._asdict() for mover in preview.movers],
    }


def preview_lines(preview: Preview, surface: str, arm: str) -> list[str]:
    """A preview for people."""
    lines = sample_lines(
        surface,
        arm,
        feeds=preview.feeds,
        incomplete=preview.incomplete,
        skipped=preview.skipped,
    )
    lines += weights_lines("before", preview.before)
    lines += weights_lines("after", preview.after)

    rows = [["FEEDS THAT CHANGE", "FEEDS", "SHARE"]]
    for name, count in zip(_CHANGES, preview.changed, strict=True):
        share = f"{count / preview.feeds:.1%}" if preview.feeds else NOTHING
        rows.append([name, f"{count:,}", share])
    lines += ["", *_preview_table(rows)]

    rows = [
        ["Kendall tau (1: the same order, -1: reversed)", _number(preview.kendall_tau)],
        ["overlap@10", _number(preview.overlap_at_10)],
        ["churn (1 - overlap@10)", _number(preview.churn)],
    ]
    lines += ["", *_preview_table(rows)]

    rows = [["MEAN SCORE IN THE FIRST 10", "BEFORE", "AFTER", "CHANGE"]]
    for objective, (before, after) in preview.objectives.items():
        change = None if before is None or after is None else after - before
        rows.append([objective, _number(before), _number(after), _number(change, "+")])
    lines += ["", *_preview_table(rows)]

    if not preview.movers:
        return [*lines, "", "No item moves."]
    rows = [["ITEMS THAT MOVE MOST, IN POSITIONS, UP IS +", "FEEDS", "MEAN", "LARGEST"]]
    for mover in preview.movers:
        mean = f"{mover.mean_move:+.2f}"
        largest = f"{mover.largest_move:+d}"
        rows.append([mover.item_id, f"{mover.feeds:,}", mean, largest])
    return [*lines, "", *_preview_table(rows)]


def _preview_table(rows: list[list[str]]) -> list[str]:
    return table(rows, align="lr", first_width=45, other_width=18)


def _number(value: float | None, sign: str = "") -> str:
    if value is None:
        return NOTHING
    return format(value, f"{sign}.4f" if abs(value) < 1e6 else f"{sign}.4g")


def sample_lines(surface: str, arm: str, *, feeds: int, incomplete: int, skipped: int) -> list[str]:
    """Which feeds were used, for people."""
    lines = wrap(f"{surface}, arm {arm}: {feeds:,} feeds", indent=2)
    if incomplete:
        lines.append(
            f"{incomplete:,} of them incomplete: exact only among the items on their records"
        )
    if skipped:
        lines.append(f"{skipped:,} more skipped: they have other objectives")
    return lines


def weights_lines(name: str, weights: Weights) -> list[str]:
    """A set of weights, with a name and its version, for people."""
    return wrap(weights_text(weights.values), label=f"{name:<8}{weights.version}  ")
