"""What is measured: the worker, and the peers that rank the same events. Each is one process of its
own.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.harness import until

PARTITIONS = 4
_DRAIN_SECONDS = 30.0


@dataclass(frozen=True)
class Place:
    """Where a process finds its events and models, and where it leaves its feeds."""

    kafka: str
    redis: str
    group: str
    candidates: str
    feeds: str
    letters: str
    folder: Path
    models: Path
    surfaces: Path
    models_mb: int


@dataclass(frozen=True)
class Runner:
    """A program that ranks. It is `ready` once it has said that word as often as it has partitions.

    `lacks` says what it does not do that the worker does; `python` is None for our own interpreter.
    It ends by itself on SIGTERM.
    """

    name: str
    delivery: str
    lacks: str
    words: Callable[[Place], list[str]]
    settings: Callable[[Place], Mapping[str, str]]
    ready: str
    python: Path | None = None

    @contextmanager
    def start(self, place: Place) -> Iterator["Running"]:
        """Run it for a while: it is asked to end, or killed where the bench fails."""
        log = place.folder / f"{place.group}.log"
        command = [str(self.python or sys.executable), *self.words(place)]
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                env=os.environ | self.settings(place),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        try:
            yield Running(process, log, self.ready)
            process.terminate()
            process.wait(_DRAIN_SECONDS)
        finally:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Running:
    """A process under measurement, and what it has said."""

    process: "subprocess.Popen[bytes]"
    log: Path
    ready: str

    def wait_until_ready(self) -> None:
        """Wait until it owns every partition."""
        self.wait_until(lambda: self.log.read_text().count(self.ready) >= PARTITIONS)

    def wait_until(self, condition: Callable[[], bool], patience: float = 300.0) -> None:
        """Wait for a condition; fails with the process's log where the process ends before or the
        patience does.
        """
        until(lambda: condition() or self.process.poll() is not None, self.log.read_text, patience)
        assert condition(), self.log.read_text()


def _worker_settings(place: Place) -> Mapping[str, str]:
    return {
        "TRIMTAB_KAFKA": place.kafka,
        "TRIMTAB_REDIS": place.redis,
        "TRIMTAB_REDIS_PREFIX": f"{place.group}:",
        "TRIMTAB_SURFACES": str(place.surfaces),
        "TRIMTAB_MODELS": str(place.models),
        "TRIMTAB_MODELS_MB": str(place.models_mb),
        "TRIMTAB_TOPIC_CANDIDATES": place.candidates,
        "TRIMTAB_TOPIC_FEEDS": place.feeds,
        "TRIMTAB_TOPIC_DEAD_LETTERS": place.letters,
        "TRIMTAB_GROUP": place.group,
        "TRIMTAB_HOME": str(place.folder / place.group),
    }


def _peer(name: str, delivery: str, lacks: str, module: str, python: Path | None = None) -> Runner:
    """A module of tests.bench.peers: it takes its place as arguments and says `ready` for each
    partition.
    """
    script = Path(__file__).parent / "peers" / f"{module}.py"

    def words(place: Place) -> list[str]:
        return [
            str(script),
            place.kafka,
            place.group,
            place.candidates,
            place.feeds,
            str(place.models),
        ]

    return Runner(name, delivery, lacks, words, lambda _: {}, "ready", python)


def quix(python: Path) -> Runner:
    """The application in Quix Streams, run by the interpreter that has it."""
    return _peer(
        "Quix Streams",
        "exactly-once",
        f"loses open requests in a crash; {_BARE}",
        "quix_app",
        python,
    )


_BARE = "no deadlines, validation, dead letters or live weights"
PLAIN_LOOP = _peer(
    "hand-written loop", "at-least-once", f"doubles feeds in a crash; {_BARE}", "plain_loop"
)
WORKER = Runner(
    "trimtab worker",
    "exactly-once",
    "",
    lambda _: ["-m", "workers.cli", "worker"],
    _worker_settings,
    "event=restored",
)
