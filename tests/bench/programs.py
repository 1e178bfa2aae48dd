"""What is measured: the worker and the join, and the peers that read the same records."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.peers.environment import KAFKA_STREAMS
from tests.rig.environment import PARTITIONS, Environment
from tests.rig.process import Process

_PEERS = "tests.bench.peers"
_PEERS_LACK = "no deadlines, validation, dead letters or live weights"


@dataclass(frozen=True)
class Program:
    """A program that ranks, or that counts outcomes. It ends on SIGTERM.

    `lacks` names what it does not do that the worker does. It logs `ready` once for each partition
    that it has. `executable` is the interpreter. `counts`: whether it counts outcomes. `commits`:
    whether it commits to the group that has the name of its environment.
    """

    name: str
    delivery: str
    lacks: str
    arguments: Callable[[Environment], list[str]]
    ready: str
    executable: str = sys.executable
    counts: bool = False
    commits: bool = True

    def start(self, env: Environment) -> Process:
        """Start it on the topics and models of an environment."""
        return env.start(self.arguments(env), self.executable)

    def wait_until_ready(self, process: Process) -> None:
        """Wait until it has all partitions."""
        process.wait_for(self.ready, times=PARTITIONS)


def _peer(name: str, delivery: str, lacks: str, module: str, python: str) -> Program:
    def arguments(env: Environment) -> list[str]:
        models = str(env.folder / "models")
        return ["-m", f"{_PEERS}.{module}", env.kafka, env.name, env.candidates, env.feeds, models]

    return Program(name, delivery, f"{lacks}; {_PEERS_LACK}", arguments, "ready", python)


WORKER = Program(
    name="trimtab worker",
    delivery="exactly-once",
    lacks="",
    arguments=lambda _: ["-m", "workers.cli", "worker"],
    ready="event=restored",
)
PLAIN_LOOP = _peer(
    name="plain loop",
    delivery="at-least-once",
    lacks="doubles feeds in a crash",
    module="plain_loop",
    python=sys.executable,
)


_LOSES_OPEN_REQUESTS = "loses open requests in a crash"


def quix(python: str) -> Program:
    """The application in Quix Streams, run by the interpreter that has it."""
    return _peer(
        name="Quix Streams",
        delivery="exactly-once",
        lacks=_LOSES_OPEN_REQUESTS,
        module="quix_app",
        python=python,
    )


def bytewax(python: str) -> Program:
    """The dataflow in Bytewax, run by the interpreter that has it."""
    program = _peer(
        name="Bytewax",
        delivery="at-least-once",
        lacks=f"{_LOSES_OPEN_REQUESTS}, as it is configured here",
        module="bytewax_flow",
        python=python,
    )
    return replace(program, commits=False)


def faust_ranking(python: str) -> Program:
    """The agent in Faust, run by the interpreter that has it."""
    return _peer(
        name="Faust",
        delivery="at-least-once",
        lacks=_LOSES_OPEN_REQUESTS,
        module="faust_ranking",
        python=python,
    )


def kafka_streams(jars: Path) -> Program:
    """The application in Kafka Streams. Java compiles its one file at the start."""

    def arguments(env: Environment) -> list[str]:
        return [
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp",
            f"{jars}/*",
            str(KAFKA_STREAMS / "Ranking.java"),
            env.kafka,
            env.name,
            env.candidates,
            env.feeds,
            str(env.folder / "models"),
        ]

    return Program(
        name="Kafka Streams",
        delivery="exactly-once",
        lacks=f"{_LOSES_OPEN_REQUESTS}; {_PEERS_LACK}",
        arguments=arguments,
        ready="ready",
        executable="java",
    )


def _count_peer(
    name: str, lacks: str, module: str, python: str = sys.executable, *, counts: bool
) -> Program:
    def arguments(env: Environment) -> list[str]:
        return ["-m", f"{_PEERS}.{module}", env.kafka, env.name, env.candidates]

    return Program(name, "at-least-once", lacks, arguments, "event=ready", python, counts)


JOIN = Program(
    name="trimtab outcomes join",
    delivery="exactly-once",
    lacks="",
    arguments=lambda _: ["-m", "workers.cli", "outcomes", "join"],
    ready="event=restored",
    counts=True,
)
PLAIN_COUNT = _count_peer(
    name="consume and decode",
    lacks="joins and counts nothing",
    module="plain_count",
    counts=False,
)


def faust(python: str) -> Program:
    """The agent in Faust, run by the interpreter that has it."""
    return _count_peer(
        name="Faust, agent with Table",
        lacks="counts twice in a crash; no window, validation, dead letters or sums",
        module="faust_app",
        python=python,
        counts=True,
    )
