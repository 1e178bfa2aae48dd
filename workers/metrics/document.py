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

`make bench ARGS=metrics` measures it: one worker under a steady stream, in pairs of windows with metrics (it counts,
and is scraped each second) and without (it does neither).

- **A scrape** takes 1.8 ms of CPU (median of 120, 3 ms at most, 19 kB of text), by the CPU clock of the thread that
  answers it. Scraped each second, as in the measurement, that is 0.19 % of one core; each 15 s, 0.012 %.
- **Pairs.** The ratio of the CPU a feed with metrics to that without, over 60 pairs, on a machine that other work kept
  busy:

  | Requests of 50 candidates a second | The worker takes | Ratio (95 %) | Of it, the scrapes |
  |---|---|---|---|
  | 300 | 12 % of one core | 1.020 (0.992 to 1.039) | 0.015 |
  | 1,000 | 23 % of one core | 1.013 (0.997 to 1.041) | 0.008 |

  With nothing else on the machine: 1.016 (0.993 to 1.038) at 1,000 a second.

  So the pairs alone do not show it to be under 2 %. By the thread's clock it is, and a busier worker
  pays the same for a scrape.
- **Counting** is always on. Counting a committed feed takes 0.7 us, reading the clock 0.07 us: eight times for each
  micro-batch, and three times for one record in 16.
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
