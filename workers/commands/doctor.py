"""`trimtab doctor`: whether a real environment is fit for a first run.

Rules:
- One line for each thing that is checked, in the order in which a worker needs it. A line that is
  not `ok` says what to do.
- The rules are those by which stages start, verify and follow: `preflight.py`, `rights.py`,
  `safekeeping.py`, the verifier, the documents of steering.
- What cannot be known under this user's rights is `unknown`, and never counts against it.
- If a server does not answer, what depends on it is left out.
- Nothing is written but one transactional id (see `trial_requests.py`).

| status  | meaning                                                   | exit code |
|---------|-----------------------------------------------------------|-----------|
| ok      | as it should be                                           | 0         |
| unknown | this user may not see it                                  | 0         |
| warns   | works, with a weaker guarantee or more CPU than need be   | 0         |
| stops   | a stage would not start, or would lose records or weights | 1         |
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

import click
import msgspec

from workers.codec.compiled import IS_COMPILED
from workers.commands.models.verify import ROW_BY_ROW
from workers.commands.options import BrokersAt, example, gather_settings, json_option
from workers.commands.redis_access import RedisAt
from workers.commands.topics import STAGES, NamedTopics, Stage, TopicsAt, has_outcomes
from workers.commands.trace_export import try_collector
from workers.errors import Failure
from workers.ranking.surface import Surfaces, feature_sets_by_objective
from workers.scoring.catalogue import Rejected, Verified
from workers.scoring.folder import find_versions
from workers.scoring.verifier import Verifier
from workers.settings import ConfigurationError, need
from workers.steering.access import (
    Probe,
    RedisFacts,
    denials,
    read_facts,
    refused_documents,
    stage_probes,
    users_probes,
    worker_probes,
)
from workers.steering.editor import SteeringEditor
from workers.streaming.clients import ADMIN, Cluster, KafkaException, worker_clients
from workers.streaming.preflight import Finding
from workers.streaming.rights import (
    Resource,
    Right,
    RightsRequest,
    denied_resource,
    describe_missing,
    join_rights,
    reader_rights,
    users_rights,
    worker_rights,
)
from workers.streaming.safekeeping import offsets_findings
from workers.streaming.topics import BrokerUnreachable, TopicError, broker_addresses
from workers.streaming.trial_requests import (
    CONSUMER_GROUP_HEARTBEAT,
    TXN_OFFSET_COMMIT,
    broker_setting,
    group_error,
    has_records_after,
    known_requests,
    listener_error,
    now_ms,
    transactional_error,
)
from workers.surfaces import load_surfaces

Status = Literal["ok", "unknown", "warns", "stops"]

_KIP_447 = 3
"""The version of TxnOffsetCommit that carries the group's metadata: Kafka 2.5."""
_OLDEST_REDIS = (6, 2)
_SKEW_MS = 1000


class CheckResult(msgspec.Struct, frozen=True):
    """One line: what was checked, how it is, and what to do."""

    check: str
    status: Status
    text: str


@dataclass(frozen=True)
class DoctorSettings:
    """The settings that are examined, by the names of SETTINGS."""

    kafka: str | None
    kafka_config: str | None
    redis: str | None = field(repr=False)
    redis_prefix: str
    redis_timeout_ms: int
    surfaces: str
    models: str
    topic_candidates: str
    topic_feeds: str
    topic_dead_letters: str
    topic_interactions: str
    topic_interaction_letters: str
    topic_request_outcomes: str
    topic_feed_outcomes: str
    topic_user_outcomes: str
    topic_user_changelog: str
    group: str
    outcomes_group: str
    users_group: str
    group_protocol: str
    trace_endpoint: str | None = field(repr=False)
    trace_ratio: str

    def topics(self) -> NamedTopics:
        """The names of all topics."""
        return NamedTopics(**{name.name: getattr(self, name.name) for name in fields(NamedTopics)})

    def group_of(self, stage: Stage) -> str:
        """The consumer group of a stage."""
        groups = {
            "worker": self.group,
            "join": self.outcomes_group,
            "users": self.users_group,
        }
        return groups[stage]


_SETTINGS = tuple(field.name for field in fields(DoctorSettings))


@click.command(epilog=example("trimtab doctor", "trimtab doctor --for all --json"))
@gather_settings("doctor_settings", _SETTINGS, DoctorSettings)
@click.option(
    "--for",
    "stage",
    type=click.Choice((*STAGES, "all")),
    default="worker",
    show_default=True,
    help="Check what this stage needs, under the user that it runs as.",
)
@json_option("Print one JSON document.")
@click.pass_context
def doctor(
    context: click.Context, *, doctor_settings: DoctorSettings, stage: str, as_json: bool
) -> None:
    """Check Kafka, Redis, surfaces and models before the first run.

    Give it the settings of a worker. No record, offset, key or group is changed. The only trace is
    the transactional id that ends in `-doctor`, which shows whether workers may have one. Exit code
    1 if something would stop a worker, or lose records or weights.
    """
    stages = STAGES if stage == "all" else tuple(known for known in STAGES if known == stage)
    results: list[CheckResult] = []
    for result in _examine(doctor_settings, stages):
        results.append(result)
        if not as_json:
            click.echo(f"{result.status:<7}  {result.check:<12}  {result.text}")

    is_fit = not any(result.status == "stops" for result in results)
    if as_json:
        click.echo(msgspec.json.encode({"ok": is_fit, "for": stage, "checks": results}))
    context.exit(0 if is_fit else 1)


def _examine(settings: DoctorSettings, stages: Sequence[Stage]) -> Iterator[CheckResult]:
    """All checks, in their order."""
    try:
        surfaces = load_surfaces(Path(settings.surfaces))
    except ConfigurationError as error:
        yield CheckResult("surfaces", "stops", str(error))
        return
    yield CheckResult("surfaces", "ok", f"{settings.surfaces}: {', '.join(surfaces)}")
    if {"join", "users"} & set(stages) and not has_outcomes(surfaces):
        yield CheckResult(
            "outcomes",
            "warns",
            f"{settings.surfaces}: no surface has outcomes, so there is nothing to count",
        )

    if "worker" in stages:
        yield _compiled_code()
        yield from _models(Path(settings.models), surfaces)
    yield from _kafka(settings, surfaces, stages)
    yield from _redis(settings, surfaces, stages)
    if "worker" in stages:
        yield from _traces(settings)


def _compiled_code() -> CheckResult:
    if IS_COMPILED:
        return CheckResult(
            "decoding", "ok", "usual events and Protobuf feeds pass through compiled code"
        )
    return CheckResult(
        "decoding",
        "warns",
        "the compiled codec was not built, so Python does its work, which takes more CPU;"
        " install a C compiler and the headers of Python, then install trimtab again",
    )


# Models


def _models(folder: Path, surfaces: Surfaces) -> Iterator[CheckResult]:
    """The version of each objective that a worker would use, verified as it does."""
    try:
        versions = find_versions(folder)
    except OSError as error:
        yield CheckResult("models", "stops", f"{folder}: cannot be read: {error.strerror}")
        return

    with Verifier() as verifier:
        for objective, feature_sets in feature_sets_by_objective(surfaces).items():
            refusals: list[str] = []
            for version in versions.get(objective, ()):
                verdict = verifier.verify(version.folder, feature_sets)
                name = f"{objective}/{version.number}"
                if isinstance(verdict, Verified):
                    note = ROW_BY_ROW if verdict.rows_per_call == 1 else ""
                    yield CheckResult("models", "ok", f"{name} verified{note}")
                    break
                if isinstance(verdict, Rejected):
                    refusals.append(f"{name}: {verdict.reason}: {verdict.message}")
            else:
                why = "; ".join(refusals) or f"{folder / objective} has no version"
                yield CheckResult(
                    "models",
                    "stops",
                    f"{objective}: expected a version that passes verification; {why}. Make one:"
                    " trimtab models new",
                )


# Traces


def _traces(settings: DoctorSettings) -> Iterator[CheckResult]:
    """Whether the collector would take spans, if one is set."""
    try:
        refusal = try_collector(settings.trace_endpoint, settings.trace_ratio)
    except ConfigurationError as error:
        yield CheckResult("traces", "stops", str(error))
        return

    if refusal:
        yield CheckResult(
            "traces",
            "warns",
            f"the collector takes no spans: {refusal}. Feeds go on without. Check --trace-endpoint,"
            " the network, and the token in OTEL_EXPORTER_OTLP_HEADERS",
        )
    elif refusal is not None:
        yield CheckResult("traces", "ok", "the collector takes spans")


# Kafka


def _kafka(
    settings: DoctorSettings, surfaces: Surfaces, stages: Sequence[Stage]
) -> Iterator[CheckResult]:
    try:
        clients = worker_clients(settings.group, settings.group_protocol)
        brokers = BrokersAt.of(settings.kafka, settings.kafka_config)
        cluster = brokers.cluster(ADMIN, *clients)
    except ConfigurationError as error:
        yield CheckResult("brokers", "stops", str(error))
        return

    reached = list(_brokers(cluster))
    yield from reached
    if not any(result.status == "ok" for result in reached):
        return

    yield from _requests(cluster, settings.group_protocol)
    yield from _rights(cluster, settings, surfaces, stages)
    topics_at = TopicsAt(cluster, settings.topics(), surfaces, tuple(stages))
    yield from _topics(topics_at)
    yield from _broker_clock(topics_at)


def _brokers(cluster: Cluster) -> Iterator[CheckResult]:
    """Each address that was given, and each under which a broker says that it can be reached."""
    given = [address.strip() for address in cluster.bootstrap.split(",") if address.strip()]
    answering: list[str] = []
    for address in given:
        error = listener_error(cluster, address)
        if error:
            # The others may be enough.
            status: Status = "warns" if len(given) > 1 else "stops"
            yield CheckResult("brokers", status, _unreachable(address, error))
        else:
            answering.append(address)
            yield CheckResult("brokers", "ok", f"{address} answers")
    if not answering:
        return

    for address in broker_addresses(cluster.bootstrap, cluster.properties):
        if address in given:
            continue
        error = listener_error(cluster, address)
        if error:
            text = f"{_unreachable(address, error)}. It is the broker's advertised.listeners"
            yield CheckResult("brokers", "stops", text)
        else:
            yield CheckResult("brokers", "ok", f"{address} answers, as its broker says")


def _unreachable(address: str, error: str) -> str:
    return (
        f"{address}: does not answer: {error}. Check the address, the network, and what the file of"
        " --kafka-config says of TLS and SASL"
    )


def _requests(cluster: Cluster, protocol: str) -> Iterator[CheckResult]:
    versions = known_requests(cluster)
    if not versions:
        yield CheckResult(
            "version",
            "unknown",
            "no broker says which requests it knows: expected Kafka 2.5 or later",
        )
        return

    if versions.get(TXN_OFFSET_COMMIT, 0) < _KIP_447:
        yield CheckResult(
            "version", "stops", "the brokers are too old, expected Kafka 2.5 or later (KIP-447)"
        )
    elif protocol == "consumer" and CONSUMER_GROUP_HEARTBEAT not in versions:
        yield CheckResult(
            "version",
            "stops",
            "the group protocol 'consumer' needs Kafka 4 (KIP-848). Give another with"
            " --group-protocol, or upgrade the brokers",
        )
    else:
        yield CheckResult("version", "ok", f"the brokers know all that {protocol!r} needs")


def _rights(
    cluster: Cluster, settings: DoctorSettings, surfaces: Surfaces, stages: Sequence[Stage]
) -> Iterator[CheckResult]:
    for stage in stages:
        needed = _needed_rights(settings, surfaces, stage)
        useful, without = _useful_rights(settings, stage)
        request = RightsRequest(cluster.admin(), (*needed, *useful))
        request.wait()
        answer = request.answer()
        missing = [right for right in answer.missing if right in needed]
        granted = [right for right in answer.granted if right in needed]
        for right in needed:
            if right.resource is not Resource.TOPIC:
                error = (
                    group_error(cluster, right.name)
                    if right.resource is Resource.GROUP
                    else transactional_error(cluster, settings.group_of(stage))
                )
                if error is None:
                    granted.append(right)
                elif denied_resource(error) is right.resource:
                    missing.append(right)
                else:
                    yield CheckResult(
                        "rights",
                        "stops",
                        f"{stage}: {right}: cannot be tried: {error.str()}. Look at the brokers'"
                        " log: is the topic of its coordinator available?",
                    )

        if missing:
            yield CheckResult("rights", "stops", f"{stage}: {describe_missing(cluster, missing)}")
        elif len(granted) == len(needed):
            yield CheckResult("rights", "ok", f"{stage}: all {len(needed)}")
        elif granted:
            names = ", ".join(str(right) for right in needed if right not in granted)
            yield CheckResult("rights", "unknown", f"{stage}: the broker does not say: {names}")

        lacking = [right for right in answer.missing if right in useful]
        if lacking:
            text = f"{stage}: {describe_missing(cluster, lacking)}; without it {without}"
            yield CheckResult("rights", "warns", text)


def _needed_rights(settings: DoctorSettings, surfaces: Surfaces, stage: Stage) -> tuple[Right, ...]:
    group = settings.group_of(stage)
    if stage == "worker":
        topics = settings.topics().worker(surfaces)
        return worker_rights(
            candidates=topics.candidates,
            feeds=topics.feeds,
            dead_letters=topics.dead_letters,
            interactions=topics.interactions,
            group=group,
            transactional_id=f"{group}-doctor",
        )
    if stage == "join":
        join = settings.topics().join
        return join_rights(
            interactions=join.interactions,
            dead_letters=join.dead_letters,
            request_outcomes=join.request_outcomes,
            feed_outcomes=join.feed_outcomes,
            group=group,
            transactional_id=f"{group}-doctor",
        )
    users = settings.topics().users
    return users_rights(
        request_outcomes=users.request_outcomes,
        user_outcomes=users.user_outcomes,
        changelog=users.changelog,
        group=group,
    )


def _useful_rights(settings: DoctorSettings, stage: Stage) -> tuple[tuple[Right, ...], str]:
    """Rights that a stage can do without, and what happens then."""
    if stage == "worker":
        letters = (Right("Read", Resource.TOPIC, settings.topic_dead_letters),)
        return letters, (
            "what was refused may become a dead letter a second time, after a change of surfaces.toml"
        )
    if stage == "users":
        return reader_rights(settings.topic_feed_outcomes), "no guard rail stops an arm"
    return (), ""


def _topics(topics_at: TopicsAt) -> Iterator[CheckResult]:
    try:
        findings = topics_at.findings()
        findings += _short_offsets(topics_at)
    except (TopicError, BrokerUnreachable) as error:
        yield CheckResult("topics", "stops", str(error))
        return
    for finding in findings:
        yield CheckResult("topics", "stops" if finding.stops else "warns", finding.text)
    if topics_at.names and not any(finding.stops for finding in findings):
        yield CheckResult("topics", "ok", f"{', '.join(topics_at.names)}: none stops a worker")


def _short_offsets(topics_at: TopicsAt) -> Iterable[Finding]:
    minutes = broker_setting(topics_at.cluster, "offsets.retention.minutes")
    return offsets_findings(
        None if minutes is None else int(minutes), topics_at.inputs, topics_at.read_existing()
    )


def _broker_clock(topics_at: TopicsAt) -> Iterator[CheckResult]:
    """A broker tells no time. A record from the future shows that its clock is ahead of ours."""
    existing = topics_at.existing()
    for topic in topics_at.inputs:
        if topic in existing:
            yield from _clock_of(topics_at.cluster, topic, existing[topic])


def _clock_of(cluster: Cluster, topic: str, count: int) -> Iterator[CheckResult]:
    try:
        is_ahead = has_records_after(cluster, topic, count, now_ms() + _SKEW_MS)
    except KafkaException as error:
        yield CheckResult("clocks", "unknown", f"{topic}: {error.args[0].str()}")
        return
    if is_ahead:
        yield CheckResult(
            "clocks",
            "warns",
            f"topic {topic!r}: has records from more than {_SKEW_MS} ms ahead of this machine."
            " Synchronize the clocks of brokers, producers and workers (NTP)",
        )
    else:
        yield CheckResult("clocks", "ok", f"no record of {topic!r} is from the future")


# Redis


def _redis(
    settings: DoctorSettings, surfaces: Surfaces, stages: Sequence[Stage]
) -> Iterator[CheckResult]:
    try:
        if not settings.redis and "worker" not in stages:
            yield CheckResult("redis", "unknown", "not set; stages of outcomes can do without it")
            return
        url = need("redis", settings.redis)
        redis = RedisAt.of(url, settings.redis_prefix, settings.redis_timeout_ms)
        with redis.open() as editor:
            facts = read_facts(editor)
            yield from _server(facts)
            yield from _commands(editor, surfaces, stages)
            if "worker" in stages:
                yield from _documents(editor, surfaces)
    except ConfigurationError as error:
        yield CheckResult("redis", "stops", str(error))
    except Failure as error:
        yield CheckResult(
            "redis",
            "stops",
            f"{str(error).rstrip('.')}. Check the address and the network, and the user and"
            " password in the URL",
        )


def _server(facts: RedisFacts) -> Iterator[CheckResult]:
    version = facts.version
    if version is None:
        yield CheckResult("redis", "unknown", "answers, and does not say its version")
    elif tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_REDIS:
        yield CheckResult("redis", "stops", f"version: got {version}, expected 6.2 or later")
    else:
        yield CheckResult("redis", "ok", f"answers, version {version}")

    if facts.maxmemory is None:
        yield CheckResult(
            "redis",
            "unknown",
            "this user may not see maxmemory-policy and persistence (INFO). Expected: noeviction,"
            " and appendonly yes",
        )
    else:
        yield from _memory(facts)

    if facts.time_ms is None:
        yield CheckResult(
            "clocks",
            "unknown",
            "this user may not see the time of Redis: compare redis-cli TIME with date",
        )
        return
    skew_ms = facts.time_ms - now_ms()
    if abs(skew_ms) > _SKEW_MS:
        yield CheckResult(
            "clocks",
            "warns",
            f"Redis: got {skew_ms} ms ahead of this machine, expected at most {_SKEW_MS} either way."
            " Synchronize the clocks (NTP)",
        )
    else:
        yield CheckResult("clocks", "ok", f"Redis is within {_SKEW_MS} ms of this machine")


def _memory(facts: RedisFacts) -> Iterator[CheckResult]:
    policy = facts.maxmemory_policy or ""
    if facts.maxmemory and policy.startswith("allkeys"):
        yield CheckResult(
            "redis",
            "stops",
            f"maxmemory-policy: got {policy}, expected noeviction; weights and their history could"
            " be evicted. Set it: redis-cli CONFIG SET maxmemory-policy noeviction",
        )
    else:
        yield CheckResult("redis", "ok", "evicts no weights")
    if not facts.is_appending:
        yield CheckResult(
            "redis",
            "warns",
            "appendonly: got no, expected yes; weights and history since the last snapshot are lost"
            " in a crash. Set it: redis-cli CONFIG SET appendonly yes",
        )


def _commands(
    editor: SteeringEditor, surfaces: Surfaces, stages: Sequence[Stage]
) -> Iterator[CheckResult]:
    probes: list[Probe] = []
    if "worker" in stages:
        probes += worker_probes(editor.keys, surfaces)
    if "join" in stages:
        probes += stage_probes(editor.keys, "join")
    if "users" in stages:
        probes += stage_probes(editor.keys, "users")
        probes += users_probes(editor.keys, surfaces)

    denied = denials(editor, probes)
    for probe, message, is_unwritable in denied:
        how = "Grant it: deploy/acl-redis7.conf or acl-redis6.conf"
        if is_unwritable:
            how = "Give the address of the current master"
        status: Status = "stops" if probe.stops else "warns"
        yield CheckResult(
            "redis", status, f"{probe.name}: {message}; without it: {probe.without}. {how}"
        )
    if not denied:
        yield CheckResult("redis", "ok", f"{len(probes)} commands are allowed")


def _documents(editor: SteeringEditor, surfaces: Surfaces) -> Iterator[CheckResult]:
    for name, surface in surfaces.items():
        refused = refused_documents(editor, surface)
        for key, reason in refused.items():
            yield CheckResult(
                "weights",
                "stops",
                f"{key}: workers refuse it: {reason}. Correct it with redis-cli, or restore it:"
                f" trimtab weights history {name}",
            )
        if not refused:
            yield CheckResult("weights", "ok", f"{name}: what Redis holds is valid")
