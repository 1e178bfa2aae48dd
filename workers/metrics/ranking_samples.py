"""What a worker exports. Called from another thread, so it only reads."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from workers.assembly.held import Budget
from workers.counts import Counts, RankedCounts, StepTimes, TraceCounts
from workers.metrics.loop_samples import loop_samples, steps_of
from workers.metrics.names import (
    BATCH_CANDIDATES,
    CANDIDATES,
    CLIPPED_FEATURES,
    DEAD_LETTERS,
    DEFAULTED,
    DOCUMENTS_REFUSED,
    DROPPED,
    EVENTS,
    EVICTED,
    FEEDS,
    HELD,
    LATENCY,
    MISPLACED,
    MISSING_FEATURES,
    MODEL_BYTES,
    MODEL_BYTES_LIMIT,
    MODEL_CACHE_HITS,
    MODEL_CACHE_MISSES,
    MODEL_ERRORS,
    MODEL_EVICTIONS,
    MODEL_INFO,
    MODEL_LOAD_SECONDS,
    MODEL_LOADS,
    MODEL_SWAPS,
    MODEL_VERDICTS,
    MODEL_VERSIONS,
    OPEN_BYTES,
    OPEN_BYTES_LIMIT,
    OPEN_REQUESTS,
    OPEN_REQUESTS_LIMIT,
    REDIS_CALLS,
    REDIS_CONTACT_SECONDS,
    REDIS_FAILURES,
    REDIS_UP,
    REQUESTS,
    SCORE_SECONDS,
    SETTLED,
    SPANS,
    TRACE_CONTEXTS_IGNORED,
    UNKNOWN_FEATURES,
    UNREADABLE_HEADERS,
    UNSCORED,
    WEIGHTS_APPLIED,
    WEIGHTS_INFO,
    WITHOUT_LOOKUPS,
    WORKER_ERRORS,
    MetricName,
)
from workers.metrics.samples import Sample, histogram, sample, samples_by
from workers.ranking.experiment import CONTROL
from workers.scoring.catalogue import VersionState
from workers.scoring.registry import Registry
from workers.steering.documents import WEIGHTS
from workers.steering.follower import Follower
from workers.steering.lookups import Lookups
from workers.steering.surface_state import SurfaceState
from workers.streaming.worker import Worker

OF_COUNTS: Final[dict[str, MetricName]] = {
    "events": EVENTS,
    "candidates": CANDIDATES,
    "evicted": EVICTED,
    "missing_features": MISSING_FEATURES,
    "unknown_features": UNKNOWN_FEATURES,
    "unreadable_headers": UNREADABLE_HEADERS,
    "misplaced": MISPLACED,
    "clipped_features": CLIPPED_FEATURES,
    "held": HELD,
    "unscored": UNSCORED,
    "dropped": DROPPED,
    "defaulted": DEFAULTED,
    "without_lookups": WITHOUT_LOOKUPS,
    "settled": SETTLED,
    "worker_errors": WORKER_ERRORS,
    "model_errors": MODEL_ERRORS,
}
"""The metrics of the fields of Counts, other than feeds and dead letters: those have labels."""

_MODEL_STATES: Final = tuple(str(state) for state in VersionState)


@dataclass(frozen=True)
class RankingParts:
    """The parts of a worker that count something."""

    worker: Worker[Any, Any]
    counts: Counts
    ranked: RankedCounts
    times: tuple[StepTimes, ...]
    budget: Budget
    registry: Registry
    models_budget: int
    steering: Follower
    lookups: Lookups
    traces: TraceCounts


def ranking_samples(parts: RankingParts) -> list[Sample]:
    """All series of a worker that is put together."""
    counts = parts.counts
    ranked = parts.ranked
    samples = loop_samples(parts.worker, steps_of(*parts.times))
    samples += [sample(metric, getattr(counts, name)) for name, metric in OF_COUNTS.items()]

    samples.append(sample(REQUESTS, ranked.requests))
    samples.append(histogram(BATCH_CANDIDATES, ranked.batches))
    samples += samples_by(FEEDS, ranked.feeds)
    samples += samples_by(DEAD_LETTERS, ranked.letters)
    for surface, latency in dict(ranked.latency).items():
        samples.append(histogram(LATENCY, latency, surface))
    for objective, took in dict(ranked.score_ns).items():
        samples.append(sample(SCORE_SECONDS, took / 1e9, objective))

    samples += _open_requests(parts.budget)
    samples += _redis(parts.steering, parts.lookups)
    for surface, state in parts.steering.states.items():
        samples += _documents(surface, state)
    samples += _models(parts.registry, parts.models_budget)
    samples += _traces(parts.traces)
    return samples


def _open_requests(budget: Budget) -> list[Sample]:
    return [
        sample(OPEN_REQUESTS, budget.requests),
        sample(OPEN_REQUESTS_LIMIT, budget.max_requests),
        sample(OPEN_BYTES, budget.bytes_held),
        sample(OPEN_BYTES_LIMIT, budget.max_bytes),
    ]


def _redis(steering: Follower, lookups: Lookups) -> list[Sample]:
    samples = [
        sample(REDIS_UP, steering.is_in_touch),
        sample(REDIS_CONTACT_SECONDS, steering.age_seconds()),
    ]
    for use, (calls, failures) in (("steering", steering.redis), ("lookups", lookups.redis)):
        samples.append(sample(REDIS_CALLS, calls, use))
        samples.append(sample(REDIS_FAILURES, failures, use))
    return samples


def _traces(traces: TraceCounts) -> list[Sample]:
    return [
        sample(SPANS, traces.exported, "exported"),
        sample(SPANS, traces.failed, "failed"),
        sample(SPANS, traces.dropped, "dropped"),
        sample(TRACE_CONTEXTS_IGNORED, traces.bad_contexts),
    ]


def _documents(surface: str, state: SurfaceState) -> list[Sample]:
    samples = list[Sample]()
    refused: Counter[str] = Counter()
    for (kind, arm), document in state.documents.items():
        refused[kind.name] += document.refused is not None
        if kind is WEIGHTS and document.applied is not None:
            arm_name = CONTROL if arm is None else arm
            applied = document.applied
            samples.append(sample(WEIGHTS_INFO, 1, surface, arm_name, applied.value.version))
            samples.append(sample(WEIGHTS_APPLIED, applied.at / 1000, surface, arm_name))
    samples += [sample(DOCUMENTS_REFUSED, count, surface, kind) for kind, count in refused.items()]
    return samples


def _models(registry: Registry, budget: int) -> list[Sample]:
    counts = registry.counts
    samples = [
        sample(MODEL_VERDICTS, counts.verified, "verified"),
        sample(MODEL_VERDICTS, counts.refused, "refused"),
        sample(MODEL_LOADS, counts.loads),
        sample(MODEL_LOAD_SECONDS, registry.load_seconds),
        sample(MODEL_EVICTIONS, counts.evictions),
        sample(MODEL_CACHE_HITS, counts.hits),
        sample(MODEL_CACHE_MISSES, counts.misses),
        sample(MODEL_SWAPS, counts.swaps),
        sample(MODEL_BYTES, counts.bytes_loaded),
        sample(MODEL_BYTES_LIMIT, budget),
    ]
    for surface, objectives in registry.in_force.items():
        for objective, version in objectives.items():
            samples.append(sample(MODEL_INFO, 1, surface, objective, str(version)))
    for objective, versions in registry.catalogue.entries.items():
        states = Counter(str(entry.state) for entry in versions.values())
        for state in _MODEL_STATES:
            samples.append(sample(MODEL_VERSIONS, states[state], objective, state))
    return samples
