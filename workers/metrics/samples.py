"""What a process exports, as plain values: one snapshot is taken in the process and may be sent to
its parent.
"""

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from workers.counts import Histogram
from workers.metrics.names import METRICS, Kind, MetricName

L = TypeVar("L", str, tuple[str, str], tuple[str, str, str])


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One series. `labels` are the values of the metric's own labels, in the order of its row.

    A histogram has `buckets`: pairs of an upper bound and how many values are not above it, the last
    one with +Inf. Its `value` is the sum of all values.
    """

    name: str
    labels: tuple[str, ...]
    value: float
    buckets: tuple[tuple[float, int], ...] = ()


class Snapshot(msgspec.Struct, frozen=True):
    """All series of one process, and what they have in common."""

    stage: str
    slot: int
    samples: tuple[Sample, ...]


def sample(metric: MetricName, value: float, *labels: str) -> Sample:
    """A counter or a gauge. Raises ValueError if the labels do not fit the metric."""
    if metric.kind is Kind.HISTOGRAM or len(labels) != len(metric.labels):
        raise ValueError(
            f"{metric.name}: got {labels}, expected a value for each of {metric.labels}"
        )
    return Sample(metric.name, labels, float(value))


def samples_by(metric: MetricName, values: Mapping[L, int]) -> list[Sample]:
    """A sample for each label value, or each tuple of them. The mapping is copied first, because the
    loop may change it.
    """
    samples = list[Sample]()
    for labels, value in dict(values).items():
        parts = (labels,) if isinstance(labels, str) else labels
        samples.append(sample(metric, value, *parts))
    return samples


def histogram(metric: MetricName, observed: Histogram, *labels: str) -> Sample:
    """A histogram. Raises ValueError if the labels do not fit the metric."""
    if metric.kind is not Kind.HISTOGRAM or len(labels) != len(metric.labels):
        raise ValueError(
            f"{metric.name}: got {labels}, expected a value for each of {metric.labels}"
        )

    buckets = list[tuple[float, int]]()
    below = 0
    for bound, count in zip((*observed.bounds, float("inf")), list(observed.counts), strict=True):
        below += count
        buckets.append((bound, below))
    return Sample(metric.name, labels, observed.total, tuple(buckets))


def encode(snapshot: Snapshot) -> bytes:
    """The snapshot for the parent. MessagePack, because JSON has no +Inf."""
    return msgspec.msgpack.encode(snapshot)


def decode(raw: bytes) -> Snapshot:
    """Read a snapshot. Raises ValueError, also for names and labels that this version does not have."""
    snapshot = msgspec.msgpack.decode(raw, type=Snapshot)
    for one in snapshot.samples:
        metric = METRICS.get(one.name)
        if metric is None or len(one.labels) != len(metric.labels):
            raise ValueError(f"{one.name}{one.labels}: no series of this version")
    return snapshot
