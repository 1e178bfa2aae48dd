"""What both stages of outcomes export: what their status says, and how they use Redis."""

from workers.metrics.names import (
    CLOSED_UNTIL,
    FAILING,
    REDIS_CALLS,
    REDIS_FAILURES,
    REDIS_UP,
    WAITING,
)
from workers.metrics.samples import Sample, sample
from workers.steering.connection import RedisUse
from workers.steering.stage_status import StageReport, StageStatusWriter


def report_samples(report: StageReport) -> list[Sample]:
    """What the status of a stage of outcomes says."""
    samples = [
        sample(WAITING, report.waiting_for is not None),
        sample(FAILING, report.failing is not None),
    ]
    if report.closed_until is not None:
        samples.append(sample(CLOSED_UNTIL, report.closed_until / 1000))
    return samples


def status_samples(status: StageStatusWriter | None) -> list[Sample]:
    """Whether Redis takes the status of a stage. Nothing if the stage has no Redis."""
    if status is None:
        return []
    return [sample(REDIS_UP, status.is_in_touch), *redis_samples("status", status.redis)]


def redis_samples(use: str, redis: RedisUse) -> list[Sample]:
    """What a connection to Redis was used for."""
    return [
        sample(REDIS_CALLS, redis.calls, use),
        sample(REDIS_FAILURES, redis.failures, use),
    ]
