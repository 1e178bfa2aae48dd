"""What a process of the users stage exports. It knows the stage only by its report, because the
stage needs an extra.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from workers.metrics.health import Health, loop_liveness
from workers.metrics.names import (
    BROKER_UP,
    GUARD_RAIL_STOPS,
    GUARD_RAILS_WAIT,
    LAG_RECORDS,
    LAG_RECORDS_MAX,
    LOOP_BUSY_SECONDS,
    USERS_DELETED,
    USERS_ENTRIES,
    USERS_FEEDS,
    USERS_READ_AGAIN,
    USERS_RESTORED,
    USERS_UNCHECKED,
    MetricName,
)
from workers.metrics.samples import Sample, sample, samples_by
from workers.metrics.stage_samples import redis_samples, report_samples, status_samples
from workers.steering.connection import RedisUse
from workers.steering.stage_status import StageReport, StageStatusWriter

OF_COUNTS: Final[dict[str, MetricName]] = {
    "feeds": USERS_FEEDS,
    "unchecked": USERS_UNCHECKED,
    "entries": USERS_ENTRIES,
    "deleted": USERS_DELETED,
    "restored": USERS_RESTORED,
    "read_again": USERS_READ_AGAIN,
}
"""The metrics of the counts of the stage."""


class UsersState(NamedTuple):
    """What is exported of a process of the stage beside its report.

    - `turned_s`: seconds since its event loop last turned.
    - `broker_up`: whether a broker answers.
    - `status`: what writes its status to Redis, None without a Redis.
    - `redis`: by use, what else Redis was used for.
    - `stops`: by surface and arm, how often a guard rail has stopped it.
    - `rails_wait_s`: seconds since all guard rails were judged. None: another process judges them.
    """

    turned_s: float
    broker_up: bool
    status: StageStatusWriter | None = None
    redis: Mapping[str, RedisUse] = {}
    stops: Mapping[tuple[str, str], int] = {}
    rails_wait_s: float | None = None


def users_samples(report: StageReport, state: UsersState) -> list[Sample]:
    """All series of a stage that is put together."""
    samples = [sample(metric, report.counts[name]) for name, metric in OF_COUNTS.items()]
    lag = dict(report.lag)
    samples.append(sample(LAG_RECORDS, sum(lag.values())))
    samples.append(sample(LAG_RECORDS_MAX, max(lag.values(), default=0)))
    samples.append(sample(LOOP_BUSY_SECONDS, state.turned_s))
    samples.append(sample(BROKER_UP, state.broker_up))
    for use, redis in state.redis.items():
        samples += redis_samples(use, redis)
    samples += samples_by(GUARD_RAIL_STOPS, state.stops)
    if state.rails_wait_s is not None:
        samples.append(sample(GUARD_RAILS_WAIT, state.rails_wait_s))
    samples += status_samples(state.status)
    samples += report_samples(report)
    return samples


def users_liveness(report: StageReport, turned_s: float) -> Health:
    """A stage that fails ends by itself. Until then it is alive, unless its event loop hangs: for
    `turned_s` it has not turned.
    """
    doing = report.failing or report.waiting_for or "counting"
    return loop_liveness(doing=doing, seconds=turned_s, is_bounded=True)


def users_readiness(report: StageReport) -> Health:
    """Ready once its partitions are recovered, or if it has none because others have them all."""
    if report.failing is not None:
        return Health(False, report.failing)
    if report.waiting_for is not None:
        return Health(False, report.waiting_for)
    return Health(True, f"partitions: {len(report.partitions)}")
