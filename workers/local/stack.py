"""The local stack: one Kafka and one Redis, and every command on them.

Rules:

- Everything lives under `<home>/stack`. Stacks of different homes share nothing but the cache.
- Who changes the stack holds its lock.
- A command that fails halfway, or is interrupted, ends the servers that it started itself, and no
  other.
- No process is started without being written to the state file. So a later command can end it.
"""

import shutil
import signal
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from workers.local import processes
from workers.local.kafka_server import kafka_address, kafka_answers, kafka_log, prepare_kafka
from workers.local.processes import ProcessIdentity
from workers.local.redis_server import (
    find_redis,
    prepare_redis,
    redis_address,
    redis_answers,
    redis_log,
)
from workers.local.server import LOOPBACK, Server, StackError, free_port, is_free
from workers.local.state import (
    Report,
    ServerName,
    ServerState,
    StackState,
    load_state,
    locked,
    save_state,
)
from workers.local.topics import create_stack_topics
from workers.streaming.topics import BrokerUnreachable, TopicError

_NAMES: tuple[ServerName, ...] = ("kafka", "redis")
_TITLES: Mapping[ServerName, str] = {"kafka": "Kafka", "redis": "Redis"}
_ADDRESS: Mapping[ServerName, Callable[[int], str]] = {
    "kafka": kafka_address,
    "redis": redis_address,
}
_ANSWERS: Mapping[ServerName, Callable[[int], bool]] = {
    "kafka": kafka_answers,
    "redis": redis_answers,
}
_LOG: Mapping[ServerName, Callable[[Path], Path]] = {"kafka": kafka_log, "redis": redis_log}
# A broker that is asked to end first hands over its partitions. Alone, it takes under a second.
_END_SECONDS = 15.0


@dataclass(frozen=True)
class StackAddresses:
    """The bootstrap address of Kafka, the URL of Redis, and the path of a redis-cli for it."""

    kafka: str
    redis: str
    redis_cli: Path

    @property
    def redis_cli_command(self) -> tuple[str, ...]:
        """The beginning of a redis-cli command line for this Redis."""
        return (str(self.redis_cli), "-u", self.redis)


class ServerStatus(msgspec.Struct, frozen=True):
    """The status of one server.

    - `up`: it runs and answers.
    - `silent`: it runs, but does not answer.
    - `died`: it ended, but no command ended it.
    - `down`: it was not started, or a command ended it.
    """

    state: Literal["up", "silent", "died", "down"]
    address: str | None
    pid: int | None
    uptime_s: float | None
    folder: str
    log: str


class StackStatus(msgspec.Struct, frozen=True):
    """The status of the stack. It is `up` only if both servers answer."""

    up: bool
    kafka: ServerStatus
    redis: ServerStatus


def _report_nothing(_line: str) -> None:
    pass


class Stack:
    """The stack of one home folder. `report` takes short lines about what happens.

    Methods raise StackError.
    """

    def __init__(self, home: Path, cache: Path, report: Report = _report_nothing) -> None:
        self._folder = home.absolute() / "stack"
        self._state_file = self._folder / "state.json"
        self._cache = cache.absolute()
        self._report = report

    def up(
        self,
        partitions: int | None = None,
        kafka_port: int | None = None,
        redis_port: int | None = None,
    ) -> StackAddresses:
        """Start the servers that are not up, create the topics that are missing, bring those of
        outcomes up to date, and return once everything answers.

        A port that is not given is the last one if it is free, or else any free one. `partitions`
        is as in `create_stack_topics`.
        """
        find_redis()  # so that nothing is started if it is missing
        with self._locked():
            to_start = self._ports_to_start({"kafka": kafka_port, "redis": redis_port})
            with self._all_or_none(to_start):
                self._start(to_start)
                self._check_answers()
                self._create_topics(partitions)
            if not to_start:
                self._report("the stack is up already")

            state = self._state()
            return StackAddresses(
                kafka=kafka_address(state["kafka"].port),
                redis=redis_address(state["redis"].port),
                redis_cli=find_redis().cli,
            )

    def down(self, wipe: bool = False) -> None:
        """End the servers that are up. With `wipe`, also delete Kafka's records and every other
        file of the stack.
        """
        with self._locked():
            if not any(server.process for server in self._state().values()):
                self._report("the stack is down")
            self._end(_NAMES)
            if wipe:
                for name in _NAMES:
                    shutil.rmtree(self._folder / name, ignore_errors=True)
                self._state_file.unlink(missing_ok=True)

    def status(self) -> StackStatus:
        """Look at both servers. Takes up to two seconds for a server that does not answer."""
        state = self._state()
        kafka = _server_status("kafka", self._folder / "kafka", state.get("kafka"))
        redis = _server_status("redis", self._folder / "redis", state.get("redis"))
        return StackStatus(up=kafka.state == redis.state == "up", kafka=kafka, redis=redis)

    # Faults, for tests

    def stop_redis(self) -> None:
        """End Redis alone. What it held is gone."""
        with self._locked():
            self._end({"redis"})

    def start_redis(self) -> None:
        """Start Redis again on its port."""
        self._start_again("redis")

    def kill_kafka(self) -> None:
        """Kill Kafka alone, as a crash would: its clients are not informed."""
        processes.kill(self._running("kafka"))

    def start_kafka(self) -> None:
        """Start Kafka again on its port, with its records."""
        self._start_again("kafka")

    @contextmanager
    def paused(self, name: ServerName) -> Iterator[None]:
        """Stop a server's process for a while. It keeps its connections and answers nothing."""
        server = self._running(name)
        processes.send(server, signal.SIGSTOP)
        try:
            yield
        finally:
            processes.send(server, signal.SIGCONT)

    # The state file and the lock

    def _state(self) -> StackState:
        return load_state(self._state_file)

    def _save(self, name: ServerName, server: ServerState) -> None:
        save_state(self._state_file, self._state() | {name: server})

    @contextmanager
    def _locked(self) -> Iterator[None]:
        waiting = "another `trimtab stack` command is using this stack: waiting for it"
        with locked(self._folder / "lock", lambda: self._report(waiting)):
            yield

    # Starting

    def _ports_to_start(self, asked: Mapping[ServerName, int | None]) -> dict[ServerName, int]:
        """The servers that are not running, and a port for each.

        | Server       | Port asked for   | Result                                    |
        |--------------|------------------|-------------------------------------------|
        | runs         | none, or its own | is left alone                             |
        | runs         | another one      | StackError                                |
        | does not run | a free one       | this port                                 |
        | does not run | one in use       | StackError                                |
        | does not run | none             | its last port if it is free, or any free one |
        """
        state = self._state()
        ports: dict[ServerName, int] = {}
        for name, asked_port in asked.items():
            server = state.get(name)
            if server is not None and self._is_running(name, server):
                if asked_port not in {None, server.port}:
                    raise StackError(
                        f"{_TITLES[name]} is up on port {server.port}, expected {asked_port}: "
                        "trimtab stack down, then up again"
                    )
                continue

            taken = {*ports.values(), *asked.values()}
            if asked_port is not None:
                _check_free(name, asked_port)
                ports[name] = asked_port
            elif server is not None and server.port not in taken and is_free(server.port):
                ports[name] = server.port
            else:
                ports[name] = free_port(taken)
        return ports

    def _is_running(self, name: ServerName, server: ServerState) -> bool:
        if server.process is None:
            return False
        if processes.has_ended(server.process):
            self._report(f"{_TITLES[name]} (pid {server.process.pid}) had died: starting it again")
            return False
        return True

    def _start(self, ports: Mapping[ServerName, int]) -> None:
        """Prepare every server, then start them side by side, then wait until each answers."""
        servers: dict[ServerName, Server] = {}
        for name in ports:
            servers[name] = self._prepare(name, ports)

        started: dict[ServerName, ProcessIdentity] = {}
        for name, server in servers.items():
            started[name] = self._launch(name, ports[name], server)

        for name, process in started.items():
            servers[name].wait_until_answers(process)
            # Another program may have taken the port a moment before, and may have answered.
            servers[name].check_alive(process)
            self._report(f"{_TITLES[name]} is up (pid {process.pid})")

    def _prepare(self, name: ServerName, ports: Mapping[ServerName, int]) -> Server:
        folder = self._folder / name
        if name == "redis":
            return prepare_redis(folder, ports[name])

        # The controller's port must not be one that is about to be used, nor that of a server that
        # is down for a moment.
        known_ports = [server.port for server in self._state().values()]
        return prepare_kafka(
            folder,
            port=ports[name],
            controller_port=free_port((*ports.values(), *known_ports)),
            cache=self._cache,
            report=self._report,
        )

    def _launch(self, name: ServerName, port: int, server: Server) -> ProcessIdentity:
        # An interrupt must not come between the start and the state file.
        with processes.signals_deferred():
            process = server.start()
            try:
                self._save(name, ServerState(port, process))
            except OSError:
                processes.kill(process)
                raise
            return process

    def _start_again(self, name: ServerName) -> None:
        with self._locked():
            server = self._state().get(name)
            if server is None:
                raise StackError(f"{_TITLES[name]} was never up: trimtab stack up")
            if server.process is not None and processes.is_alive(server.process):
                return

            _check_free(name, server.port)
            with self._all_or_none({name}):
                self._start({name: server.port})

    def _check_answers(self) -> None:
        status = self.status()
        for title, server in (("Kafka", status.kafka), ("Redis", status.redis)):
            if server.state != "up":
                raise StackError(
                    f"{title} (pid {server.pid}) runs and does not answer: "
                    "trimtab stack down, then up"
                )

    def _create_topics(self, partitions: int | None) -> None:
        try:
            bootstrap = kafka_address(self._state()["kafka"].port)
            create_stack_topics(bootstrap, partitions, self._report)
        except TopicError as error:
            raise StackError(
                f"{error} (to start again without its records: trimtab stack down --wipe)"
            ) from None
        except BrokerUnreachable as error:
            raise StackError(str(error)) from None

    # Ending

    @contextmanager
    def _all_or_none(self, names: Collection[ServerName]) -> Iterator[None]:
        """End these servers if the block fails or is interrupted."""
        try:
            yield
        except BaseException:
            self._end(names)
            raise

    def _end(self, names: Collection[ServerName]) -> None:
        state = self._state()
        for name in names:
            server = state.get(name)
            if server is None or server.process is None:
                continue

            had_died = processes.has_ended(server.process)
            processes.end(server.process, _END_SECONDS)
            how = "had died" if had_died else "ended"
            self._report(f"{_TITLES[name]} (pid {server.process.pid}) {how}")
            self._save(name, msgspec.structs.replace(server, process=None))

    def _running(self, name: ServerName) -> ProcessIdentity:
        server = self._state().get(name)
        if server is None or server.process is None or processes.has_ended(server.process):
            raise StackError(f"{_TITLES[name]} is not up: trimtab stack up")
        return server.process


def _check_free(name: ServerName, port: int) -> None:
    if not is_free(port):
        raise StackError(
            f"port {port} on {LOOPBACK} is in use: end the program that listens on it, "
            f"or give {_TITLES[name]} another with --{name}-port"
        )


def _server_status(name: ServerName, folder: Path, server: ServerState | None) -> ServerStatus:
    state: Literal["up", "silent", "died", "down"] = "down"
    address = None
    pid = None
    uptime_s = None

    if server is not None and server.process is not None:
        address = _ADDRESS[name](server.port)
        pid = server.process.pid
        if processes.has_ended(server.process):
            state = "died"
        else:
            state = "up" if _ANSWERS[name](server.port) else "silent"
            uptime_s = round(processes.uptime(server.process), 1)

    return ServerStatus(
        state=state,
        address=address,
        pid=pid,
        uptime_s=uptime_s,
        folder=str(folder),
        log=str(_LOG[name](folder)),
    )
