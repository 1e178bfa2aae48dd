"""Snapshots as the text that Prometheus reads. The only module that knows prometheus_client."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from workers.metrics.names import CHILD_UP, METRICS, OF_PROCESS, Kind, MetricName
from workers.metrics.samples import Sample, Snapshot


class Exposition(NamedTuple):
    """A text and its content type."""

    text: bytes
    content_type: str


class _Snapshots(Collector):
    """Gives the families of one scrape: each metric once, with the series of all processes."""

    def __init__(self, snapshots: Sequence[Snapshot], children_up: Mapping[int, bool]) -> None:
        self._snapshots = snapshots
        self._children_up = children_up

    def collect(self) -> Iterator[Metric]:
        """All families that have series, in the order of docs/metrics.md."""
        series: dict[str, list[tuple[Sequence[str], Sample]]] = {}
        for snapshot in self._snapshots:
            of_process = (snapshot.stage, str(snapshot.slot))
            for sample in snapshot.samples:
                series.setdefault(sample.name, []).append((of_process, sample))

        for name, metric in METRICS.items():
            if metric is CHILD_UP:
                if self._children_up:
                    yield _children(self._children_up)
            elif name in series:
                yield _family(metric, series[name])


def _children(children_up: Mapping[int, bool]) -> Metric:
    family = GaugeMetricFamily(CHILD_UP.name, CHILD_UP.help, labels=CHILD_UP.labels)
    for child, is_up in children_up.items():
        family.add_metric([str(child)], float(is_up))
    return family


def _family(metric: MetricName, series: Iterable[tuple[Sequence[str], Sample]]) -> Metric:
    labels = (*OF_PROCESS, *metric.labels)
    if metric.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=labels)
        for of_process, sample in series:
            buckets = [
                ("+Inf" if math.isinf(bound) else str(bound), count)
                for bound, count in sample.buckets
            ]
            histogram.add_metric([*of_process, *sample.labels], buckets, sample.value)
        return histogram

    of_kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = of_kind(metric.name, metric.help, labels=labels)
    for of_process, sample in series:
        family.add_metric([*of_process, *sample.labels], sample.value)
    return family


def render(
    snapshots: Sequence[Snapshot], accept: str, children_up: Mapping[int, bool] | None = None
) -> Exposition:
    """The text of one scrape, in the format that the header `accept` asks for: OpenMetrics or
    Prometheus's own.

    `children_up`: by number, whether the children of this process have answered.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshots(snapshots, children_up or {}))
    encode, content_type = choose_encoder(accept)
    return Exposition(encode(registry), content_type)
