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

TODO
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
