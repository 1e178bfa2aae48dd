"""`trimtab worker`: what a worker is made of, put together, and the processes that run it."""

import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import click

from workers.assembly.budget import Budget
from workers.codec.decoder import Decoder
from workers.codec.formats import Format
from workers.commands.options import KAFKA, cluster_of, example, settings
from workers.commands.rate import RateLine
from workers.commands.supervise import exit_with_parent, supervise
from workers.observe.counts import Counts
from workers.observe.log import configure_logs, log
from workers.ranking.surface import Surfaces
from workers.scoring.store import load_models
from workers.settings import ConfigurationError, load_surfaces, need
from workers.steering.steering import Steering
from workers.streaming.checks import check_topics
from workers.streaming.clients import Cluster
from workers.streaming.intake import Intake
from workers.streaming.outlet import Outlet
from workers.streaming.ownership import Ownership
from workers.streaming.publisher import Fenced, ProducerLost, Publisher
from workers.streaming.reach import Reach
from workers.streaming.restore import Restorer, RestoreTopics
from workers.streaming.route import Route
from workers.streaming.slots import SlotTaken, take_slot
from workers.streaming.worker import Parts, Worker

DRAIN_SECONDS = 8.0
"""How long a drain may take; with a transactional call under way that is 13 s at most after SIGTERM."""
WORKER_SETTINGS = (
    *KAFKA,
    "redis",
    "redis_prefix",
    "surfaces",
    "models",
    "topic_candidates",
    "topic_feeds",
    "topic_dead_letters",
    "candidates_format",
    "feeds_format",
    "group",
    "group_protocol",
    "slot",
    "home",
    "max_open_requests",
    "max_open_mb",
)


@click.command(epilog=example("trimtab worker --processes 2", "TRIMTAB_GROUP_PROTOCOL=consumer trimtab worker"))
@settings(*WORKER_SETTINGS)
@click.option("--processes", type=click.IntRange(1, 256), default=1, show_default=True, help="Worker processes.")
@click.option("--with-parent", is_flag=True, hidden=True, help="Drain when standard input ends.")
def worker(processes: int, with_parent: bool, **values: Any) -> None:
    """Rank candidates into feeds, exactly once, until SIGTERM or Ctrl-C.

    Each process takes the lowest free slot of this host. SIGTERM drains: what is closed is published, the group is
    left, and the exit code is 0.
    """
    configure_logs()
    # Until there is something to drain, a signal just ends the process.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    if processes > 1:
        if values["slot"] is not None:
            raise ConfigurationError(f"slot: got {values['slot']} with {processes} processes, expected none")
        sys.exit(supervise(processes))
    if with_parent:
        exit_with_parent()
    sys.exit(run_worker(values))


def run_worker(values: Mapping[str, Any]) -> int:
    """Put a worker together and run it to its end; returns the exit code."""
    surfaces = load_surfaces(Path(values["surfaces"]))
    cluster = cluster_of(values["kafka"], values["kafka_config"])
    home = Path(values["home"]).expanduser()
    wanted = None if values["slot"] is None else int(values["slot"])
    try:
        slot = take_slot(home, values["group"], wanted)
    except SlotTaken as taken:
        raise ConfigurationError(f"slot: {taken}") from None
    except OSError as error:
        raise ConfigurationError(f"home: got {str(home)!r}, expected a folder to write to: {error.strerror}") from None
    name = f"{socket.gethostname()}-{slot.number}"
    started = _Started()
    with _steering(values, surfaces, name, home, started) as steering:
        running = _build(values, surfaces, cluster, slot.transactional_id(values["group"]), steering, name)
        started.worker = running
        return _run(running)


class _Started:
    """The worker, once there is one: steering reports on it from its own thread."""

    worker: Worker | None = None

    def report(self) -> Mapping[str, object]:
        return {} if self.worker is None else self.worker.report()


def _say(event: str, /, **fields: object) -> None:
    log.info(event, **fields)


def _steering(values: Mapping[str, Any], surfaces: Surfaces, name: str, home: Path, started: _Started) -> Steering:
    address = need("redis", values["redis"])
    try:
        return Steering(address, values["redis_prefix"], surfaces, name, home, _say, report=started.report)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _build(
    values: Mapping[str, Any], surfaces: Surfaces, cluster: Cluster, identity: str, steering: Steering, name: str
) -> Worker:
    scorer = load_models(Path(values["models"]), surfaces)
    for refusal in scorer.refusals:
        log.warning("model_refused", model=str(refusal))
    topics = check_topics(cluster, values["topic_candidates"], values["topic_feeds"], values["topic_dead_letters"])
    route = Route(
        candidates=values["topic_candidates"],
        feeds=values["topic_feeds"],
        dead_letters=values["topic_dead_letters"],
        feeds_format=Format(values["feeds_format"]),
        most_feed_bytes=topics.most_feed_bytes,
        most_letter_bytes=topics.most_letter_bytes,
    )
    group, protocol, reach = values["group"], values["group_protocol"], Reach()
    log.info("starting", worker=name, group=group, protocol=protocol, models=dict(scorer.models))
    consumer, counts = cluster.member(group, protocol, reach.error), Counts()
    publisher = Publisher(cluster, identity, route.feeds, topics.batch_bytes, reach)
    restorer = Restorer(cluster, RestoreTopics(group, route.candidates, route.feeds), surfaces)
    budget = Budget(values["max_open_requests"], values["max_open_mb"] * 1024 * 1024)
    decoder = Decoder(surfaces, Format(values["candidates_format"]))
    return Worker(
        Parts(
            consumer=consumer,
            publisher=publisher,
            ownership=Ownership(consumer, restorer, route.candidates, budget, cooperative=protocol != "range"),
            intake=Intake(decoder, budget, counts, route),
            outlet=Outlet(publisher, consumer, lambda: scorer, steering.weights, route, counts),
            route=route,
            counts=counts,
            reach=reach,
        )
    )


def _run(running: Worker) -> int:
    def drain(number: int, _frame: FrameType | None) -> None:
        log.info("draining", signal=signal.Signals(number).name)
        running.stop()
        _give_up_after(DRAIN_SECONDS)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, drain)
    # No cycle is made in the loop: collecting would only walk the open requests, again and again.
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        with RateLine(running.counts):
            running.run()
    except Fenced as fenced:
        log.error("fenced", error=str(fenced), hint="two workers share a slot: give each host its own name")
        return 1
    except ProducerLost as lost:
        log.error("not_drained", error=str(lost), hint="the broker did not answer; a restart replays what is open")
        return 1
    return 0


def _give_up_after(seconds: float) -> None:
    """End the process if the drain does not: a broker that is gone must not hold it."""

    def give_up() -> None:
        log.error("not_drained", error=f"the broker did not answer within {seconds:g} s")
        os._exit(1)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
