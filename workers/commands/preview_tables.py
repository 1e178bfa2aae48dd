"""Previews and margins as lines for a terminal of 100 columns, and as documents for --json."""

import textwrap
from collections.abc import Iterable, Iterator

from workers.commands.desk import set_document
from workers.ranking.margin import (
    Crossing,
    FeedMargins,
    Margin,
    Margins,
    ObjectiveMargins,
    Spread,
    Spreads,
)
from workers.ranking.preview import Preview
from workers.ranking.weights import Weights

WIDTH = 100
_CELL = 18
_FIRST_CELL = 45
_NARROW_FIRST_CELL = 14
_NOTHING = "-"
_WHERE = ("first place", "first 10")
_WAYS = ("up", "down")

Document = dict[str, object]
_Row = tuple[str, ...]


def preview_lines(preview: Preview, surface: str, arm: str) -> list[str]:
    """A preview for people."""
    return [
        *_counts(surface, arm, preview.feeds, preview.skipped, preview.incomplete),
        *_mix("before", preview.before),
        *_mix("after", preview.after),
        "",
        *_table([("FEEDS THAT CHANGE", "FEEDS", "SHARE"), *_changes(preview)]),
        "",
        *_table(_closeness(preview)),
        "",
        *_table([("MEAN SCORE IN THE FIRST 10", "BEFORE", "AFTER", "CHANGE"), *_shifts(preview)]),
        "",
        *_movers(preview),
    ]


def preview_document(preview: Preview, surface: str, arm: str) -> Document:
    """A preview as schemas/cli/weights-preview.schema.json describes it."""
    return {
        "surface": surface,
        "arm": arm,
        "before": set_document(preview.before),
        "after": set_document(preview.after),
        "feeds": preview.feeds,
        "skipped": preview.skipped,
        "incomplete": preview.incomplete,
        "changed": preview.changed._asdict(),
        "kendall_tau": preview.kendall_tau,
        "overlap_at_10": preview.overlap_at_10,
        "churn": preview.churn,
        "objectives": {
            objective: shift._asdict() for objective, shift in preview.objectives.items()
        },
        "movers": [mover._asdict() for mover in preview.movers],
    }


def margin_lines(margins: Margins, surface: str, arm: str, shown: int = 1) -> list[str]:
    """Margins for people: all feeds together, then the first `shown` feeds one by one."""
    feeds = margins.feeds[:shown]
    return [
        *_counts(surface, arm, len(margins.feeds), margins.skipped, margins.incomplete),
        *_ruled(margins.with_source_rules),
        *_mix("weights", margins.weights),
        "",
        "How far one weight alone must move until another item is first, or among the first 10:",
        *_table(_spread_rows(margins), left=3),
        *(line for feed in feeds for line in _feed_lines(feed, margins.weights)),
    ]


def margin_document(margins: Margins, surface: str, arm: str) -> Document:
    """Margins as schemas/cli/weights-margin.schema.json describes them."""
    return {
        "surface": surface,
        "arm": arm,
        "weights": set_document(margins.weights),
        "feeds": len(margins.feeds),
        "skipped": margins.skipped,
        "incomplete": margins.incomplete,
        "ruled": margins.with_source_rules,
        "summary": {
            objective: {"first_place": _ways(found.first_place), "first_10": _ways(found.first_10)}
            for objective, found in margins.spreads().items()
        },
        "requests": [_request(feed, margins.weights) for feed in margins.feeds],
    }


def _ways(spreads: Spreads) -> Document:
    return {way: spread and spread._asdict() for way, spread in zip(_WAYS, spreads, strict=True)}


def _request(feed: FeedMargins, weights: Weights) -> Document:
    return {
        "request_id": feed.request_id,
        "items": feed.items,
        "whole": feed.whole,
        "exact": feed.exact,
        "objectives": {
            o: _objective(found, weights.values[o]) for o, found in feed.objectives.items()
        },
    }


def _objective(found: ObjectiveMargins, weight: float) -> Document:
    return {
        "first_place": _crossings(found.first_place, weight),
        "first_10": _crossings(found.first_10, weight),
    }


def _crossings(margin: Margin, weight: float) -> Document:
    return {
        way: crossing and crossing._asdict() | {"weight": weight + crossing.move}
        for way, crossing in zip(_WAYS, margin, strict=True)
    }


def _counts(surface: str, arm: str, feeds: int, skipped: int, incomplete: int) -> list[str]:
    lines = _wrap(f"{surface}, arm {arm}: {feeds:,} feeds", "  ")
    if incomplete:
        lines.append(
            f"{incomplete:,} of them incomplete: exact only among the items on their records"
        )
    if skipped:
        lines.append(f"{skipped:,} more skipped: they have other objectives")
    return lines


def _ruled(feeds: int) -> list[str]:
    return (
        [f"{feeds:,} of them with rules on sources: the first 10 by weighted sums alone"]
        if feeds
        else []
    )


def _mix(name: str, weights: Weights) -> list[str]:
    start = f"{name:<8}{weights.version}  "
    mix = ", ".join(f"{objective} {weight:g}" for objective, weight in weights.values.items())
    return _wrap(start + mix, " " * len(start))


def _wrap(text: str, indent: str) -> list[str]:
    return textwrap.wrap(_printable(text), WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def _changes(preview: Preview) -> Iterator[_Row]:
    names = (
        "anywhere",
        "in the first place",
        "in which items are the first 10",
        "in the order of the first 10",
    )
    for name, count in zip(names, preview.changed, strict=True):
        share = f"{count / preview.feeds:.1%}" if preview.feeds else _NOTHING
        yield name, f"{count:,}", share


def _closeness(preview: Preview) -> list[_Row]:
    return [
        ("Kendall tau (1: the same order, -1: reversed)", _number(preview.kendall_tau)),
        ("overlap@10", _number(preview.overlap_at_10)),
        ("churn (1 - overlap@10)", _number(preview.churn)),
    ]


def _shifts(preview: Preview) -> Iterator[_Row]:
    for objective, (before, after) in preview.objectives.items():
        change = None if before is None or after is None else after - before
        yield objective, _number(before), _number(after), _number(change, "+")


def _movers(preview: Preview) -> list[str]:
    if not preview.movers:
        return ["No item moves."]
    rows = [
        (m.item_id, f"{m.feeds:,}", f"{m.mean_move:+.2f}", f"{m.largest_move:+d}")
        for m in preview.movers
    ]
    return _table(
        [("ITEMS THAT MOVE MOST, IN POSITIONS, UP IS +", "FEEDS", "MEAN", "LARGEST"), *rows]
    )


def _spread_rows(margins: Margins) -> Iterator[_Row]:
    yield "OBJECTIVE", "UNTIL", "WAY", "WEIGHT", "SMALLEST", "MEDIAN", "FEEDS", "WITHIN BOUNDS"
    for objective, found in margins.spreads().items():
        weight = f"{margins.weights.values[objective]:g}"
        for where, spreads in zip(_WHERE, found, strict=True):
            for way, spread in zip(_WAYS, spreads, strict=True):
                yield objective, where, way, weight, *_spread_cells(spread)


def _spread_cells(spread: Spread | None) -> _Row:
    if spread is None:
        return "never", _NOTHING, "0", "0"
    return (
        f"{spread.smallest:+.4g}",
        f"{spread.median:+.4g}",
        f"{spread.feeds:,}",
        f"{spread.within_bounds:,}",
    )


def _feed_lines(feed: FeedMargins, weights: Weights) -> list[str]:
    note = "" if feed.whole else ", incomplete: exact only among them"
    note += (
        ", rules on sources: the first 10 by weighted sums alone" if feed.has_source_rules else ""
    )
    rows = list(_feed_rows(feed, weights))
    outside = ["* outside weight_bounds"] if any(row[-3].endswith("*") for row in rows) else []
    return [
        "",
        *_wrap(f"{feed.request_id}: {feed.items} items{note}", "  "),
        *_table(rows, left=3),
        *outside,
    ]


def _feed_rows(feed: FeedMargins, weights: Weights) -> Iterator[_Row]:
    yield "OBJECTIVE", "UNTIL", "WAY", "MOVE", "WEIGHT", "RISES", "IN PLACE OF"
    for objective, found in feed.objectives.items():
        for where, margin in zip(_WHERE, found, strict=True):
            for way, crossing in zip(_WAYS, margin, strict=True):
                yield objective, where, way, *_crossing_cells(crossing, weights.values[objective])


def _crossing_cells(crossing: Crossing | None, weight: float) -> _Row:
    if crossing is None:
        return "never", _NOTHING, _NOTHING, _NOTHING
    mark = " " if crossing.within_bounds else "*"
    return (
        f"{crossing.move:+.4g}",
        f"{weight + crossing.move:.4g}{mark}",
        crossing.rising,
        crossing.falling,
    )


def _number(value: float | None, sign: str = "") -> str:
    if value is None:
        return _NOTHING
    return format(value, f"{sign}.4f" if abs(value) < 1e6 else f"{sign}.4g")


def _table(rows: Iterable[_Row], left: int = 1) -> list[str]:
    """Rows in columns, the `left` first of them to the left; what is too long for its column is
    cut.
    """
    first = _FIRST_CELL if left == 1 else _NARROW_FIRST_CELL
    cells = [
        [_cut(text, first if place == 0 else _CELL) for place, text in enumerate(row)]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(_pad(row, widths, left)).rstrip() for row in cells]


def _pad(row: list[str], widths: list[int], left: int) -> Iterator[str]:
    for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.ljust(width) if place < left else cell.rjust(width)


def _cut(text: str, width: int) -> str:
    shown = _printable(text)
    return shown if len(shown) <= width else shown[: width - 3] + "..."


def _printable(text: str) -> str:
    """Item ids are a producer's: nothing in them may steer a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
