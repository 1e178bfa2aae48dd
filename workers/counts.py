"""What a worker counts: the one place that names its counters.

To count something new, add a field here and raise it where it happens. The field is then part of
the worker's status (`counts`) without further code.
"""

from dataclasses import dataclass


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
