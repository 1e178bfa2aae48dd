"""The parts of a process that joins outcomes, put together from its settings."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Final, NamedTuple

import msgspec

from workers.codec.formats import Format
from workers.codec.interactions import InteractionDecoder
from workers.counts import JoinCounts, JoinedCounts, StepTimes
from workers.log import log
from workers.outcomes.join import Join, OpenFeeds
from workers.outcomes.sums import SumsLedger
from workers.ranking.surface import Surfaces
from workers.settings import ConfigurationError, JoinSettings
from workers.steering.stage_status import StageReport
from workers.steering.status import PartitionStatus
from workers.streaming.clients import Cluster, KafkaConfigError
from workers.streaming.dead_letters import DeadLetters
from workers.streaming.join_emitter import JoinEmitter
from workers.streaming.join_intake import JoinIntake
from workers.streaming.join_partition import JoinPartition
from workers.streaming.join_restore import RestoredJoin, join_restorer
from workers.streaming.limits import OutputLimits
from workers.streaming.ownership import Ownership
from workers.streaming.placement import Placement, ask_count
from workers.streaming.preflight import check_join_topics
from workers.streaming.publisher import Publisher
from workers.streaming.reachability import BrokerReachability, Denials
from workers.streaming.rights import join_rights
from workers.streaming.topics import JoinTopics
from workers.streaming.worker import Worker, build_loop
from workers.worker_errors import WorkerErrors

STUCK_AFTER_S: Final = 10.0
"""A healthy loop turns many times a second. One transactional call may take 7 s."""

JoinWorker = Worker[JoinPartition, RestoredJoin]


class BuiltJoin(NamedTuple):
    """A process that joins outcomes, and the parts that count something."""

    worker: JoinWorker
    counts: JoinCounts
    joined: JoinedCounts
    times: tuple[StepTimes, ...]
    open_feeds: OpenFeeds

    def report(self) -> StageReport:
        """What it says of itself in its status. Called from another thread, so it only reads."""
        status = self.worker.report()
        states = msgspec.convert(status["partition_states"], dict[int, PartitionStatus])
        failing = list[str]()
        waiting = list[str]()
        if self.worker.pulse.seconds() > STUCK_AFTER_S:
            failing.append(f"its loop has been in {self.worker.pulse.doing!r} for too long")
        for number, partition in states.items():
            text = f"partition {number} {partition.state}"
            if partition.why:
                text += f": {partition.why}"
            if partition.needs_help:
                failing.append(text)
            elif partition.state != "reading":
                waiting.append(text)

        partitions = dict(self.worker.ownership.partitions)
        closed = [partition.closed_until for partition in partitions.values()]
        known_closed = [until for until in closed if until is not None and until >= 0]
        return StageReport(
            partitions=tuple(sorted(partitions)),
            lag=msgspec.convert(status["lag"], dict[int, int]),
            partition_states=states,
            closed_until=min(known_closed, default=None),
            waiting_for="; ".join(waiting) or None,
            failing="; ".join(failing) or None,
            counts=asdict(self.counts),
        )


def build_join(
    settings: JoinSettings,
    surfaces: Surfaces,
    cluster: Cluster,
    *,
    name: str,
    transactional_id: str,
) -> BuiltJoin:
    """Check the topics and the rights, and put the loop together. Raises ConfigurationError."""
    group = settings.outcomes_group
    protocol = settings.group_protocol
    topics = JoinTopics(
        interactions=settings.topic_interactions,
        dead_letters=settings.topic_interaction_letters,
        request_outcomes=settings.topic_request_outcomes,
        feed_outcomes=settings.topic_feed_outcomes,
    )

    # What the broker must allow, and what the topics are like
    rights = join_rights(
        interactions=topics.interactions,
        dead_letters=topics.dead_letters,
        request_outcomes=topics.request_outcomes,
        feed_outcomes=topics.feed_outcomes,
        group=group,
        transactional_id=transactional_id,
    )
    facts = check_join_topics(cluster, topics, surfaces, rights)
    limits = OutputLimits(cluster, topics, facts.limits)
    reachability = BrokerReachability(Denials(cluster, rights))

    rules = {
        surface.name: surface.outcomes
        for surface in surfaces.values()
        if surface.outcomes is not None
    }
    log.info(
        "starting",
        transactional_id=transactional_id,
        group=group,
        protocol=protocol,
        surfaces=sorted(rules),
    )
    try:
        consumer = cluster.member(group, name, protocol, reachability.error)
    except KafkaConfigError as error:
        raise ConfigurationError(
            f"{settings.kafka_config}: {error} (group protocol {protocol!r})"
        ) from None

    counts = JoinCounts()
    errors = WorkerErrors(counts)
    open_feeds = OpenFeeds()

    def make_partition(restored: RestoredJoin) -> JoinPartition:
        ledger = SumsLedger(restored.end)
        for sums in restored.sums:
            ledger.restore(sums.outcomes.key, sums.outcomes.sums, sums.offset)
        join = Join(restored.mark, rules, open_feeds)
        return JoinPartition(restored.partition, join, ledger, restored.skip)

    ownership = Ownership(
        consumer,
        join_restorer(cluster, group, topics, reachability),
        topics.interactions,
        make_partition,
        cooperative=protocol != "range",
        command_options=f" --group {group} --topic-candidates {topics.interactions}",
        skip_options=f" --topic-feeds {topics.feed_outcomes}",
    )
    intake = JoinIntake(
        decoder=InteractionDecoder(surfaces, Format(settings.interactions_format)),
        rules=rules,
        open_feeds=open_feeds,
        max_bytes=settings.max_outcomes_mb * 1024 * 1024,
        placement=Placement(
            count=facts.partitions,
            is_required=False,
            counts=counts,
            ask_count=lambda: ask_count(consumer, topics.interactions),
        ),
        counts=counts,
        dead_letters=DeadLetters(topics.interactions, topics.dead_letters, limits),
        errors=errors,
    )
    emitter = JoinEmitter(
        topics=topics,
        request_partitions=facts.request_partitions,
        outcomes_format=Format(settings.outcomes_format),
        limits=limits,
        counts=counts,
        errors=errors,
    )

    def describe_stage() -> Mapping[str, object]:
        return {"open_feeds": open_feeds.feeds, "counts": asdict(counts)}

    publisher = Publisher(cluster, transactional_id, topics.feed_outcomes, limits, reachability)
    worker = build_loop(
        cluster,
        group=group,
        topic=topics.interactions,
        consumer=consumer,
        ownership=ownership,
        intake=intake,
        emitter=emitter,
        publisher=publisher,
        limits=limits,
        reachability=reachability,
        errors=errors,
        describe_stage=describe_stage,
    )
    return BuiltJoin(
        worker=worker,
        counts=counts,
        joined=emitter.joined,
        times=(publisher.times,),
        open_feeds=open_feeds,
    )
