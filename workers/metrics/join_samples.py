"""What a process of the join exports. Called from another thread, so it only reads."""

from dataclasses import dataclass
from typing import Any, Final

from workers.counts import JoinCounts, JoinedCounts, StepTimes
from workers.metrics.loop_samples import loop_samples, steps_of
from workers.metrics.names import (
    CLOSED_FEEDS,
    DEAD_LETTERS,
    DUPLICATE_FEED_RECORDS,
    FEED_RECORDS,
    IGNORED,
    INTERACTION_RECORDS,
    JOINED,
    MISPLACED,
    OPEN_BYTES,
    OPEN_BYTES_LIMIT,
    OPEN_FEEDS,
    SEEN,
    SKIPPED,
    TAKES,
    UNREADABLE_HEADERS,
    WORKER_ERRORS,
    MetricName,
)
from workers.metrics.samples import Sample, sample, samples_by
from workers.metrics.stage_samples import report_samples, status_samples
from workers.outcomes.join import OpenFeeds
from workers.steering.stage_status import StageReport, StageStatusWriter
from workers.streaming.worker import Worker

OF_COUNTS: Final[dict[str, MetricName]] = {
    "records": INTERACTION_RECORDS,
    "feeds": FEED_RECORDS,
    "duplicate_feeds": DUPLICATE_FEED_RECORDS,
    "joined": JOINED,
    "ignored": IGNORED,
    "skipped": SKIPPED,
    "misplaced": MISPLACED,
    "unreadable_headers": UNREADABLE_HEADERS,
    "worker_errors": WORKER_ERRORS,
}
"""The metrics of the fields of JoinCounts, other than closed feeds and dead letters: those have
labels.
"""


@dataclass(frozen=True)
class JoinParts:
    """The parts of a join that count something."""

    worker: Worker[Any, Any]
    counts: JoinCounts
    joined: JoinedCounts
    times: tuple[StepTimes, ...]
    open_feeds: OpenFeeds
    max_bytes: int


def join_samples(
    parts: JoinParts, report: StageReport, status: StageStatusWriter | None
) -> list[Sample]:
    """All series of a join that is put together. `status` None: it has no Redis."""
    joined = parts.joined
    samples = loop_samples(parts.worker, steps_of(*parts.times))
    samples += [sample(metric, getattr(parts.counts, name)) for name, metric in OF_COUNTS.items()]
    samples += samples_by(CLOSED_FEEDS, joined.closed)
    samples += samples_by(SEEN, joined.seen)
    samples += samples_by(TAKES, joined.takes)
    samples += samples_by(DEAD_LETTERS, joined.letters)
    samples.append(sample(OPEN_FEEDS, parts.open_feeds.feeds))
    samples.append(sample(OPEN_BYTES, parts.open_feeds.bytes_held))
    samples.append(sample(OPEN_BYTES_LIMIT, parts.max_bytes))
    samples += report_samples(report)
    samples += status_samples(status)
    return samples
