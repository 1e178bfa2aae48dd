"""`trimtab weights margin`: how far a weight can move before published feeds change."""

import json
from collections.abc import Iterable, Iterator

import click

from workers.commands.options import arm_option, example, json_option, surface_argument
from workers.commands.redis_access import SteeringAt, steering_options
from workers.commands.text import NOTHING, table, weights_document, wrap
from workers.commands.weights.preview import (
    FeedsSample,
    sample_lines,
    sample_options,
    weights_lines,
)
from workers.errors import Failure
from workers.ranking.experiment import CONTROL
from workers.ranking.margin import (
    Crossing,
    FeedMargins,
    Margin,
    Margins,
    Spread,
    Spreads,
    margins_of,
)
from workers.ranking.weights import Weights

_TARGETS = ("first place", "first 10")
_DIRECTIONS = ("up", "down")


@click.command(
    epilog=example(
        "trimtab weights margin home --last 100", "trimtab weights margin home --request r-7f3a"
    )
)
@surface_argument
@arm_option("Start from the weights of this arm.  [default: control, the surface's own weights]")
@click.option("--request", "request_id", metavar="ID", help="Use only the feed of this request.")
@json_option()
@sample_options
@steering_options
def margin(
    surface: str,
    arm: str | None,
    request_id: str | None,
    as_json: bool,
    sample: FeedsSample,
    steering: SteeringAt,
) -> None:
    """Show how far each weight can move before feeds change.

    Each weight of SURFACE is moved alone, until another item of a published feed is first, or among
    the first 10. All feeds are summed up, and the newest one is also shown by itself. With --json
    every feed is.
    """
    with steering.open(surface) as opened:
        weights = opened.editor.read_view(opened.surface, arm).base_of(arm)
        bounds = opened.surface.weight_rules.bounds

    feeds = list(sample.feeds(surface))
    missing = "is published"
    if request_id is not None:
        feeds = [feed for feed in feeds if feed.request_id == request_id]
        missing = f"of request {request_id!r}"
    if not feeds:
        raise Failure(f"{surface}: no feed {missing}")

    margins = margins_of(reversed(feeds), weights, bounds)
    if as_json:
        click.echo(json.dumps(margin_document(margins, surface, arm or CONTROL)))
    else:
        click.echo("\n".join(margin_lines(margins, surface, arm or CONTROL)))


# For --json


def margin_document(margins: Margins, surface: str, arm: str) -> dict[str, object]:
    """Margins as schemas/cli/weights-margin.schema.json describes them."""
    summary: dict[str, object] = {}
    for objective, spreads in margins.spreads().items():
        summary[objective] = {
            "first_place": _spreads_document(spreads.first_place),
            "first_10": _spreads_document(spreads.first_10),
        }
    return {
        "surface": surface,
        "arm": arm,
        "weights": weights_document(margins.weights),
        "feeds": len(margins.feeds),
        "skipped": margins.skipped,
        "incomplete": margins.incomplete,
        "ruled": margins.with_source_rules,
        "summary": summary,
        "requests": [_feed_document(feed, margins.weights) for feed in margins.feeds],
    }


def _spreads_document(spreads: Spreads) -> dict[str, object]:
    document: dict[str, object] = {}
    for direction, spread in zip(_DIRECTIONS, spreads, strict=True):
        document[direction] = spread and spread._asdict()
    return document


def _feed_document(feed: FeedMargins, weights: Weights) -> dict[str, object]:
    objectives: dict[str, object] = {}
    for objective, margins in feed.objectives.items():
        weight = weights.values[objective]
        objectives[objective] = {
            "first_place": _margin_document(margins.first_place, weight),
            "first_10": _margin_document(margins.first_10, weight),
        }
    return {
        "request_id": feed.request_id,
        "items": feed.items,
        "whole": feed.whole,
        "exact": feed.exact,
        "objectives": objectives,
    }


def _margin_document(margin: Margin, weight: float) -> dict[str, object]:
    document: dict[str, object] = {}
    for direction, crossing in zip(_DIRECTIONS, margin, strict=True):
        document[direction] = crossing and {
            **crossing._asdict(),
            "weight": weight + crossing.move,
        }
    return document


# For people


def margin_lines(margins: Margins, surface: str, arm: str, shown: int = 1) -> list[str]:
    """Margins for people: all feeds together, then the first `shown` feeds one by one."""
    lines = sample_lines(
        surface,
        arm,
        feeds=len(margins.feeds),
        incomplete=margins.incomplete,
        skipped=margins.skipped,
    )
    if margins.with_source_rules:
        lines.append(
            f"{margins.with_source_rules:,} of them with rules on sources: the first 10 by weighted sums alone"
        )
    lines += weights_lines("weights", margins.weights)

    lines += [
        "",
        "How far one weight alone must move until another item is first, or among the first 10:",
    ]
    lines += _margin_table(_summary_rows(margins))

    for feed in margins.feeds[:shown]:
        lines += ["", *_feed_lines(feed, margins.weights)]
    return lines


def _summary_rows(margins: Margins) -> Iterator[list[str]]:
    yield ["OBJECTIVE", "UNTIL", "WAY", "WEIGHT", "SMALLEST", "MEDIAN", "FEEDS", "WITHIN BOUNDS"]
    for objective, of_objective in margins.spreads().items():
        weight = f"{margins.weights.values[objective]:g}"
        for target, spreads in zip(_TARGETS, of_objective, strict=True):
            for direction, spread in zip(_DIRECTIONS, spreads, strict=True):
                yield [objective, target, direction, weight, *_spread_cells(spread)]


def _spread_cells(spread: Spread | None) -> list[str]:
    if spread is None:
        return ["never", NOTHING, "0", "0"]
    return [
        f"{spread.smallest:+.4g}",
        f"{spread.median:+.4g}",
        f"{spread.feeds:,}",
        f"{spread.within_bounds:,}",
    ]


def _feed_lines(feed: FeedMargins, weights: Weights) -> list[str]:
    note = "" if feed.whole else ", incomplete: exact only among them"
    if feed.has_source_rules:
        note += ", rules on sources: the first 10 by weighted sums alone"

    lines = wrap(f"{feed.request_id}: {feed.items} items{note}", indent=2)
    lines += _margin_table(_feed_rows(feed, weights))
    if not _is_within_bounds(feed):
        lines.append("* outside weight_bounds")
    return lines


def _is_within_bounds(feed: FeedMargins) -> bool:
    for margins in feed.objectives.values():
        for margin in margins:
            for crossing in margin:
                if crossing is not None and not crossing.within_bounds:
                    return False
    return True


def _feed_rows(feed: FeedMargins, weights: Weights) -> Iterator[list[str]]:
    yield ["OBJECTIVE", "UNTIL", "WAY", "MOVE", "WEIGHT", "RISES", "IN PLACE OF"]
    for objective, margins in feed.objectives.items():
        weight = weights.values[objective]
        for target, margin in zip(_TARGETS, margins, strict=True):
            for direction, crossing in zip(_DIRECTIONS, margin, strict=True):
                yield [objective, target, direction, *_crossing_cells(crossing, weight)]


def _crossing_cells(crossing: Crossing | None, weight: float) -> list[str]:
    if crossing is None:
        return ["never", NOTHING, NOTHING, NOTHING]
    mark = " " if crossing.within_bounds else "*"
    return [
        f"{crossing.move:+.4g}",
        f"{weight + crossing.move:.4g}{mark}",
        crossing.rising,
        crossing.falling,
    ]


def _margin_table(rows: Iterable[list[str]]) -> list[str]:
    return table(rows, align="lllr", first_width=14, other_width=18)
