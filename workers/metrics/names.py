"""Every metric that a process exports: the one place that names them.

Each row says what the metric is and what makes it move. docs/metrics.md is made from this table:
`make metrics` writes it, and a test compares the two.

Rules:
- Every series has the labels `stage` (`ranking`, `join` or `users`) and `slot` (the slot of the
  process on its host) beside those of its row.
- Labels are bounded: by surfaces.toml, by the arms of running experiments, by the models folder, or
  by a list in the code. Surfaces and arms of records are bounded by a number (counts.py), because
  records may name any. No label holds a partition, a user, a request or an item: which partition is
  behind is what `trimtab status` is for.
- Counters begin at 0 with the process. They are copied from the loop, which may count what it reads
  again after a restart a second time. Only what is committed is counted once:
  `trimtab_feeds_total`, `trimtab_feed_latency_seconds`, `trimtab_dead_letters_total`.
- A metric that a stage does not have is absent, not 0.
"""

from enum import StrEnum
from typing import Final, NamedTuple

STAGE: Final = "stage"
SLOT: Final = "slot"
OF_PROCESS: Final = (STAGE, SLOT)
"""The labels of every series."""


class Kind(StrEnum):
    """What a metric is, in Prometheus's words."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class MetricName(NamedTuple):
    """One metric. `labels` are its own, without those of the process.

    - `stages`: which stages export it.
    - `moved_by`: what makes it move, for whoever reads a graph.
    """

    name: str
    kind: Kind
    help: str
    moved_by: str
    stages: tuple[str, ...]
    labels: tuple[str, ...] = ()


class Section(NamedTuple):
    """Metrics that answer one question."""

    title: str
    metrics: tuple[MetricName, ...]


RANKING: Final = "ranking"
JOIN: Final = "join"
USERS: Final = "users"
_ALL = (RANKING, JOIN, USERS)
_LOOPS = (RANKING, JOIN)
_OUTCOMES = (JOIN, USERS)


def _counter(
    name: str, help_text: str, moved_by: str, *labels: str, of: tuple[str, ...] = (RANKING,)
) -> MetricName:
    return MetricName(name, Kind.COUNTER, help_text, moved_by, of, labels)


def _gauge(
    name: str, help_text: str, moved_by: str, *labels: str, of: tuple[str, ...] = (RANKING,)
) -> MetricName:
    return MetricName(name, Kind.GAUGE, help_text, moved_by, of, labels)


def _histogram(
    name: str, help_text: str, moved_by: str, *labels: str, of: tuple[str, ...] = (RANKING,)
) -> MetricName:
    return MetricName(name, Kind.HISTOGRAM, help_text, moved_by, of, labels)


# Is it healthy

BUILD_INFO = _gauge(
    "trimtab_build_info",
    "1, with the version of the program.",
    "a deployment",
    "version",
    of=_ALL,
)
READY = _gauge(
    "trimtab_ready",
    "1 if /readyz answers 200 for this process.",
    "starts, rebalances and restores",
    of=_ALL,
)
CHILD_UP = _gauge(
    "trimtab_child_up",
    "1 if a child of `--processes N` has answered its parent within a second."
    " Without the labels `stage` and `slot`: a child that does not answer has not said them.",
    "a child that starts, hangs or has ended",
    "child",
    of=_ALL,
)
LOOP_BUSY_SECONDS = _gauge(
    "trimtab_loop_same_step_seconds",
    "For how long the loop has been in the same step of its turn. Of the users stage: since its event"
    " loop last turned.",
    "a call that hangs: above 15 s a worker and a join start again",
    of=_ALL,
)
PARTITIONS = _gauge(
    "trimtab_partitions",
    "Assigned partitions by state: reading, restoring, standing (not read until somebody acts),"
    " failing.",
    "rebalances, restores, and partitions that cannot be read",
    "state",
    of=_LOOPS,
)
PARTITION_STATE_SECONDS = _gauge(
    "trimtab_partition_state_seconds",
    "For how long a partition has been restoring, standing or failing: the longest of each state."
    " 0 if no partition is in it.",
    "restores that take long, and partitions that need help",
    "state",
    of=_LOOPS,
)
BROKER_UP = _gauge(
    "trimtab_broker_up",
    "1 if the brokers answer and deny nothing, as far as the client has noticed. Of the users stage:"
    " if one has answered within three heartbeats.",
    "brokers that are away, and rights that were taken away",
    of=_ALL,
)
REDIS_UP = _gauge(
    "trimtab_redis_up",
    "1 if Redis has answered in the last 3 s (or within its timeout, if that is longer): a worker's"
    " read of the weights, or a stage's write of its status. Absent if a stage has no Redis.",
    "a Redis that is away or slow",
    of=_ALL,
)
REDIS_CONTACT_SECONDS = _gauge(
    "trimtab_redis_contact_age_seconds",
    "Seconds since Redis last answered a read of the weights. +Inf if it never has.",
    "a Redis that is away",
)
WAITING = _gauge(
    "trimtab_stage_waiting",
    "1 if the stage waits for something before it goes on. /status says for what.",
    "recoveries and restores, a Redis without the document of a phase",
    of=_OUTCOMES,
)
FAILING = _gauge(
    "trimtab_stage_failing",
    "1 if something is wrong until somebody acts. /status says what.",
    "partitions that cannot be read, a loop that hangs",
    of=_OUTCOMES,
)

# Is it late

LATENCY = _histogram(
    "trimtab_feed_latency_seconds",
    "From the `requested_at` of a request (its producer's clock) to the commit of its feed (the"
    " worker's clock), by surface. A feed that was ranked again after a restart counts once.",
    "committed feeds: slow producers, deadlines, lag, slow transactions",
    "surface",
)
LAG_RECORDS = _gauge(
    "trimtab_lag_records",
    "Records of the input that are not taken in yet, over the partitions of this process that are"
    " restored. Scale on this one.",
    "traffic that is faster than the process",
    of=_ALL,
)
LAG_RECORDS_MAX = _gauge(
    "trimtab_lag_records_max",
    "The same of the partition that is furthest behind.",
    "traffic on one partition, a partition that stands still",
    of=_ALL,
)
LAG_SECONDS = _gauge(
    "trimtab_lag_seconds",
    "How far the stream time of the partition that is furthest behind is before the clock. 0 if"
    " every restored partition is read to its end.",
    "traffic that is faster than the process",
    of=_LOOPS,
)
UNPUBLISHED_RECORDS = _gauge(
    "trimtab_unpublished_records",
    "Records between what is out and the end of the input, as LAG of `trimtab status`.",
    "lag, and transactions that fail",
    of=_LOOPS,
)

# What it does

EVENTS = _counter(
    "trimtab_events_total",
    "Records of candidates that were read, also those that were refused.",
    "traffic, and replays after a restart",
)
CANDIDATES = _counter(
    "trimtab_candidates_total",
    "Candidates of the events that were accepted.",
    "traffic, and replays after a restart",
)
REQUESTS = _counter(
    "trimtab_requests_total",
    "Closed requests that were ranked, also those that are ranked again after a failure.",
    "traffic",
)
FEEDS = _counter(
    "trimtab_feeds_total",
    "Feeds that are committed, by why their request closed: full, marker, deadline, evicted.",
    "traffic; a larger share of `deadline` says that producers are late or leave candidates out",
    "surface",
    "arm",
    "completion",
)
DEAD_LETTERS = _counter(
    "trimtab_dead_letters_total",
    "Dead letters that are committed, by reason (schemas/README.md).",
    "producers that send what is wrong or late; for the join also interactions without a feed",
    "reason",
    of=_LOOPS,
)
OPEN_REQUESTS = _gauge(
    "trimtab_open_requests",
    "Requests that are open, or wait for their models.",
    "traffic, deadlines, producers that do not say how many candidates come",
)
OPEN_REQUESTS_LIMIT = _gauge(
    "trimtab_open_requests_limit",
    "TRIMTAB_MAX_OPEN_REQUESTS: above it, the oldest request is evicted.",
    "the setting",
)
OPEN_BYTES = _gauge(
    "trimtab_open_bytes",
    "Bytes that open requests hold; of the join: bytes that open feeds hold.",
    "traffic, deadlines, outcome windows",
    of=_LOOPS,
)
OPEN_BYTES_LIMIT = _gauge(
    "trimtab_open_bytes_limit",
    "TRIMTAB_MAX_OPEN_MB, of the join TRIMTAB_MAX_OUTCOMES_MB, in bytes. Above it, a worker evicts"
    " the oldest request, and the join stops.",
    "the setting",
    of=_LOOPS,
)
EVICTED = _counter(
    "trimtab_evicted_requests_total",
    "Requests that were closed early, because the open requests took too much memory.",
    "open requests above a limit",
)
HELD = _counter(
    "trimtab_held_requests_total",
    "How often a closed request was held, because its models were still loading.",
    "new versions, pins on versions that are not loaded",
)
SETTLED = _counter(
    "trimtab_settled_events_total",
    "Events that a replay did not judge again.",
    "restarts and rebalances",
)

# Is it right

WORKER_ERRORS = _counter(
    "trimtab_worker_errors_total",
    "Errors in our own code that cost a single record.",
    "a defect: please report it",
    of=_LOOPS,
)
MODEL_ERRORS = _counter(
    "trimtab_model_errors_total",
    "Candidates that a model failed on.",
    "a model that cannot take some features",
)
UNSCORED = _counter(
    "trimtab_unscored_feeds_total",
    "Feeds that no model has scored.",
    "models that are missing, do not load in time, or fail",
)
MISSING_FEATURES = _counter(
    "trimtab_missing_features_total",
    "Features that an event leaves out. They get their default.",
    "producers",
)
UNKNOWN_FEATURES = _counter(
    "trimtab_unknown_features_total",
    "Features of an event that the feature set does not have. They are ignored.",
    "producers",
)
CLIPPED_FEATURES = _counter(
    "trimtab_clipped_features_total",
    "Features outside their bounds.",
    "producers",
)
MISPLACED = _counter(
    "trimtab_misplaced_records_total",
    "Records in another partition than murmur2 gives their key: they would open a request, or have"
    " no feed.",
    "producers with another partitioner",
    of=_LOOPS,
)
UNREADABLE_HEADERS = _counter(
    "trimtab_unreadable_headers_total",
    "Records with a header name that is not UTF-8.",
    "producers",
    of=_LOOPS,
)
DROPPED = _counter(
    "trimtab_dropped_candidates_total",
    "Candidates that a look-up dropped.",
    "the drop sets in Redis",
)
DEFAULTED = _counter(
    "trimtab_defaulted_candidates_total",
    "Candidates that got default features, because a look-up found none.",
    "the features in Redis",
)
WITHOUT_LOOKUPS = _counter(
    "trimtab_feeds_without_lookups_total",
    "Feeds for which a look-up was skipped.",
    "a Redis that is away, slow, or denies the look-up",
)

# Transactions and restores

TRANSACTIONS = _counter(
    "trimtab_transactions_total",
    "Transactions by result: committed, aborted (undone and tried again), lost (its outcome is not"
    " known, everything is restored from the log).",
    "traffic; aborted and lost: brokers, rebalances, records that are too large",
    "result",
    of=_LOOPS,
)
REBALANCES = _counter(
    "trimtab_rebalances_total",
    "How often partitions were assigned to this process.",
    "processes that come and go",
    of=_LOOPS,
)
RESTORES = _counter(
    "trimtab_restores_total",
    "Partitions that were restored.",
    "rebalances, and failures that restore a partition from the log",
    of=_LOOPS,
)
RESTORE_SECONDS = _counter(
    "trimtab_restore_seconds_total",
    "Seconds from the assignment of a partition to the end of its restore, added up.",
    "large logs to read, brokers that are slow",
    of=_LOOPS,
)

# Where the time goes

STEP_SECONDS = _counter(
    "trimtab_step_seconds_total",
    "Seconds of the loop by step: decode and assemble (timed on one record in 16, and multiplied),"
    " look_up, score, combine, encode, publish (records and offsets are sent), commit.",
    "traffic; score: models; look_up: Redis; publish and commit: brokers",
    "step",
    of=_LOOPS,
)
SCORE_SECONDS = _counter(
    "trimtab_score_seconds_total",
    "Seconds of scoring by objective.",
    "models",
    "objective",
)
BATCH_CANDIDATES = _histogram(
    "trimtab_micro_batch_candidates",
    "Candidates of the requests that are ranked together.",
    "traffic, TRIMTAB_LINGER_MS",
)
CPU_SECONDS = _counter(
    "trimtab_process_cpu_seconds_total",
    "CPU time of the process, user and system.",
    "traffic",
    of=_ALL,
)
MEMORY_BYTES = _gauge(
    "trimtab_process_resident_memory_bytes",
    "Resident memory of the process. Absent if the system does not say it.",
    "open requests or feeds, loaded models",
    of=_ALL,
)
MEMORY_LIMIT_BYTES = _gauge(
    "trimtab_process_memory_limit_bytes",
    "What the control group of the process allows it and its neighbours together. Absent if there"
    " is no limit.",
    "the deployment",
    of=_ALL,
)
START_TIME = _gauge(
    "trimtab_process_start_time_seconds",
    "When the process started, in seconds since the epoch. It is new also if a stuck process has"
    " started again under its own process id.",
    "restarts",
    of=_ALL,
)

# What ops change

WEIGHTS_INFO = _gauge(
    "trimtab_weights_info",
    "1, with the version of the weights in force. If workers show several versions of one surface"
    " and arm, they disagree.",
    "weights that are set",
    "surface",
    "arm",
    "version",
)
WEIGHTS_APPLIED = _gauge(
    "trimtab_weights_applied_time_seconds",
    "When this process applied the weights in force, in seconds since the epoch.",
    "weights that are set, restarts",
    "surface",
    "arm",
)
DOCUMENTS_REFUSED = _gauge(
    "trimtab_documents_refused",
    "Documents in Redis that this process refuses now, by kind: weights, models, experiment."
    " What was applied before goes on.",
    "documents that are not valid, or that name models that are not there",
    "surface",
    "kind",
)
REDIS_CALLS = _counter(
    "trimtab_redis_calls_total",
    "Round trips with Redis, by use: steering and lookups of a worker, status of a stage of outcomes,"
    " phases and guard_rails of the users stage.",
    "time, changes of weights; lookups: traffic",
    "use",
    of=_ALL,
)
REDIS_FAILURES = _counter(
    "trimtab_redis_failures_total",
    "Connections to Redis that could not be made, or failed, by use.",
    "a Redis that is away or slow",
    "use",
    of=_ALL,
)
MODEL_INFO = _gauge(
    "trimtab_model_info",
    "1, with the version of the model in force outside of every arm.",
    "new versions in the models folder, pins",
    "surface",
    "objective",
    "version",
)
MODEL_VERSIONS = _gauge(
    "trimtab_model_versions",
    "Versions in the models folder by state: listed (not verified yet), available, loaded, refused,"
    " gone (its folder is gone, and it is in force).",
    "new versions in the models folder",
    "objective",
    "state",
)
MODEL_VERDICTS = _counter(
    "trimtab_model_verdicts_total",
    "Versions that were looked at, by verdict: verified, refused.",
    "new versions in the models folder",
    "verdict",
)
MODEL_LOADS = _counter(
    "trimtab_model_loads_total",
    "Versions that were loaded.",
    "new versions, pins, a budget of models that is too small",
)
MODEL_LOAD_SECONDS = _counter(
    "trimtab_model_load_seconds_total",
    "Seconds in which versions were loaded, added up.",
    "large models, a slow disk",
)
MODEL_EVICTIONS = _counter(
    "trimtab_model_evictions_total",
    "Versions that were unloaded to make room.",
    "a budget of models that is too small",
)
MODEL_CACHE_HITS = _counter(
    "trimtab_model_cache_hits_total",
    "How often a micro-batch found the models of a surface and arm loaded.",
    "traffic",
)
MODEL_CACHE_MISSES = _counter(
    "trimtab_model_cache_misses_total",
    "How often a micro-batch did not find them loaded.",
    "new versions, a budget of models that is too small",
)
MODEL_SWAPS = _counter(
    "trimtab_model_swaps_total",
    "How often another version came into force.",
    "new versions, pins",
)
MODEL_BYTES = _gauge(
    "trimtab_model_loaded_bytes",
    "Estimated bytes of the loaded models.",
    "models that are loaded and unloaded",
)
MODEL_BYTES_LIMIT = _gauge(
    "trimtab_model_loaded_bytes_limit",
    "TRIMTAB_MODELS_MB in bytes. Above it, the least recently used are unloaded.",
    "the setting",
)

# Outcomes

INTERACTION_RECORDS = _counter(
    "trimtab_outcome_records_total",
    "Records of the input of the join: feed records and interactions.",
    "traffic, and replays after a restart",
    of=(JOIN,),
)
FEED_RECORDS = _counter(
    "trimtab_feed_records_total",
    "Feed records that opened a feed.",
    "feeds of surfaces with outcomes",
    of=(JOIN,),
)
DUPLICATE_FEED_RECORDS = _counter(
    "trimtab_duplicate_feed_records_total",
    "Feed records of a feed that was open, or whose outcomes are out.",
    "a writer that is not ours",
    of=(JOIN,),
)
JOINED = _counter(
    "trimtab_interactions_joined_total",
    "Interactions that were joined with their feed.",
    "readers",
    of=(JOIN,),
)
IGNORED = _counter(
    "trimtab_interactions_ignored_total",
    "Interactions of a kind that their surface does not name.",
    "producers",
    of=(JOIN,),
)
SKIPPED = _counter(
    "trimtab_interactions_skipped_total",
    "Interactions of a surface without outcomes.",
    "producers",
    of=(JOIN,),
)
OPEN_FEEDS = _gauge(
    "trimtab_open_feeds",
    "Feeds whose outcome window is open.",
    "feeds, outcome windows",
    of=(JOIN,),
)
CLOSED_FEEDS = _counter(
    "trimtab_closed_feeds_total",
    "Feeds whose outcomes are committed.",
    "feeds, outcome windows",
    "surface",
    "arm",
    of=(JOIN,),
)
SEEN = _counter(
    "trimtab_outcomes_seen_total",
    "Items that were seen, of the feeds that are closed and committed.",
    "readers",
    "surface",
    "arm",
    of=(JOIN,),
)
TAKES = _counter(
    "trimtab_outcomes_takes_total",
    "Items that were taken, of the same feeds. The take-rate is takes / seen. For a verdict use"
    " `trimtab outcomes report`: a graph of rates is no test.",
    "readers, rankings",
    "surface",
    "arm",
    of=(JOIN,),
)
CLOSED_UNTIL = _gauge(
    "trimtab_outcomes_closed_until_seconds",
    "The time before which everything is counted, in seconds since the epoch. Absent if it is not"
    " known yet.",
    "time; it stands still if the stage waits, or if nothing comes",
    of=_OUTCOMES,
)
USERS_FEEDS = _counter(
    "trimtab_users_feeds_total",
    "Feeds that were counted by user.",
    "closed feeds, and replays after a restart",
    of=(USERS,),
)
USERS_UNCHECKED = _counter(
    "trimtab_users_unchecked_feeds_total",
    "Feeds whose arm was not checked, because the document of their phase was not found.",
    "a history in Redis that is gone",
    of=(USERS,),
)
USERS_ENTRIES = _counter(
    "trimtab_users_entries_total",
    "States of entries that were written to the changelog.",
    "traffic of users",
    of=(USERS,),
)
USERS_DELETED = _counter(
    "trimtab_users_deleted_entries_total",
    "Entries of phases and hours that are over.",
    "time",
    of=(USERS,),
)
USERS_READ_AGAIN = _counter(
    "trimtab_users_read_again_total",
    "How often a partition was read again, because Faust had dropped records.",
    "rebalances",
    of=(USERS,),
)
USERS_RESTORED = _counter(
    "trimtab_users_restored_entries_total",
    "Records of the changelog that were read back.",
    "restarts and rebalances",
    of=(USERS,),
)
GUARD_RAILS_WAIT = _gauge(
    "trimtab_guard_rails_wait_seconds",
    "Seconds since the guard rails of all surfaces were last judged, which is done each 2 s. Absent"
    " in the processes that do not judge them: the one with partition 0 of `request-outcomes` does.",
    "a Redis or a Kafka that is away, a missing right, a plan that is refused",
    of=(USERS,),
)
GUARD_RAIL_STOPS = _counter(
    "trimtab_guard_rail_stops_total",
    "How often a guard rail has stopped an arm.",
    "an arm that breaks a guard rail of its plan",
    "surface",
    "arm",
    of=(USERS,),
)

# Traces

SPANS = _counter(
    "trimtab_spans_total",
    "Spans by result: exported, failed (the collector did not take them), dropped (too many were on"
    " their way).",
    "sampled requests; failed and dropped ones: a collector that is away or slow",
    "result",
)
TRACE_CONTEXTS_IGNORED = _counter(
    "trimtab_trace_contexts_ignored_total",
    "Records whose traceparent is not one by the W3C's rules. They are ranked without it.",
    "a producer with faulty tracing; counted only if the worker traces",
)

SECTIONS: Final = (
    Section(
        "Is it healthy",
        (
            BUILD_INFO,
            READY,
            CHILD_UP,
            LOOP_BUSY_SECONDS,
            PARTITIONS,
            PARTITION_STATE_SECONDS,
            BROKER_UP,
            REDIS_UP,
            REDIS_CONTACT_SECONDS,
            WAITING,
            FAILING,
        ),
    ),
    Section(
        "Is it late",
        (LATENCY, LAG_RECORDS, LAG_RECORDS_MAX, LAG_SECONDS, UNPUBLISHED_RECORDS),
    ),
    Section(
        "What it does",
        (
            EVENTS,
            CANDIDATES,
            REQUESTS,
            FEEDS,
            DEAD_LETTERS,
            OPEN_REQUESTS,
            OPEN_REQUESTS_LIMIT,
            OPEN_BYTES,
            OPEN_BYTES_LIMIT,
            EVICTED,
            HELD,
            SETTLED,
        ),
    ),
    Section(
        "Is it right",
        (
            WORKER_ERRORS,
            MODEL_ERRORS,
            UNSCORED,
            MISSING_FEATURES,
            UNKNOWN_FEATURES,
            CLIPPED_FEATURES,
            MISPLACED,
            UNREADABLE_HEADERS,
            DROPPED,
            DEFAULTED,
            WITHOUT_LOOKUPS,
        ),
    ),
    Section(
        "Transactions and restores",
        (TRANSACTIONS, REBALANCES, RESTORES, RESTORE_SECONDS),
    ),
    Section(
        "Where the time goes",
        (
            STEP_SECONDS,
            SCORE_SECONDS,
            BATCH_CANDIDATES,
            CPU_SECONDS,
            MEMORY_BYTES,
            MEMORY_LIMIT_BYTES,
            START_TIME,
        ),
    ),
    Section("Traces", (SPANS, TRACE_CONTEXTS_IGNORED)),
    Section(
        "What ops change",
        (
            WEIGHTS_INFO,
            WEIGHTS_APPLIED,
            DOCUMENTS_REFUSED,
            REDIS_CALLS,
            REDIS_FAILURES,
            MODEL_INFO,
            MODEL_VERSIONS,
            MODEL_VERDICTS,
            MODEL_LOADS,
            MODEL_LOAD_SECONDS,
            MODEL_EVICTIONS,
            MODEL_CACHE_HITS,
            MODEL_CACHE_MISSES,
            MODEL_SWAPS,
            MODEL_BYTES,
            MODEL_BYTES_LIMIT,
        ),
    ),
    Section(
        "Outcomes",
        (
            INTERACTION_RECORDS,
            FEED_RECORDS,
            DUPLICATE_FEED_RECORDS,
            JOINED,
            IGNORED,
            SKIPPED,
            OPEN_FEEDS,
            CLOSED_FEEDS,
            SEEN,
            TAKES,
            CLOSED_UNTIL,
            USERS_FEEDS,
            USERS_UNCHECKED,
            USERS_ENTRIES,
            USERS_DELETED,
            USERS_RESTORED,
            USERS_READ_AGAIN,
            GUARD_RAILS_WAIT,
            GUARD_RAIL_STOPS,
        ),
    ),
)

METRICS: Final = {metric.name: metric for section in SECTIONS for metric in section.metrics}
"""Every metric by its name, in the order of docs/metrics.md."""
