"""What several commands print in the same way: texts for people, and parts of --json documents.

Names, reasons and ids come from producers and from whoever writes to Redis. `printable` keeps them
from controlling the terminal; `table` and `wrap` apply it themselves.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from workers.ranking.weights import Weights

WIDTH = 100
"""Columns that lines are wrapped to."""

NOTHING = "-"
"""The cell of a value that does not exist."""

_GAP = "  "


# Lines and tables


def printable(text: str) -> str:
    r"""The text with every unprintable character escaped, such as `\x1b`."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def wrap(text: str, *, label: str = "", indent: int | None = None) -> list[str]:
    """Lines of at most WIDTH columns, the first after a label.

    Further lines are indented by `indent` columns, or to the end of the label.
    """
    return textwrap.wrap(
        printable(text),
        WIDTH,
        initial_indent=printable(label),
        subsequent_indent=" " * (len(label) if indent is None else indent),
        break_on_hyphens=False,
    )


def table(
    rows: Iterable[Sequence[str]],
    *,
    align: str,
    first_width: int | None = None,
    other_width: int | None = None,
) -> list[str]:
    """Rows of equal length in columns.

    `align` has a letter for each column, `l` for left or `r` for right; its last letter is that of
    all further columns. A cell that is wider than `first_width` in the first column, or
    `other_width` in another one, is cut.
    """
    cells = []
    for first, *others in rows:
        cells.append([_fit(first, first_width), *(_fit(cell, other_width) for cell in others)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]

    lines = []
    for row in cells:
        padded = []
        for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
            is_left = align[min(column, len(align) - 1)] == "l"
            padded.append(cell.ljust(width) if is_left else cell.rjust(width))
        lines.append(_GAP.join(padded).rstrip())
    return lines


def _fit(cell: str, width: int | None) -> str:
    """The cell, printable; `...` marks the end of one that was cut."""
    shown = printable(cell)
    if width is None or len(shown) <= width:
        return shown
    return shown[: width - 3] + "..."


# Weights and arms


def weights_text(values: Mapping[str, float]) -> str:
    """Weights, such as `quality 0.6, engagement 0.4`."""
    return ", ".join(f"{objective} {weight:g}" for objective, weight in values.items())


def weights_document(weights: Weights) -> dict[str, object]:
    """A set of weights for --json."""
    return {"version": weights.version, "values": dict(weights.values)}


def shares_text(shares: Mapping[str, float]) -> str:
    """Percentages by arm, such as `canary 5 %, control 95 %`."""
    return ", ".join(f"{arm} {percent:g} %" for arm, percent in shares.items())


def place_text(surface: str, arm: str | None) -> str:
    """A surface, or one of its arms."""
    return surface if arm is None else f"{surface}, arm {arm}"


# Rates and lifts


def rate_text(rate: float) -> str:
    """A rate in percent, such as `5.02 %`. Rates below 0.1 % keep two digits: `0.0021 %`."""
    percent = 100 * rate
    if 0 < percent < 0.000_095:
        return f"{percent:.1e} %"
    if 0 < percent < 0.095:
        return f"{Decimal(f'{percent:.1e}'):f} %"
    return f"{percent:.2f} %"


def lift_text(lift: float) -> str:
    """A lift, a fraction, in percent with its sign, such as `+3.1 %`. Lifts below 1 % keep two
    digits, and what is beyond 100,000 % is said to be so.
    """
    percent = 100 * lift
    if percent > 100_000:
        return "over +100,000 %"
    digits = 1 if abs(percent) >= 0.995 else 2
    return f"{percent:+,.{digits}f} %"


def share_text(share: float) -> str:
    """A fraction that somebody has chosen, in percent as it was written: `5 %`, `2.5 %`."""
    return f"{100 * share:.10g} %"


def limits_text(low: float, high: float) -> str:
    """The limits of a lift, such as `+0.4 % to +5.9 %`."""
    return f"{lift_text(low)} to {lift_text(high)}"


def probability_text(p: float) -> str:
    """A probability, such as `0.032`. Below 0.001 there is only one digit: `4e-09`."""
    if 0 < p < 0.001:
        return f"{p:.0e}"
    return f"{p:.3f}"


# Times


def hour_text(hour: int) -> str:
    """When an hour begins in UTC. `hour` in hours since the epoch."""
    return datetime.fromtimestamp(3600 * hour, UTC).strftime("%Y-%m-%d %H:%MZ")


def moment_text(at_ms: int) -> str:
    """A time in UTC, to the millisecond."""
    second = datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{second}.{at_ms % 1000:03d}Z"


def age_text(milliseconds: int) -> str:
    """A length of time in its largest unit, once there are two of it."""
    seconds = max(0, milliseconds) // 1000
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def days_text(days: float | None) -> str:
    """A number of days, such as `2.5 days`. NOTHING if it is not known."""
    if days is None:
        return NOTHING
    if days < 0.1:
        return "under 0.1"
    return f"{days:,.1f}" if days < 10 else f"{days:,.0f}"
