"""The parts of a worker, put together from its settings."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

from workers.assembly.held import Budget
from workers.assembly.rules import rules_digest
from workers.codec.decoder import Decoder
from workers.codec.formats import Format
from workers.counts import Counts, RankedCounts, StepTimes
from workers.log import log
from workers.ranking.lookup import LookUp
from workers.ranking.pins import AvailableModels
from workers.ranking.surface import Surfaces
from workers.scoring.catalogue import Catalogue
from workers.scoring.registry import Registry
from workers.settings import ConfigurationError, WorkerSettings, need
from workers.steering.follower import Follower
from workers.steering.lookups import Lookups
from workers.streaming.clients import Cluster, KafkaConfigError
from workers.streaming.dead_letters import DeadLetters
from workers.streaming.limits import OutputLimits
from workers.streaming.linger import Linger
from workers.streaming.ownership import Ownership
from workers.streaming.placement import Placement, ask_count
from workers.streaming.preflight import check_topics
from workers.streaming.publisher import Publisher
from workers.streaming.ranker import Ranker
from workers.streaming.ranking_intake import RankingIntake
from workers.streaming.ranking_partition import RankingPartition, make_partition
from workers.streaming.ranking_restore import Restored, ranking_restorer
from workers.streaming.reachability import BrokerReachability, Denials
from workers.streaming.rights import worker_rights
from workers.streaming.topics import WorkerTopics
from workers.streaming.worker import Worker, build_loop
from workers.tracing.request_traces import RequestTracer
from workers.worker_errors import WorkerErrors

RankingWorker = Worker[RankingPartition, Restored]


class BuiltWorker(NamedTuple):
    """A worker, and the parts that count something."""

    worker: RankingWorker
    counts: Counts
    ranked: RankedCounts
    times: tuple[StepTimes, ...]
    budget: Budget


class StatusReport:
    """What the worker adds to its status. Steering asks for it from a thread of its own.

    It is empty until the worker is put together.
    """

    worker: RankingWorker | None = None

    def read(self) -> Mapping[str, object]:
        """The report as it is now."""
        return {} if self.worker is None else self.worker.report()


class ModelAvailability:
    """The available models of a registry, as steering sees them.

    The value is a new one only if other models are available, because steering judges all documents
    again then. A model that is loaded or unloaded makes no difference.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._seen: Catalogue | None = None
        self._available = AvailableModels()

    def read(self) -> AvailableModels:
        """Objectives to their verified versions, and the features that these read."""
        catalogue = self._registry.catalogue
        if catalogue is not self._seen:
            self._seen = catalogue
            available = _available_models(catalogue)
            if available.models != self._available.models:
                self._available = available
        return self._available


def _available_models(catalogue: Catalogue) -> AvailableModels:
    models: dict[str, dict[int, frozenset[str]]] = {}
    for objective, versions in catalogue.entries.items():
        for number, entry in versions.items():
            if entry.is_available:
                models.setdefault(objective, {})[number] = frozenset(entry.features)
    return AvailableModels(models)


def build_registry(settings: WorkerSettings, surfaces: Surfaces) -> Registry:
    """The thread that follows the models folder. Once entered, it has verified what surfaces need."""
    return Registry(Path(settings.models), surfaces, settings.models_mb * 1024 * 1024, _log_event)


def build_lookups(settings: WorkerSettings) -> Lookups:
    """The thread that looks up by id. Raises ConfigurationError for a URL that cannot be right."""
    try:
        return Lookups(
            need("redis", settings.redis),
            settings.redis_prefix,
            settings.lookup_ms / 1000,
            _log_event,
            timeout_s=settings.redis_timeout_ms / 1000,
        )
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def build_steering(
    settings: WorkerSettings,
    surfaces: Surfaces,
    name: str,
    report: StatusReport,
    registry: Registry,
    lookups: Lookups,
) -> Follower:
    """The thread that follows Redis. Raises ConfigurationError for a URL that cannot be right."""
    address = need("redis", settings.redis)
    try:
        return Follower(
            address,
            settings.redis_prefix,
            surfaces,
            name,
            settings.home_folder,
            _log_event,
            report=report.read,
            available=ModelAvailability(registry).read,
            want=registry.request_verification,
            on_connected=lookups.reconnect,
            timeout_s=settings.redis_timeout_ms / 1000,
        )
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def build_worker(
    settings: WorkerSettings,
    surfaces: Surfaces,
    cluster: Cluster,
    *,
    name: str,
    transactional_id: str,
    steering: Follower,
    registry: Registry,
    look_up: LookUp,
    tracer: RequestTracer | None = None,
) -> BuiltWorker:
    """Check the topics and the rights, and put the loop together. Raises ConfigurationError.

    `tracer` is None if nothing is traced.
    """
    group = settings.group
    protocol = settings.group_protocol
    has_outcomes = any(surface.outcomes is not None for surface in surfaces.values())
    topics = WorkerTopics(
        candidates=settings.topic_candidates,
        feeds=settings.topic_feeds,
        dead_letters=settings.topic_dead_letters,
        interactions=settings.topic_interactions if has_outcomes else None,
    )

    # What the broker must allow, and what the topics are like
    rights = worker_rights(
        candidates=topics.candidates,
        feeds=topics.feeds,
        dead_letters=topics.dead_letters,
        interactions=topics.interactions,
        group=group,
        transactional_id=transactional_id,
    )
    facts = check_topics(cluster, topics, rights)
    limits = OutputLimits(cluster, topics, facts.limits)
    reachability = BrokerReachability(Denials(cluster, rights))

    # By default no event is refused for its partition. Otherwise the number of partitions is a rule.
    is_placement_required = settings.candidates_partitioner == "murmur2"
    placement_rules = []
    if is_placement_required:
        placement_rules = [settings.candidates_partitioner, str(facts.partitions)]
    rules = rules_digest(surfaces, settings.candidates_format, *placement_rules)

    log.info(
        "starting",
        transactional_id=transactional_id,
        group=group,
        protocol=protocol,
        models=registry.available(),
    )
    try:
        consumer = cluster.member(group, name, protocol, reachability.error)
    except KafkaConfigError as error:
        raise ConfigurationError(
            f"{settings.kafka_config}: {error} (group protocol {protocol!r})"
        ) from None

    counts = Counts()
    errors = WorkerErrors(counts)
    budget = Budget(
        settings.max_open_requests, settings.max_open_mb * 1024 * 1024, settings.models_wait_s
    )
    placement = Placement(
        count=facts.partitions,
        is_required=is_placement_required,
        counts=counts,
        ask_count=lambda: ask_count(consumer, topics.candidates),
    )
    ownership = Ownership(
        consumer,
        ranking_restorer(cluster, group, topics, surfaces, rules, reachability),
        topics.candidates,
        partial(make_partition, budget=budget, placement=placement, rules=rules, tracer=tracer),
        cooperative=protocol != "range",
    )
    intake = RankingIntake(
        decoder=Decoder(surfaces, Format(settings.candidates_format)),
        budget=budget,
        counts=counts,
        dead_letters=DeadLetters(topics.candidates, topics.dead_letters, limits),
        errors=errors,
    )
    ranker = Ranker(
        registry=registry,
        mix=steering.mix,
        look_up=look_up,
        topics=topics,
        feeds_format=Format(settings.feeds_format),
        limits=limits,
        counts=counts,
        errors=errors,
    )

    def describe_stage() -> Mapping[str, object]:
        return {
            "open_requests": budget.requests,
            "models": registry.in_force,
            "library": registry.states(),
            "tally": registry.counts._asdict(),
            "counts": asdict(counts),
        }

    publisher = Publisher(cluster, transactional_id, topics.feeds, limits, reachability)
    worker = build_loop(
        cluster,
        group=group,
        topic=topics.candidates,
        consumer=consumer,
        ownership=ownership,
        intake=intake,
        emitter=ranker,
        publisher=publisher,
        limits=limits,
        reachability=reachability,
        errors=errors,
        describe_stage=describe_stage,
        linger=Linger(settings.linger_ms / 1000),
    )
    return BuiltWorker(
        worker=worker,
        counts=counts,
        ranked=ranker.ranked,
        times=(intake.times, ranker.times, publisher.times),
        budget=budget,
    )


def _log_event(event: str, /, **fields: object) -> None:
    log.info(event, **fields)
