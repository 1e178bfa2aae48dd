"""docs/metrics.md, made from the table of names. `make metrics` writes it:
`python -m workers.metrics.document > docs/metrics.md`.
"""

import sys
from typing import Final

from workers.metrics.names import SECTIONS, MetricName, Section

_HEAD: Final = """\
# Metrics

`make metrics` writes this page from `workers/metrics/names.py`. Do not edit it.

Every series has the labels `stage` (`ranking`, `join` or `users`) and `slot`, the slot of the process on its host. A
metric that a stage does not have is absent. Counters begin at 0 with the process.
[operations.md](operations.md#metrics-and-health) says how to get them.
"""

_TAIL: Final = """
## What they cost

- **A scrape** of a busy worker took 2.4 ms of CPU (median of twelve, 3.8 ms at most, 18 kB of text): a quarter of a
  percent of one core if it is scraped each second. It runs in a thread of its own.
- **Pairs.** `python -m tests.metrics` ranks a backlog with an endpoint that is scraped each second, and without one, in
  turns, and compares the CPU a candidate. Eight pairs on a busy machine gave ratios of 0.93 to 1.02 with a median of
  0.97: the cost is less than that machine can tell.
- **Counting** is always on, and was not measured in pairs. Counting a committed feed takes 0.7 us, reading the clock
  0.07 us: eight times for each micro-batch, and three times for one record in 16.
"""


def document() -> str:
    """The text of docs/metrics.md."""
    return _HEAD + "".join(_section(section) for section in SECTIONS) + _TAIL


def _section(section: Section) -> str:
    lines = [
        "",
        f"## {section.title}",
        "",
        "| Metric | Kind | Labels | Stages | What it is | What moves it |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(metric) for metric in section.metrics]
    return "\n".join(lines) + "\n"


def _row(metric: MetricName) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    cells = (
        f"`{metric.name}`",
        str(metric.kind),
        labels,
        ", ".join(metric.stages),
        metric.help,
        metric.moved_by,
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.stdout.write(document())
