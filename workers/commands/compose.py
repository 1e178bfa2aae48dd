"""What a worker is made of, put together from its settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from workers.assembly.held import Budget
from workers.assembly.rules import rules_digest
from workers.codec.decoder import Decoder
from workers.codec.formats import Format
from workers.counts import Counts
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
from workers.streaming.end_check import EndCheck
from workers.streaming.intake import Intake
from workers.streaming.lag import Lag
from workers.streaming.limits import OutputLimits
from workers.streaming.outlet import Outlet
from workers.streaming.ownership import Ownership
from workers.streaming.placement import Placement, ask_count
from workers.streaming.preflight import TopicFacts, check_topics
from workers.streaming.publisher import Publisher
from workers.streaming.reachability import BrokerReachability
from workers.streaming.restore import Restorer
from workers.streaming.rights import Denials, Right, worker_rights
from workers.streaming.topics import WorkerTopics
from workers.streaming.worker import Parts, Worker
from workers.worker_errors import WorkerErrors


class Started:
    """The worker, once there is one: steering reports on it from its own thread."""

    worker: Worker | None = None

    def report(self) -> Mapping[str, object]:
        """What the worker adds to its status."""
        return {} if self.worker is None else self.worker.report()


class Shown:
    """What steering sees of a library: the models that are available.

    Made anew where others are, so that all documents are judged anew; a model that is loaded or let
    go is no news.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._seen: Catalogue | None = None
        self._available = AvailableModels()

    def available(self) -> AvailableModels:
        """Objective to its verified versions and what they read."""
        catalogue = self._registry.catalogue
        if catalogue is not self._seen:
            self._seen, found = catalogue, _available(catalogue)
            if found.models != self._available.models:
                self._available = found
        return self._available


def _available(catalogue: Catalogue) -> AvailableModels:
    verified = {
        objective: {
            number: frozenset(entry.features)
            for number, entry in versions.items()
            if entry.is_available
        }
        for objective, versions in catalogue.entries.items()
    }
    return AvailableModels(
        {objective: versions for objective, versions in verified.items() if versions}
    )


def build_steering(
    settings: WorkerSettings,
    surfaces: Surfaces,
    name: str,
    started: Started,
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
            _say,
            report=started.report,
            available=Shown(registry).available,
            want=registry.request_verification,
            on_connected=lookups.reconnect,
            timeout_s=settings.redis_timeout_ms / 1000,
        )
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def build_lookups(settings: WorkerSettings) -> Lookups:
    """The thread that looks up by id. Raises ConfigurationError for a URL that cannot be right."""
    try:
        return Lookups(
            need("redis", settings.redis),
            settings.redis_prefix,
            settings.lookup_ms / 1000,
            _say,
            timeout_s=settings.redis_timeout_ms / 1000,
        )
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def build_registry(settings: WorkerSettings, surfaces: Surfaces) -> Registry:
    """The thread that follows the models' folder; entered, it has verified what the surfaces need."""
    return Registry(Path(settings.models), surfaces, settings.models_mb * 1024 * 1024, _say)


def build_worker(
    settings: WorkerSettings,
    surfaces: Surfaces,
    cluster: Cluster,
    name: str,
    transactional_id: str,
    steering: Follower,
    registry: Registry,
    look_up: LookUp,
) -> Worker:
    """Check the topics, and put the loop together."""
    needed = _rights(settings, transactional_id)
    topics, facts = _topics(settings, cluster, needed)
    limits = OutputLimits(cluster, topics.feeds, topics.dead_letters, facts.limits)
    group, protocol, counts = settings.group, settings.group_protocol, Counts()
    reach = BrokerReachability(Denials(cluster, needed))
    errors = WorkerErrors(counts)
    rules = rules_digest(surfaces, settings.candidates_format, *_placed_by(settings, facts))
    log.info(
        "starting",
        transactional_id=transactional_id,
        group=group,
        protocol=protocol,
        models=registry.available(),
    )
    try:
        consumer = cluster.member(group, name, protocol, reach.error)
    except KafkaConfigError as error:
        raise ConfigurationError(
            f"{settings.kafka_config}: {error} (group protocol {protocol!r})"
        ) from None
    publisher = Publisher(cluster, transactional_id, topics.feeds, limits, reach)
    restorer = Restorer(cluster, group, topics, surfaces, rules, reach)
    budget = Budget(
        settings.max_open_requests, settings.max_open_mb * 1024 * 1024, settings.models_wait_s
    )
    decoder = Decoder(surfaces, Format(settings.candidates_format))
    placement = Placement(
        count=facts.partitions,
        is_required=settings.candidates_partitioner == "murmur2",
        counts=counts,
        ask_count=lambda: ask_count(consumer, topics.candidates),
    )
    ownership = Ownership(
        consumer,
        restorer,
        topics.candidates,
        budget,
        cooperative=protocol != "range",
        rules=rules,
        placement=placement,
    )
    return Worker(
        Parts(
            group=group,
            consumer=consumer,
            publisher=publisher,
            ownership=ownership,
            intake=Intake(decoder, budget, counts, topics, limits, errors),
            outlet=Outlet(
                publisher=publisher,
                consumer=consumer,
                registry=registry,
                mix=steering.mix,
                look_up=look_up,
                topics=topics,
                feeds_format=Format(settings.feeds_format),
                limits=limits,
                counts=counts,
                errors=errors,
            ),
            topics=topics,
            counts=counts,
            errors=errors,
            reach=reach,
            lag=Lag(consumer, topics.candidates, cluster.admin),
            end_check=EndCheck(cluster.admin, topics.candidates),
        )
    )


def _rights(settings: WorkerSettings, transactional_id: str) -> tuple[Right, ...]:
    """What the broker must allow this worker."""
    return worker_rights(
        candidates=settings.topic_candidates,
        feeds=settings.topic_feeds,
        dead_letters=settings.topic_dead_letters,
        group=settings.group,
        transactional_id=transactional_id,
    )


def _topics(
    settings: WorkerSettings, cluster: Cluster, needed: Sequence[Right]
) -> tuple[WorkerTopics, TopicFacts]:
    """Where the worker stands, and what its topics are like."""
    feeds, dead_letters = settings.topic_feeds, settings.topic_dead_letters
    facts = check_topics(cluster, settings.topic_candidates, feeds, dead_letters, needed)
    topics = WorkerTopics(
        candidates=settings.topic_candidates,
        feeds=feeds,
        dead_letters=dead_letters,
    )
    return topics, facts


def _placed_by(settings: WorkerSettings, facts: TopicFacts) -> list[str]:
    """What decides whether an event is refused for its partition; nothing does by default."""
    partitioner = settings.candidates_partitioner
    return [] if partitioner == "any" else [partitioner, str(facts.partitions)]


def _say(event: str, /, **fields: object) -> None:
    log.info(event, **fields)
