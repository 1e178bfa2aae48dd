"""What a worker counts; every name of a counter stands here and nowhere else."""

from dataclasses import dataclass


@dataclass
class Counts:
    """Totals since the worker started. `feeds` and `dead_letters` count what is out: committed, not
    only ranked.

    `settled` counts events that a replay did not judge again: refused before, or of a published
    request. `worker_errors` counts faults of our own on single records.
    """

    events: int = 0
    candidates: int = 0
    feeds: int = 0
    dead_letters: int = 0
    evicted: int = 0
    missing_features: int = 0
    unknown_features: int = 0
    unreadable_headers: int = 0
    misplaced: int = 0
    clipped_features: int = 0
    held: int = 0
    unscored: int = 0
    dropped: int = 0
    defaulted: int = 0
    without_lookups: int = 0
    settled: int = 0
    worker_errors: int = 0
    model_errors: int = 0
