"""The parts of a process of the users stage, put together from its settings."""

import asyncio
import importlib.util
import socket
import sys
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path

import msgspec

from workers.commands.metrics_endpoint import MetricsEndpoint
from workers.commands.options import BrokersAt
from workers.commands.process import take_process_slot
from workers.commands.redis_access import RedisAt
from workers.commands.stage_report import stage_status
from workers.errors import Failure
from workers.log import log
from workers.metrics.users_samples import users_liveness, users_readiness, users_samples
from workers.metrics.view import Sources
from workers.ranking.experiment import Experiment
from workers.ranking.surface import Surfaces
from workers.settings import ConfigurationError, UsersSettings
from workers.streaming.clients import ADMIN, Cluster
from workers.streaming.preflight import check_users_topics
from workers.streaming.rights import (
    Resource,
    Right,
    RightMissing,
    denied_resource,
    denied_rights,
    users_rights,
)
from workers.streaming.topics import UsersTopics
from workers.streaming.trial_requests import group_error
from workers.surfaces import load_surfaces
from workers.users.experiments import Experiments, HistoryUnavailable, ReadExperiments
from workers.users.guard_rails import GuardRails
from workers.users.kafka_access import kafka_access
from workers.users.stage import UsersStage


def run_users(settings: UsersSettings, metrics: MetricsEndpoint) -> int:
    """Check what the stage needs, put it together and run it to its end. Returns the exit code.

    Raises ConfigurationError and Failure.
    """
    require_faust()
    cluster = BrokersAt.of(settings.kafka, settings.kafka_config).cluster(ADMIN)
    access = kafka_access(cluster.bootstrap, cluster.properties)
    redis = _redis_at(settings)
    surfaces = load_surfaces(Path(settings.surfaces))
    experiments = Experiments(None if redis is None else _history_reader(redis, surfaces))

    group = settings.users_group
    slot = take_process_slot(settings.home_folder, group, settings.slot)
    name = f"{socket.gethostname()}-{slot.number}"
    topics = UsersTopics(
        request_outcomes=settings.topic_request_outcomes,
        user_outcomes=settings.topic_user_outcomes,
        changelog=settings.topic_user_changelog,
    )
    rights = users_rights(
        request_outcomes=topics.request_outcomes,
        user_outcomes=topics.user_outcomes,
        changelog=topics.changelog,
        group=group,
    )
    partitions = check_users_topics(cluster, topics, rights)
    _require_group(cluster, group, rights)

    port = None if settings.users_port is None else settings.users_port + slot.number
    log.info("starting", group=group, name=name, partitions=partitions, live_view_port=port)
    rails = None
    if redis is not None:
        counting = {
            surface.name: surface for surface in surfaces.values() if surface.outcomes is not None
        }
        rails = GuardRails(cluster, settings.topic_feed_outcomes, counting, redis.open)

    async def main() -> int:
        # Not at the head: the extra may be missing.
        from workers.users.app import build_app, run_app  # noqa: PLC0415

        app = build_app(
            access,
            topics,
            group=group,
            name=name,
            partitions=partitions,
            days=settings.users_days,
            port=port,
            experiments=experiments,
        )
        beside: list[Awaitable[None]] = []
        if rails is not None:
            beside.append(rails.run(app.stage))
        stops = {} if rails is None else rails.stops
        serve_from(_sources(app.stage, stops))
        with stage_status(
            settings.redis,
            settings.redis_prefix,
            settings.redis_timeout_ms,
            stage="users",
            process=name,
            report=app.stage.report,
        ):
            return await run_app(app, beside)

    with metrics.of_process(slot.number) as serve_from:
        return asyncio.run(main())


def _require_group(cluster: Cluster, group: str, rights: Sequence[Right]) -> None:
    """Raise RightMissing if the broker denies the group.

    The broker cannot be asked about a group, and the library would try again without end and say
    nothing.
    """
    error = group_error(cluster, group)
    if error is not None and denied_resource(error) is Resource.GROUP:
        raise RightMissing(cluster, denied_rights(cluster, error, rights))


def _sources(stage: UsersStage, stops: Mapping[tuple[str, str], int]) -> Sources:
    """Where the answers about metrics and health come from."""
    return Sources(
        samples=lambda: users_samples(stage.report(), stops),
        live=lambda: users_liveness(stage.report()),
        ready=lambda: users_readiness(stage.report()),
        status=lambda: msgspec.json.encode(stage.report()),
    )


def require_faust() -> None:
    """Raises ConfigurationError if the extra is not installed."""
    # Once imported, Faust has no spec to find.
    if "faust" not in sys.modules and importlib.util.find_spec("faust") is None:
        raise ConfigurationError(
            "faust: not installed, expected the extra 'outcomes'."
            " Install it: pip install 'trimtab[outcomes]'"
        )


def _redis_at(settings: UsersSettings) -> RedisAt | None:
    """Where Redis is. None if none is set, which is logged."""
    if settings.redis:
        return RedisAt.of(settings.redis, settings.redis_prefix, settings.redis_timeout_ms)
    log.warning(
        "without_redis",
        hint="no arm is checked against its hash, a report gives no verdict, and no guard rail"
        " stops an arm; set --redis or TRIMTAB_REDIS",
    )
    return None


def _history_reader(redis: RedisAt, surfaces: Surfaces) -> ReadExperiments:
    """Reads the phases of a surface from the history in Redis."""

    def read(surface: str) -> Mapping[str, Experiment]:
        described = surfaces.get(surface)
        if described is None:
            return {}
        try:
            with redis.open() as editor:
                return editor.read_phases(described).experiments
        except Failure as error:
            raise HistoryUnavailable(str(error)) from None

    return read
