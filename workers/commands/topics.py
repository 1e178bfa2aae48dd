"""`trimtab topics create | check`: the topics that the settings and surfaces.toml need."""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import click
import msgspec

from workers.commands.options import (
    KAFKA,
    BrokersAt,
    example,
    gather_settings,
    json_option,
)
from workers.ranking.surface import Surfaces
from workers.streaming.clients import ADMIN, Cluster
from workers.streaming.preflight import (
    Finding,
    SeenTopics,
    join_findings,
    join_topics,
    limit_findings,
    missing_join_topics,
    missing_users_topics,
    missing_worker_topics,
    read_topics,
    users_findings,
    users_topics,
    worker_findings,
    worker_topics,
)
from workers.streaming.safekeeping import (
    replication_findings,
    retention_findings,
    users_retention_findings,
)
from workers.streaming.topic_plans import (
    DEFAULT_PARTITIONS,
    RecordSizes,
    outcome_plans,
    ranking_plans,
)
from workers.streaming.topics import (
    BROKERS_DEFAULT,
    JoinTopics,
    TopicPlan,
    UsersTopics,
    WorkerTopics,
    broker_addresses,
    create_topics,
    describe_replicas,
    describe_topics,
)
from workers.surfaces import load_surfaces

TOPIC_SETTINGS = (
    "topic_candidates",
    "topic_feeds",
    "topic_dead_letters",
    "topic_interactions",
    "topic_interaction_letters",
    "topic_request_outcomes",
    "topic_feed_outcomes",
    "topic_user_outcomes",
    "topic_user_changelog",
)


Stage = Literal["worker", "join", "users"]
STAGES: tuple[Stage, ...] = ("worker", "join", "users")


@dataclass(frozen=True)
class NamedTopics:
    """The names of all topics."""

    topic_candidates: str
    topic_feeds: str
    topic_dead_letters: str
    topic_interactions: str
    topic_interaction_letters: str
    topic_request_outcomes: str
    topic_feed_outcomes: str
    topic_user_outcomes: str
    topic_user_changelog: str

    def worker(self, surfaces: Surfaces) -> WorkerTopics:
        """Those of a worker: with interactions if a surface has outcomes."""
        return WorkerTopics(
            self.topic_candidates,
            self.topic_feeds,
            self.topic_dead_letters,
            self.topic_interactions if has_outcomes(surfaces) else None,
        )

    @property
    def join(self) -> JoinTopics:
        """Those of the join."""
        return JoinTopics(
            self.topic_interactions,
            self.topic_interaction_letters,
            self.topic_request_outcomes,
            self.topic_feed_outcomes,
        )

    @property
    def users(self) -> UsersTopics:
        """Those of the users stage."""
        return UsersTopics(
            self.topic_request_outcomes, self.topic_user_outcomes, self.topic_user_changelog
        )


@dataclass(frozen=True)
class TopicsAt:
    """The cluster, the names of the topics, and the surfaces that say which of them are needed.

    `stages` are those whose topics are looked at: a user with the rights of one stage may not see
    those of another.
    """

    cluster: Cluster
    named: NamedTopics
    surfaces: Surfaces
    stages: tuple[Stage, ...] = STAGES

    @classmethod
    def of(
        cls, *, kafka: str | None, kafka_config: str | None, surfaces: str, **topics: str
    ) -> "TopicsAt":
        """From the settings of these names. Raises ConfigurationError."""
        cluster = BrokersAt.of(kafka, kafka_config).cluster(ADMIN)
        return cls(cluster, NamedTopics(**topics), load_surfaces(Path(surfaces)))

    @property
    def names(self) -> tuple[str, ...]:
        """The topics that these stages need, each once."""
        names: list[str] = []
        if "worker" in self.stages:
            names += worker_topics(self.named.worker(self.surfaces))
        if "join" in self.stages and has_outcomes(self.surfaces):
            names += join_topics(self.named.join)
        if "users" in self.stages and has_outcomes(self.surfaces):
            names += users_topics(self.named.users)
        return tuple(dict.fromkeys(names))

    @property
    def inputs(self) -> tuple[str, ...]:
        """The topic that each of these stages reads."""
        of_stage: dict[Stage, str] = {
            "worker": self.named.topic_candidates,
            "join": self.named.topic_interactions,
            "users": self.named.topic_request_outcomes,
        }
        return tuple(of_stage[stage] for stage in self.stages)

    def plans(
        self, partitions: int, request_partitions: int, sizes: RecordSizes
    ) -> tuple[TopicPlan, ...]:
        """The plan of every topic that is needed: those of outcomes if a surface has any."""
        plans = ranking_plans(self.named.worker(self.surfaces), partitions, sizes)
        if not has_outcomes(self.surfaces):
            return plans
        return (
            *plans,
            *outcome_plans(
                self.named.join,
                self.named.users,
                partitions=partitions,
                request_partitions=request_partitions,
                sizes=sizes,
            ),
        )

    def existing(self) -> dict[str, int]:
        """The partition counts of those that exist. Raises BrokerUnreachable."""
        return describe_topics(self.cluster.bootstrap, self.names, self.cluster.properties)

    def read_existing(self) -> SeenTopics:
        """Those that exist, with their configurations. Raises BrokerUnreachable and TopicError."""
        return read_topics(self.cluster, self.existing())

    def findings(self) -> list[Finding]:
        """Everything about these topics that is not as it should be.

        Raises BrokerUnreachable and TopicError.
        """
        seen = self.read_existing()
        found: list[Finding] = []
        if "worker" in self.stages:
            worker = self.named.worker(self.surfaces)
            found += missing_worker_topics(self.cluster, worker, seen.partitions)
            found += worker_findings(self.cluster, worker, seen)
            found += limit_findings(self.cluster, worker, seen)
            found += retention_findings(self.cluster, worker, self.surfaces, seen)
        if "join" in self.stages and has_outcomes(self.surfaces):
            join = self.named.join
            found += missing_join_topics(self.cluster, join, seen.partitions)
            found += join_findings(self.cluster, join, self.surfaces, seen)
            found += limit_findings(self.cluster, join, seen)
        if "users" in self.stages and has_outcomes(self.surfaces):
            users = self.named.users
            found += missing_users_topics(self.cluster, users, seen.partitions)
            found += users_findings(self.cluster, users, seen)
            found += users_retention_findings(self.cluster, users, seen)
        found += self._replication(seen)
        return _each_once(found)

    def _replication(self, seen: SeenTopics) -> Iterable[Finding]:
        bootstrap = self.cluster.bootstrap
        properties = self.cluster.properties
        return replication_findings(
            self.cluster,
            configs=seen.configs,
            replicas=describe_replicas(bootstrap, seen.partitions, properties),
            brokers=len(broker_addresses(bootstrap, properties)),
        )


def has_outcomes(surfaces: Surfaces) -> bool:
    """Whether a surface counts outcomes."""
    return any(surface.outcomes is not None for surface in surfaces.values())


def _each_once(findings: Iterable[Finding]) -> list[Finding]:
    """The findings in their order. Interactions, for one, belong to two stages. A missing topic is
    found twice, with two hints: the first one counts.
    """
    by_subject: dict[str, Finding] = {}
    for finding in findings:
        subject = finding.text.partition(";")[0]
        by_subject.setdefault(subject, finding)
    return list(by_subject.values())


topics_options = gather_settings("topics_at", (*KAFKA, "surfaces", *TOPIC_SETTINGS), TopicsAt.of)
"""The options of Kafka, --surfaces and the names of all topics, as `topics_at`."""


@click.group(
    epilog=example("trimtab topics create --replication-factor 3 --dry-run", "trimtab topics check")
)
def topics() -> None:
    """Create the topics that workers need, and check them."""


# Create


@topics.command(epilog=example("trimtab topics create --partitions 12 --replication-factor 3"))
@topics_options
@click.option(
    "--partitions",
    type=click.IntRange(1),
    metavar="N",
    help="Partitions of new topics.  [default: those of the topic of candidates, or else 4]",
)
@click.option(
    "--replication-factor",
    type=click.IntRange(1),
    metavar="N",
    help="Replicas of new topics. From 3 on, writes need 2 of them.  [default: the brokers' own]",
)
@click.option("--dry-run", is_flag=True, help="Print the lines of kafka-topics.sh instead.")
@json_option("Print one JSON document.")
def create(
    topics_at: TopicsAt,
    partitions: int | None,
    replication_factor: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Create the topics that are missing: those of outcomes too if a surface has outcomes.

    Topics that exist are left as they are; `trimtab topics check` says what they lack. If one has
    another number of partitions than it should have, none is created, and the exit code is 1.
    """
    cluster = topics_at.cluster
    plans = _plans_to_create(topics_at, partitions, replication_factor)
    existing = topics_at.existing()
    missing = [plan for plan in plans if plan.name not in existing]
    commands = [_create_command(cluster, plan, replication_factor) for plan in missing]

    created: tuple[str, ...] = ()
    if not dry_run:
        created = create_topics(
            cluster.bootstrap,
            plans,
            cluster.properties,
            replication_factor=replication_factor or BROKERS_DEFAULT,
        ).created

    if as_json:
        document = {"created": created, "existing": sorted(existing), "commands": commands}
        click.echo(msgspec.json.encode(document))
    elif dry_run:
        for command in commands:
            click.echo(command)
    else:
        for plan in plans:
            state = "created" if plan.name in created else "exists"
            click.echo(f"{state:<8} {plan.name}")


def _plans_to_create(
    topics_at: TopicsAt, partitions: int | None, replication_factor: int | None
) -> list[TopicPlan]:
    """The plans of all topics, by what exists already."""
    existing = topics_at.existing()
    named = topics_at.named
    count = partitions or existing.get(named.topic_candidates, DEFAULT_PARTITIONS)
    request_count = existing.get(named.topic_request_outcomes, count)

    seen = read_topics(topics_at.cluster, existing)
    sizes = RecordSizes()
    for field, name in (("candidates", named.topic_candidates), ("feeds", named.topic_feeds)):
        if name in seen.configs:
            sizes = sizes._replace(**{field: int(seen.configs[name]["max.message.bytes"])})

    plans: list[TopicPlan] = []
    for plan in topics_at.plans(count, request_count, sizes):
        config = dict(plan.config)
        if replication_factor is not None and replication_factor >= 3:
            config["min.insync.replicas"] = "2"
        plans.append(replace(plan, config=config))
    return plans


def _create_command(cluster: Cluster, plan: TopicPlan, replication_factor: int | None) -> str:
    words = ["kafka-topics.sh", "--bootstrap-server", cluster.bootstrap, "--create"]
    words += ["--topic", plan.name, "--partitions", str(plan.partitions)]
    if replication_factor is not None:
        words += ["--replication-factor", str(replication_factor)]
    for key, value in plan.config.items():
        words += ["--config", f"{key}={value}"]
    return shlex.join(words)


# Check


@topics.command(epilog=example("trimtab topics check --json"))
@topics_options
@json_option("Print one JSON document.")
@click.pass_context
def check(context: click.Context, *, topics_at: TopicsAt, as_json: bool) -> None:
    """Compare the topics with what workers need, and print what mends each difference.

    `stops` marks what stops a worker or would lose records, `warns` what makes a guarantee weaker.
    Exit code 1 if something is marked `stops`.
    """
    findings = topics_at.findings()
    is_fit = not any(finding.stops for finding in findings)
    if as_json:
        listed = [{"stops": finding.stops, "text": finding.text} for finding in findings]
        document = {"ok": is_fit, "topics": topics_at.names, "findings": listed}
        click.echo(msgspec.json.encode(document))
    else:
        for finding in findings:
            click.echo(f"{'stops' if finding.stops else 'warns'}  {finding.text}")
        if is_fit:
            click.echo(f"{len(topics_at.names)} topics: none stops a worker")
    context.exit(0 if is_fit else 1)
