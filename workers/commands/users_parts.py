"""The parts of a process of the users stage, put together from its settings."""

import asyncio
import importlib.util
import socket
from collections.abc import Mapping
from pathlib import Path

from workers.commands.options import BrokersAt
from workers.commands.process import take_process_slot
from workers.commands.redis_access import RedisAt
from workers.errors import Failure
from workers.log import log
from workers.ranking.experiment import Experiment
from workers.settings import ConfigurationError, UsersSettings
from workers.streaming.clients import ADMIN
from workers.streaming.preflight import check_users_topics
from workers.streaming.rights import users_rights
from workers.streaming.topics import UsersTopics
from workers.surfaces import load_surfaces
from workers.users.experiments import Experiments, HistoryUnavailable, ReadExperiments
from workers.users.kafka_access import kafka_access


def run_users(settings: UsersSettings) -> int:
    """Check what the stage needs, put it together and run it to its end. Returns the exit code.

    Raises ConfigurationError and Failure.
    """
    require_faust()
    cluster = BrokersAt.of(settings.kafka, settings.kafka_config).cluster(ADMIN)
    access = kafka_access(cluster.bootstrap, cluster.properties)
    experiments = Experiments(_history_reader(settings))

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
    port = settings.users_port + slot.number if settings.users_port else 0
    log.info("starting", group=group, name=name, partitions=partitions, live_view_port=port)

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
        return await run_app(app)

    return asyncio.run(main())


def require_faust() -> None:
    """Raises ConfigurationError if the extra is not installed."""
    if importlib.util.find_spec("faust") is None:
        raise ConfigurationError(
            "faust: not installed, expected the extra 'outcomes'."
            " Install it: pip install 'trimtab[outcomes]'"
        )


def _history_reader(settings: UsersSettings) -> ReadExperiments | None:
    """Reads the phases of a surface from the history in Redis. None if no Redis is set."""
    if not settings.redis:
        log.warning(
            "without_redis",
            hint="no arm is checked against its hash, and a report gives no verdict;"
            " set --redis or TRIMTAB_REDIS",
        )
        return None

    redis = RedisAt.of(settings.redis, settings.redis_prefix, settings.redis_timeout_ms)
    surfaces = load_surfaces(Path(settings.surfaces))

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
