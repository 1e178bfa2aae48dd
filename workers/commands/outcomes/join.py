"""`trimtab outcomes join`: join interactions with feeds, in one process or several.

The parts are put together in `join_parts.py`. How a process starts and ends is in `process.py`.
"""

import socket
from dataclasses import fields
from pathlib import Path

import click
import msgspec

from workers.commands.join_parts import build_join
from workers.commands.metrics_endpoint import MetricsEndpoint
from workers.commands.options import BrokersAt, example, gather_settings
from workers.commands.process import (
    RateLine,
    process_options,
    run_loop,
    run_until_signal,
    take_process_slot,
)
from workers.commands.stage_report import stage_status
from workers.metrics.join_samples import JoinParts, join_samples
from workers.metrics.loop_samples import liveness, readiness
from workers.metrics.names import JOIN
from workers.metrics.view import Sources
from workers.settings import ConfigurationError, JoinSettings
from workers.streaming.clients import worker_clients
from workers.surfaces import load_surfaces

_SETTINGS = tuple(field.name for field in fields(JoinSettings))


@click.command(epilog=example("trimtab outcomes join --processes 2"))
@gather_settings("join_settings", _SETTINGS, JoinSettings)
@process_options("Run N processes.")
def join(
    processes: int, with_parent: bool, metrics_socket: int | None, join_settings: JoinSettings
) -> None:
    """Join interactions with the feeds that caused them, exactly once.

    It runs until SIGTERM or Ctrl-C. Then it publishes the feeds that are closed, leaves the group
    and exits with 0. Each process takes the lowest free slot of this host.
    """
    metrics = MetricsEndpoint(JOIN, join_settings.metrics_host, join_settings.metrics_port)
    run_until_signal(
        lambda: _run_join(join_settings, metrics.in_child(metrics_socket)),
        processes=processes,
        slot=join_settings.slot,
        with_parent=with_parent,
        metrics=metrics,
    )


def _run_join(settings: JoinSettings, metrics: MetricsEndpoint) -> int:
    """Put a process together and run it to its end. Returns the exit code."""
    surfaces = load_surfaces(Path(settings.surfaces))
    if all(surface.outcomes is None for surface in surfaces.values()):
        raise ConfigurationError(
            f"{settings.surfaces}: no surface has outcomes, expected a table"
            " [surfaces.NAME.outcomes] of at least one"
        )
    group = settings.outcomes_group
    clients = worker_clients(group, settings.group_protocol)
    cluster = BrokersAt.of(settings.kafka, settings.kafka_config).cluster(*clients)
    slot = take_process_slot(settings.home_folder, group, settings.slot)
    name = f"{socket.gethostname()}-{slot.number}"
    with metrics.of_process(slot.number) as view:
        built = build_join(
            settings,
            surfaces,
            cluster,
            name=name,
            transactional_id=slot.transactional_id(group),
        )
        counts = built.counts
        rate_line = RateLine(
            rates={"records": lambda: counts.records, "joined": lambda: counts.joined},
            totals={
                "feeds closed": lambda: counts.closed,
                "dead letters": lambda: counts.dead_letters,
            },
        )
        parts = JoinParts(
            worker=built.worker,
            counts=counts,
            joined=built.joined,
            times=built.times,
            open_feeds=built.open_feeds,
            max_bytes=settings.max_outcomes_mb * 1024 * 1024,
        )
        with stage_status(
            settings.redis,
            settings.redis_prefix,
            settings.redis_timeout_ms,
            stage="join",
            process=name,
            report=built.report,
        ) as status:
            view.sources = Sources(
                samples=lambda: join_samples(parts, built.report(), status),
                live=lambda: liveness(built.worker),
                ready=lambda: readiness(built.worker),
                status=lambda: msgspec.json.encode(built.report()),
            )
            exit_code = run_loop(built.worker, rate_line)
            if status is not None:
                status.ends_with(exit_code)
            return exit_code
