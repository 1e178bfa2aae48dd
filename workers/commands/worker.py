"""`trimtab worker`: one worker, or several processes of it.

The parts of a worker are put together in `worker_parts.py`. How a process starts and ends is in
`process.py`.
"""

import socket
from dataclasses import fields
from pathlib import Path

import click

from workers.commands.metrics_endpoint import MetricsEndpoint
from workers.commands.options import BrokersAt, example, gather_settings
from workers.commands.process import (
    RateLine,
    process_options,
    run_loop,
    run_until_signal,
    take_process_slot,
)
from workers.commands.trace_export import tracing
from workers.commands.worker_parts import (
    StatusReport,
    build_lookups,
    build_registry,
    build_steering,
    build_worker,
)
from workers.counts import TraceCounts
from workers.metrics.loop_samples import liveness, readiness
from workers.metrics.names import RANKING
from workers.metrics.ranking_samples import RankingParts, ranking_samples
from workers.metrics.view import KAFKA, MODELS, Sources
from workers.settings import WorkerSettings
from workers.streaming.clients import worker_clients
from workers.surfaces import load_surfaces

_SETTINGS = tuple(field.name for field in fields(WorkerSettings))


@click.command(
    epilog=example("trimtab worker --processes 2", "TRIMTAB_GROUP_PROTOCOL=consumer trimtab worker")
)
@gather_settings("worker_settings", _SETTINGS, WorkerSettings)
@process_options("Run N worker processes.")
def worker(
    processes: int,
    with_parent: bool,
    metrics_socket: int | None,
    worker_settings: WorkerSettings,
) -> None:
    """Rank candidates into feeds, exactly once.

    It runs until SIGTERM or Ctrl-C. Then it publishes the requests that are closed, leaves the
    group and exits with 0. Each process takes the lowest free slot of this host.
    """
    metrics = MetricsEndpoint(RANKING, worker_settings.metrics_host, worker_settings.metrics_port)
    run_until_signal(
        lambda: _run_worker(worker_settings, metrics.in_child(metrics_socket)),
        processes=processes,
        slot=worker_settings.slot,
        with_parent=with_parent,
        metrics=metrics,
    )


# One worker


def _run_worker(settings: WorkerSettings, metrics: MetricsEndpoint) -> int:
    """Put a worker together and run it to its end. Returns the exit code."""
    surfaces = load_surfaces(Path(settings.surfaces))
    clients = worker_clients(settings.group, settings.group_protocol)
    cluster = BrokersAt.of(settings.kafka, settings.kafka_config).cluster(*clients)
    slot = take_process_slot(settings.home_folder, settings.group, settings.slot)
    name = f"{socket.gethostname()}-{slot.number}"

    report = StatusReport()
    traces = TraceCounts()
    registry = build_registry(settings, surfaces)
    lookups = build_lookups(settings)
    steering = build_steering(settings, surfaces, name, report, registry, lookups)

    # The registry starts first: pins that were kept on disk are judged by the models that exist.
    with (
        metrics.of_process(slot.number, waits_for=MODELS) as view,
        tracing(settings, name, traces) as tracer,
        registry,
        steering,
        lookups,
    ):
        view.waits_for = KAFKA
        built = build_worker(
            settings,
            surfaces,
            cluster,
            name=name,
            transactional_id=slot.transactional_id(settings.group),
            steering=steering,
            registry=registry,
            look_up=lookups,
            tracer=tracer,
        )
        report.worker = built.worker
        counts = built.counts
        rate_line = RateLine(
            rates={
                "events": lambda: counts.events,
                "candidates": lambda: counts.candidates,
                "feeds": lambda: counts.feeds,
            },
            totals={"feeds": lambda: counts.feeds, "dead letters": lambda: counts.dead_letters},
        )
        parts = RankingParts(
            worker=built.worker,
            counts=counts,
            ranked=built.ranked,
            times=built.times,
            budget=built.budget,
            registry=registry,
            models_budget=settings.models_mb * 1024 * 1024,
            steering=steering,
            lookups=lookups,
            traces=traces,
        )
        view.sources = Sources(
            samples=lambda: ranking_samples(parts),
            live=lambda: liveness(built.worker),
            ready=lambda: readiness(built.worker),
            status=steering.describe,
        )
        return run_loop(built.worker, rate_line)
