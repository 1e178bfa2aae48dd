"""What keeps the records of a stage: replicas, retention, and the lifetime of committed offsets.

A worker does not check these when it starts, because they harm it only later. `trimtab doctor` and
`trimtab topics check` do.

| checked                                            | if it does not hold                     |
|----------------------------------------------------|-----------------------------------------|
| a topic can be written at all: min.insync.replicas | stops: every write is refused           |
| input is not compacted                             | stops: candidates of a request, or      |
|                                                    |   feeds of a user, are lost             |
| candidates and feeds are kept for the longest      | stops: after a restart, requests would  |
|   horizon and an hour, which a restart may take    |   be lost or published twice            |
| feeds are kept as long as candidates               | stops: they could be published twice    |
| request-outcomes are kept for that hour            | stops: they would not be counted        |
| these are not deleted for their size               | warn: under load they could be too soon |
| two replicas or more, if there are brokers for it  | warn: one lost disk loses records       |
| min.insync.replicas is 2 or more, from three       | warn: the only copy may be lost         |
|   replicas on                                      |                                         |
| offsets live as long as candidates                 | warn: a group that was away for longer  |
|                                                    |   begins at the wrong place             |
"""

from collections.abc import Iterator, Mapping, Sequence

from workers.ranking.surface import Surfaces
from workers.streaming.clients import Cluster
from workers.streaming.preflight import Finding, SeenTopics, configure_command, retention_of
from workers.streaming.topics import UsersTopics, WorkerTopics

_RESTART_MS = 3600 * 1000
_MINUTE_MS = 60 * 1000


def retention_findings(
    cluster: Cluster, topics: WorkerTopics, surfaces: Surfaces, seen: SeenTopics
) -> Iterator[Finding]:
    """What would lose candidates or feeds that are still needed, of the topics that exist."""
    horizons = [surface.horizon_ms for surface in surfaces.values()]
    kept_ms = max(horizons, default=0) + _RESTART_MS
    for name in (topics.candidates, topics.feeds):
        reason = "the longest horizon_ms and an hour for a restart"
        yield from _kept_too_short(cluster, name, seen, kept_ms, reason)

    inputs = [topics.candidates]
    if topics.interactions is not None:
        inputs.append(topics.interactions)
    for name in inputs:
        yield from _compacted(cluster, name, seen, "one record of a request")
    for name in (*inputs, topics.feeds):
        yield from _limited_in_size(cluster, name, seen)

    if topics.candidates in seen.configs and topics.feeds in seen.configs:
        yield from _feeds_shorter_than_candidates(cluster, topics, seen)


def users_retention_findings(
    cluster: Cluster, topics: UsersTopics, seen: SeenTopics
) -> Iterator[Finding]:
    """What would lose outcomes of requests before they are counted by user."""
    name = topics.request_outcomes
    reason = "an hour for a restart of the users stage"
    yield from _kept_too_short(cluster, name, seen, _RESTART_MS, reason)
    yield from _compacted(cluster, name, seen, "one record of a user")
    yield from _limited_in_size(cluster, name, seen)


def _kept_too_short(
    cluster: Cluster, name: str, seen: SeenTopics, needed_ms: int, reason: str
) -> Iterator[Finding]:
    """Whether a topic is kept for less than `needed_ms`, and why that long."""
    config = seen.configs.get(name)
    if config is None:
        return
    retention_ms = retention_of(config)
    if retention_ms is not None and retention_ms < needed_ms:
        yield Finding(
            f"topic {name!r}: retention.ms: got {retention_ms}, expected at least {needed_ms}"
            f" ({reason}). Mend it:"
            f" {configure_command(cluster, name, f'retention.ms={needed_ms}')}"
        )


def _compacted(cluster: Cluster, name: str, seen: SeenTopics, kept: str) -> Iterator[Finding]:
    config = seen.configs.get(name)
    if config is None or "compact" not in config["cleanup.policy"]:
        return
    yield Finding(
        f"topic {name!r}: cleanup.policy: got {config['cleanup.policy']}, expected delete;"
        f" compaction keeps {kept} only. Mend it:"
        f" {configure_command(cluster, name, 'cleanup.policy=delete')}"
    )


def _limited_in_size(cluster: Cluster, name: str, seen: SeenTopics) -> Iterator[Finding]:
    config = seen.configs.get(name)
    if config is None or int(config.get("retention.bytes", "-1")) < 0:
        return
    yield _weaker(
        f"topic {name!r}: retention.bytes: got {config['retention.bytes']}, expected -1; under load,"
        " records would be deleted before their time is over. Mend it:"
        f" {configure_command(cluster, name, 'retention.bytes=-1')}",
        event="retention_by_size",
    )


def _feeds_shorter_than_candidates(
    cluster: Cluster, topics: WorkerTopics, seen: SeenTopics
) -> Iterator[Finding]:
    feeds_ms = retention_of(seen.configs[topics.feeds])
    candidates_ms = retention_of(seen.configs[topics.candidates])
    if feeds_ms is None or (candidates_ms is not None and feeds_ms >= candidates_ms):
        return
    expected = -1 if candidates_ms is None else candidates_ms
    yield Finding(
        f"topic {topics.feeds!r}: retention.ms: got {feeds_ms}, expected {expected} as"
        f" {topics.candidates!r}; a request whose feed is gone could be published again. Mend it:"
        f" {configure_command(cluster, topics.feeds, f'retention.ms={expected}')}"
    )


def replication_findings(
    cluster: Cluster,
    *,
    configs: Mapping[str, Mapping[str, str]],
    replicas: Mapping[str, int],
    brokers: int,
) -> Iterator[Finding]:
    """What one broker that is lost would do to these topics. One finding if there is one broker."""
    for name, config in configs.items():
        in_sync = int(config["min.insync.replicas"])
        if name in replicas and in_sync > replicas[name]:
            yield Finding(
                f"topic {name!r}: min.insync.replicas: got {in_sync}, expected at most its"
                f" {replicas[name]} replicas; every write is refused. Mend it:"
                f" {configure_command(cluster, name, f'min.insync.replicas={replicas[name]}')}"
            )
    if brokers == 1:
        yield _weaker(
            "one broker: got 1, expected 3 in production; what its disk loses is lost",
            event="one_broker",
        )
        return

    copied_once = [name for name in configs if replicas.get(name, brokers) == 1]
    if copied_once:
        yield _weaker(
            f"replicas of {', '.join(copied_once)}: got 1, expected {min(3, brokers)}; one lost"
            " disk loses records. Mend it: kafka-reassign-partitions.sh",
            event="one_replica",
        )
    for name, config in configs.items():
        if replicas.get(name, 0) >= 3 and int(config["min.insync.replicas"]) < 2:
            yield _weaker(
                f"topic {name!r}: min.insync.replicas: got 1, expected 2; a write may be lost with"
                " one broker. Mend it:"
                f" {configure_command(cluster, name, 'min.insync.replicas=2')}",
                event="one_in_sync",
            )


def offsets_findings(
    retention_minutes: int | None, topics: Sequence[str], seen: SeenTopics
) -> Iterator[Finding]:
    """Offsets that are forgotten before the records. None: the user may not see the setting."""
    if retention_minutes is None:
        return
    for name in topics:
        config = seen.configs.get(name)
        kept_ms = None if config is None else retention_of(config)
        if kept_ms is not None and retention_minutes * _MINUTE_MS < kept_ms:
            yield _weaker(
                f"brokers: offsets.retention.minutes: got {retention_minutes}, expected at least"
                f" {-(-kept_ms // _MINUTE_MS)} as {name!r} keeps its records; a group that is away"
                " for longer loses its place. Raise it in the brokers' configuration",
                event="offsets_short",
            )


def _weaker(text: str, event: str) -> Finding:
    return Finding(text, event=event)
