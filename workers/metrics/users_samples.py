"""What a process of the users stage exports. It knows the stage only by its report, because the
stage needs an extra.
"""

from collections.abc import Mapping
from typing import Final

from workers.metrics.health import Health
from workers.metrics.join_samples import report_samples
from workers.metrics.names import (
    GUARD_RAIL_STOPS,
    LAG_RECORDS,
    LAG_RECORDS_MAX,
    USERS_DELETED,
    USERS_ENTRIES,
    USERS_FEEDS,
    USERS_READ_AGAIN,
    USERS_RESTORED,
    USERS_UNCHECKED,
    MetricName,
)
from workers.metrics.samples import Sample, sample, samples_by
from workers.steering.stage_status import StageReport

OF_COUNTS: Final[dict[str, MetricName]] = {
    "feeds": USERS_FEEDS,
    "unchecked": USERS_UNCHECKED,
    "entries": USERS_ENTRIES,
    "deleted": USERS_DELETED,
    "restored": USERS_RESTORED,
    "read_again": USERS_READ_AGAIN,
}
"""The metrics of the counts of the stage."""


def users_samples(report: StageReport, stops: Mapping[tuple[str, str], int]) -> list[Sample]:
    """All series of a stage that is put together. `stops`: by surface and arm, how often a guard rail
    has stopped it.
    """
    samples = [sample(metric, report.counts[name]) for name, metric in OF_COUNTS.items()]
    lag = dict(report.lag)
    samples.append(sample(LAG_RECORDS, sum(lag.values())))
    samples.append(sample(LAG_RECORDS_MAX, max(lag.values(), default=0)))
    samples += samples_by(GUARD_RAIL_STOPS, stops)
    samples += report_samples(report)
    return samples


def users_liveness(report: StageReport) -> Health:
    """A stage that fails ends by itself. Until then it is alive."""
    return Health(True, report.failing or report.waiting_for or "counting")


def users_readiness(report: StageReport) -> Health:
    """Ready once its partitions are recovered, or if it has none because others have them all."""
    if report.failing is not None:
        return Health(False, report.failing)
    if report.waiting_for is not None:
        return Health(False, report.waiting_for)
    return Health(True, f"partitions: {len(report.partitions)}")
