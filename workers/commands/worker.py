"""`trimtab worker`: one worker, or several processes of it, from the first signal handler to the
exit code.
"""

import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from workers.commands.compose import (
    Started,
    build_lookups,
    build_registry,
    build_steering,
    build_worker,
)
from workers.commands.options import cluster_of, example, settings
from workers.commands.rate import RateLine
from workers.commands.supervise import exit_with_parent, supervise
from workers.log import configure_logs, log
from workers.settings import ConfigurationError, WorkerSettings, how_to_set
from workers.streaming.clients import worker_clients
from workers.streaming.hanging_calls import Watchdog
from workers.streaming.lifecycle import Slot, SlotTaken, take_slot
from workers.streaming.publisher import Fenced, ProducerLost
from workers.streaming.worker import Worker
from workers.surfaces import load_surfaces

STUCK_SECONDS = 15.0
"""How long the loop may hang in one call into a client library, none of which may take 8 s by its
own limit.
"""

DRAIN_SECONDS = 8.0
"""How long the worker may live after SIGTERM, whatever the loop does then."""

_ENDING = frozenset({signal.SIGTERM, signal.SIGINT})


@click.command(
    epilog=example("trimtab worker --processes 2", "TRIMTAB_GROUP_PROTOCOL=consumer trimtab worker")
)
@settings(*(field.name for field in fields(WorkerSettings)))
@click.option(
    "--processes",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Worker processes.",
)
@click.option("--with-parent", is_flag=True, hidden=True, help="Drain when standard input ends.")
def worker(processes: int, with_parent: bool, **values: Any) -> None:
    """Rank candidates into feeds, exactly once, until SIGTERM or Ctrl-C.

    Each process takes the lowest free slot of this host. SIGTERM drains: what is closed is
    published, the group is left, and the exit code is 0.
    """
    configure_logs()
    with _ended_by_signals():
        if processes > 1:
            if values["slot"] is not None:
                raise ConfigurationError(
                    f"slot: got {values['slot']} with {processes} processes, expected none"
                )
            sys.exit(supervise(processes))
        if with_parent:
            exit_with_parent()
        sys.exit(run_worker(WorkerSettings(**values)))


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Until there is something to drain, a signal just ends the process; afterwards signals mean
    what they did.
    """
    before = {number: signal.signal(number, lambda *_: sys.exit(0)) for number in _ENDING}
    try:
        yield
    finally:
        for number, meaning in before.items():
            signal.signal(number, meaning)


def run_worker(settings: WorkerSettings) -> int:
    """Put a worker together and run it to its end; returns the exit code."""
    surfaces = load_surfaces(Path(settings.surfaces))
    clients = worker_clients(settings.group, settings.group_protocol)
    cluster = cluster_of(settings.kafka, settings.kafka_config, *clients)
    slot, started = _take_slot(settings), Started()
    name, transactional_id = (
        f"{socket.gethostname()}-{slot.number}",
        slot.transactional_id(settings.group),
    )
    registry = build_registry(settings, surfaces)
    lookups = build_lookups(settings)
    steering = build_steering(settings, surfaces, name, started, registry, lookups)
    # The library first: what was kept on disk is judged by the models that there are.
    with registry, steering, lookups:
        running = build_worker(
            settings, surfaces, cluster, name, transactional_id, steering, registry, lookups
        )
        started.worker = running
        return _run(running)


def _take_slot(settings: WorkerSettings) -> Slot:
    home = settings.home_folder
    try:
        return take_slot(home, settings.group, settings.slot)
    except SlotTaken as taken:
        raise ConfigurationError(f"slot: {taken}") from None
    except OSError as error:
        expected = f"expected a folder to write to: {error.strerror}. {how_to_set('home')}"
        raise ConfigurationError(f"home: got {str(home)!r}, {expected}") from None


def _run(running: Worker) -> int:
    def drain(number: int, _frame: FrameType | None) -> None:
        log.info("draining", signal=signal.Signals(number).name)
        running.stop()

    deadline = _DrainDeadline(DRAIN_SECONDS)
    for number in _ENDING:
        signal.signal(number, drain)
    # No cycle is made in the loop: collecting would only walk the open requests, again and again.
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        with RateLine(running.counts), Watchdog(running.pulse, deadline.restart, STUCK_SECONDS):
            running.run()
    except Fenced as fenced:
        log.error(
            "fenced",
            error=str(fenced),
            hint="two workers share a slot: give each host its own name",
        )
        return 1
    except ProducerLost as lost:
        log.error(
            "not_drained",
            error=str(lost),
            hint="nothing is lost: a restart replays what is not out",
        )
        return 1
    return 0


class _DrainDeadline:
    """Ends the process if a drain does not: neither a broker that is gone nor a call that hangs
    may hold it.

    A loop that hangs in a call into C runs no handler of a signal. So a thread is woken by each
    signal.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._is_draining = False
        signals, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        threading.Thread(
            target=self._watch, args=(signals,), name="drain-deadline", daemon=True
        ).start()

    def restart(self, doing: str, seconds: float) -> None:
        """Start this process again, under its own id and with its own arguments: nothing else ends
        a call that hangs.

        What it held is in the log. Whoever watches the process sees no end of it. A process that is
        to end just ends.
        """
        if self._is_draining:
            self._give_up(f"the loop hangs: {doing}")
        log.error(
            "loop_stuck", doing=doing, seconds=round(seconds), then="the process starts again"
        )
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    def _watch(self, signals: int) -> None:
        while not _ENDING & set(os.read(signals, 64)):
            pass
        self._is_draining = True
        time.sleep(self._seconds)
        self._give_up(f"the broker did not answer within {self._seconds:g} s")

    def _give_up(self, why: str) -> NoReturn:
        log.error("not_drained", error=why)
        os._exit(1)
