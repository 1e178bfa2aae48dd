"""What a worker counts: the one place that names its counters.

To count something new, add a field here and raise it where it happens. The field is then part of
the worker's status (`counts`) without further code, and needs a row in workers/metrics/names.py.

What is counted by surface, arm, reason or step is for metrics alone. The loop writes plain integers
and dicts; the thread that answers a scrape copies them (`dict(...)`, `list(...)`: one step each).
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final, NamedTuple

LATENCY_BOUNDS_S: Final = (
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
)
BATCH_BOUNDS: Final = (1.0, 8.0, 32.0, 128.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0)
MAX_SURFACES: Final = 2_000
MAX_ARMS: Final = 50
OTHER: Final = "(other)"
"""The label of what is above these limits. It is no valid name."""
TIMED_RECORDS: Final = 16
"""One record in this many is timed while it is decoded and assembled."""


@dataclass
class Counts:
    """Totals since the worker started. The order is that of the status."""

    events: int = 0
    """Records of candidates that were read, also those that were refused."""
    candidates: int = 0
    """Candidates of the events that were accepted."""
    feeds: int = 0
    """Feeds that are committed. A feed that is only ranked does not count yet."""
    dead_letters: int = 0
    """Dead letters that are committed."""
    evicted: int = 0
    """Requests that were closed early, because the open requests took too much memory."""
    missing_features: int = 0
    """Features that an event leaves out. They get their default."""
    unknown_features: int = 0
    """Features of an event that the feature set does not hold. They are ignored."""
    unreadable_headers: int = 0
    """Records whose headers cannot be read."""
    misplaced: int = 0
    """Events that would open a request in another partition than the partitioner chooses."""
    clipped_features: int = 0
    """Features outside their bounds."""
    held: int = 0
    """How often a closed request was held, because its models were still loading."""
    unscored: int = 0
    """Feeds that no model has scored."""
    dropped: int = 0
    """Candidates that a look-up dropped."""
    defaulted: int = 0
    """Candidates that got default features, because a look-up found none."""
    without_lookups: int = 0
    """Feeds for which a look-up was skipped."""
    settled: int = 0
    """Events that a replay did not judge again: refused before, or of a published request."""
    worker_errors: int = 0
    """Errors in the worker's own code that cost a single record (`worker_errors.py`)."""
    model_errors: int = 0
    """Candidates that a model failed on."""


@dataclass
class JoinCounts:
    """Counters of one process that joins outcomes. The loop increments them."""

    records: int = 0
    """Records read from the input topic."""
    feeds: int = 0
    """Feed records that opened a request."""
    duplicate_feeds: int = 0
    """Feed records of a request that was open, or whose outcomes are out."""
    joined: int = 0
    """Interactions that were joined with their feed, also if they are no outcome."""
    ignored: int = 0
    """Interactions of a kind that their surface does not name."""
    skipped: int = 0
    """Interactions of a surface without outcomes."""
    closed: int = 0
    """Feeds whose outcomes were published."""
    dead_letters: int = 0
    """Refused records that were published."""
    misplaced: int = 0
    """Interactions without a feed, in another partition than murmur2 gives their key."""
    unreadable_headers: int = 0
    """Records with a header name that is not UTF-8."""
    worker_errors: int = 0
    """Records on which our own code failed."""


class Histogram:
    """Counts values in buckets. `counts` has one number for each of `bounds`, the values up to and
    including it and above the bound before, and one for the values above all of them.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class SurfaceArms:
    """Surfaces and arms as labels: as many surfaces as MAX_SURFACES, each with as many arms as
    MAX_ARMS. What comes later is OTHER. A record may name any arm, and a process lives through many
    experiments.
    """

    def __init__(self) -> None:
        self._arms: dict[str, set[str]] = {}

    def labels(self, surface: str, arm: str) -> tuple[str, str]:
        """The labels of a surface and an arm."""
        arms = self._arms.get(surface)
        if arms is None:
            if len(self._arms) >= MAX_SURFACES:
                return OTHER, OTHER
            arms = self._arms[surface] = set()
        if arm in arms or len(arms) < MAX_ARMS:
            arms.add(arm)
            return surface, arm
        return surface, OTHER


@dataclass
class StepTimes:
    """How long the steps of the loop took, in nanoseconds since the start."""

    decode: int = 0
    assemble: int = 0
    look_up: int = 0
    score: int = 0
    combine: int = 0
    encode: int = 0
    publish: int = 0
    commit: int = 0


@dataclass
class TransactionCounts:
    """Transactions by what became of them, and those whose outcome is not known."""

    committed: int = 0
    aborted: int = 0
    lost: int = 0


@dataclass
class TraceCounts:
    """Spans by what became of them, and records whose trace context is damaged. All 0 if nothing is
    traced. The loop counts `dropped` and `bad_contexts`, the thread that exports the others.
    """

    exported: int = 0
    failed: int = 0
    dropped: int = 0
    bad_contexts: int = 0
    worker_errors: int = 0
    """Of the dropped spans: those that our own code failed on."""


class FeedFacts(NamedTuple):
    """What is counted of a feed once it is committed. `requested_at` in ms since the epoch."""

    surface: str
    arm: str
    completion: str
    requested_at: int


@dataclass
class RankedCounts:
    """What a worker ranks and publishes, in detail.

    - `requests`: those that were ranked. `batches`: the candidates of micro-batches.
    - `feeds`: committed feeds by surface, arm and completion. `latency`: theirs by surface, in
      seconds from `requested_at` to the commit.
    - `letters`: committed dead letters by reason.
    - `score_ns`: nanoseconds of scoring by objective.
    """

    requests: int = 0
    batches: Histogram = field(default_factory=lambda: Histogram(BATCH_BOUNDS))
    feeds: dict[tuple[str, str, str], int] = field(default_factory=dict)
    latency: dict[str, Histogram] = field(default_factory=dict)
    letters: dict[str, int] = field(default_factory=dict)
    score_ns: dict[str, int] = field(default_factory=dict)
    _arms: SurfaceArms = field(default_factory=SurfaceArms)

    def note_feed(self, facts: FeedFacts, now_ms: int) -> None:
        """Count a committed feed. `now_ms` since the epoch."""
        surface, arm, completion, requested_at = facts
        key = (surface, arm, completion)
        if key not in self.feeds:
            key = (*self._arms.labels(surface, arm), completion)
        self.feeds[key] = self.feeds.get(key, 0) + 1
        if surface not in self.latency:
            self.latency[surface] = Histogram(LATENCY_BOUNDS_S)
        self.latency[surface].observe(max(0, now_ms - requested_at) / 1000)


class ClosedFacts(NamedTuple):
    """What is counted of a closed feed once its outcomes are committed."""

    surface: str
    arm: str
    seen: int
    takes: int


@dataclass
class JoinedCounts:
    """What the join publishes, in detail: by surface and arm the feeds that are closed, the items
    that were seen, and those that were taken; by reason the dead letters.
    """

    closed: dict[tuple[str, str], int] = field(default_factory=dict)
    seen: dict[tuple[str, str], int] = field(default_factory=dict)
    takes: dict[tuple[str, str], int] = field(default_factory=dict)
    letters: dict[str, int] = field(default_factory=dict)
    _arms: SurfaceArms = field(default_factory=SurfaceArms)

    def note_closed(self, facts: ClosedFacts) -> None:
        """Count a feed whose outcomes are committed."""
        key = self._arms.labels(facts.surface, facts.arm)
        self.closed[key] = self.closed.get(key, 0) + 1
        self.seen[key] = self.seen.get(key, 0) + facts.seen
        self.takes[key] = self.takes.get(key, 0) + facts.takes


def note_letter(letters: dict[str, int], reason: str) -> None:
    """Count a committed dead letter by its reason."""
    letters[reason] = letters.get(reason, 0) + 1
