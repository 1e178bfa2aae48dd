"""The interval of a median, and the report that has it. What is measured needs a Kafka and minutes."""

import random
from statistics import median

import pytest

from tests.bench.metrics_cost import MetricsLimits, MetricsReport, median_interval
from tests.rig.machine import this_machine


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [(1, 0, 0), (5, 0, 4), (6, 0, 5), (10, 1, 8), (60, 21, 38), (100, 39, 60)],
)
def test_the_interval_of_a_median_is_between_the_ranks_of_the_tables(
    count: int, low: int, high: int
) -> None:
    """The ranks are those of published tables (such as Conover's), counted from 0 here."""
    values = list(range(count))
    random.Random(1).shuffle(values)
    assert median_interval(values) == (low, high)
    assert low <= median(values) <= high


def test_the_report_says_the_ratio_of_pairs_and_what_a_scrape_takes() -> None:
    report = MetricsReport(
        machine=this_machine(),
        limits=MetricsLimits(pairs=3),
        without=(100.0, 200.0, 100.0),
        with_them=(101.0, 206.0, 102.0),
        share=0.5,
        scrape_bytes=18_000,
        scrapes_ms=(2.0, 3.0, 2.5),
    )
    text = "\n".join(report.lines())
    assert "ratio 1.0200 (95 %: 1.0100 to 1.0300)" in text
    assert "A scrape: 2.50 ms of CPU (median of 3, at most 3.00), each second 0.25% of one" in text
