"""The parts of a process of the users stage, put together from its settings."""

import asyncio
import importlib.util
import socket
import sys
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from workers.commands.metrics_endpoint import MetricsEndpoint
from workers.commands.options import BrokersAt
from workers.commands.process import take_process_slot
from workers.commands.redis_access import RedisAt
from workers.commands.stage_report import stage_status
from workers.errors import Failure
from workers.log import log
from workers.metrics.users_samples import (
    UsersState,
    users_liveness,
    users_readiness,
    users_samples,
)
from workers.metrics.view import ProcessView, Sources
from workers.ranking.experiment import Experiment
from workers.ranking.surface import Surfaces
from workers.settings import ConfigurationError, UsersSettings
from workers.steering.connection import RedisUse
from workers.steering.editor import RedisUnreachable, SteeringEditor
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
from workers.users.kafka_access import KafkaAccess, kafka_access


def run_users(settings: UsersSettings, metrics: MetricsEndpoint) -> int:
    """Check what the stage needs, put it together and run it to its end. Returns the exit code.

    Raises ConfigurationError and Failure.
    """
    require_faust()
    cluster = BrokersAt.of(settings.kafka, settings.kafka_config).cluster(ADMIN)
    access = kafka_access(cluster.bootstrap, cluster.properties)
    redis = _redis_at(settings)
    surfaces = load_surfaces(Path(settings.surfaces))

    slot = take_process_slot(settings.home_folder, settings.users_group, settings.slot)
    with metrics.of_process(slot.number) as view:
        return _run_stage(
            settings,
            cluster=cluster,
            access=access,
            redis=redis,
            surfaces=surfaces,
            slot=slot.number,
            view=view,
        )


def _run_stage(
    settings: UsersSettings,
    *,
    cluster: Cluster,
    access: KafkaAccess,
    redis: RedisAt | None,
    surfaces: Surfaces,
    slot: int,
    view: ProcessView,
) -> int:
    group = settings.users_group
    name = f"{socket.gethostname()}-{slot}"
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

    port = None if settings.users_port is None else settings.users_port + slot
    log.info("starting", group=group, name=name, partitions=partitions, live_view_port=port)

    experiments = Experiments(None)
    rails = None
    editors: dict[str, CountedEditors] = {}
    if redis is not None:
        for_phases, for_rails = CountedEditors(redis), CountedEditors(redis)
        editors = {"phases": for_phases, "guard_rails": for_rails}
        experiments = Experiments(_history_reader(for_phases, surfaces))
        counting = {
            surface.name: surface for surface in surfaces.values() if surface.outcomes is not None
        }
        rails = GuardRails(cluster, settings.topic_feed_outcomes, counting, for_rails.open)

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
        stage = app.stage
        beside: list[Awaitable[None]] = []
        if rails is not None:
            beside.append(rails.run(stage))

        with stage_status(
            settings.redis,
            settings.redis_prefix,
            settings.redis_timeout_ms,
            stage="users",
            process=name,
            report=stage.report,
        ) as status:

            def state() -> UsersState:
                return UsersState(
                    turned_s=app.turned_s,
                    broker_up=app.is_broker_heard,
                    status=status,
                    redis={use: opened.use for use, opened in editors.items()},
                    stops={} if rails is None else rails.stops,
                    rails_wait_s=None if rails is None else rails.wait_s,
                )

            view.sources = Sources(
                samples=lambda: users_samples(stage.report(), state()),
                live=lambda: users_liveness(stage.report(), app.turned_s),
                ready=lambda: users_readiness(stage.report()),
                status=lambda: msgspec.json.encode(stage.report()),
            )
            exit_code = await run_app(app, beside)
            if status is not None:
                status.ends_with(exit_code)
            return exit_code

    return asyncio.run(main())


class CountedEditors:
    """Opens editors of Redis for one use, and counts what they do."""

    def __init__(self, redis: RedisAt) -> None:
        self.use = RedisUse(0, 0)
        self._redis = redis

    @contextmanager
    def open(self) -> Iterator[SteeringEditor]:
        """A connected editor. Raises what `RedisAt.open` raises."""
        try:
            with self._redis.open() as editor:
                try:
                    yield editor
                finally:
                    self.use = self.use._replace(calls=self.use.calls + editor.calls)
        except RedisUnreachable:
            self.use = self.use._replace(failures=self.use.failures + 1)
            raise


def _require_group(cluster: Cluster, group: str, rights: Sequence[Right]) -> None:
    """Raise RightMissing if the broker denies the group.

    The broker cannot be asked about a group, and the library would try again without end and say
    nothing.
    """
    error = group_error(cluster, group)
    if error is not None and denied_resource(error) is Resource.GROUP:
        raise RightMissing(cluster, denied_rights(cluster, error, rights))


def require_faust() -> None:
    """Raises ConfigurationError if the extra is not installed."""
    # Once imported, Faust has no spec to find.
    if sys.modules.get("faust") is None and importlib.util.find_spec("faust") is None:
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


def _history_reader(editors: CountedEditors, surfaces: Surfaces) -> ReadExperiments:
    """Reads the phases of a surface from the history in Redis."""

    def read(surface: str) -> Mapping[str, Experiment]:
        described = surfaces.get(surface)
        if described is None:
            return {}
        try:
            with editors.open() as editor:
                return editor.read_phases(described).experiments
        except Failure as error:
            raise HistoryUnavailable(str(error)) from None

    return read
