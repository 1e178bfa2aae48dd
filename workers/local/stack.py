"""The local stack: a real Kafka and a real Redis on this machine, for a first look and for tests.

Everything lives under `<home>/stack`: two homes never meet. What changes the stack holds its lock;
what fails halfway ends what it started itself, and nothing else.
"""

import shutil
import signal
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from workers.local import processes
from workers.local.errors import StackError
from workers.local.kafka_server import kafka_address, prepare_kafka
from workers.local.ports import LOOPBACK, free_port, is_free
from workers.local.processes import ProcessMark
from workers.local.redis_server import find_redis, prepare_redis, redis_address
from workers.local.server import Server
from workers.local.state import (
    Say,
    ServerName,
    ServerState,
    StackState,
    load_state,
    locked,
    save_state,
)
from workers.local.status import StackStatus, stack_status
from workers.local.topics import create_stack_topics
from workers.streaming.topics import BrokerUnreachable, TopicError

_NAMES: tuple[ServerName, ...] = ("kafka", "redis")
_TITLES: Mapping[ServerName, str] = {"kafka": "Kafka", "redis": "Redis"}
# A broker that is told to end hands over its partitions first; alone, it takes under a second.
_END_SECONDS = 15.0


@dataclass(frozen=True)
class StackAddresses:
    """Where the servers are: bootstrap address, Redis URL, and the client that belongs to the
    server.
    """

    kafka: str
    redis: str
    redis_cli: Path

    @property
    def redis_cli_command(self) -> tuple[str, ...]:
        """The beginning of a redis-cli command line that reaches this Redis."""
        return (str(self.redis_cli), "-u", self.redis)


def _silent(_line: str) -> None:
    pass


class Stack:
    """The stack of one home folder; `say` is told, in short lines, what happens. Methods raise
    StackError.
    """

    def __init__(self, home: Path, cache: Path, say: Say = _silent) -> None:
        self._folder = home.absolute() / "stack"
        self._cache = cache.absolute()
        self._say = say

    def up(
        self,
        partitions: int | None = None,
        kafka_port: int | None = None,
        redis_port: int | None = None,
    ) -> StackAddresses:
        """Start what is not up, create the topics that are missing, and return once everything
        answers.

        A port that is not given is the last one where that is free, else a free one. Partitions
        that are not given are those that the topics have, else four.
        """
        find_redis()
        with self._locked():
            down = self._not_running({"kafka": kafka_port, "redis": redis_port})
            with self._all_or_none(down):
                self._start(down)
                self._check_answers()
                self._create_topics(partitions)
            if not down:
                self._say("the stack is up already")
            return self._addresses()

    def down(self, wipe: bool = False) -> None:
        """End what is up; with `wipe`, delete Kafka's records and every other file of the stack
        too.
        """
        with self._locked():
            if not any(server.process for server in self._state().values()):
                self._say("the stack is down")
            self._end(_NAMES)
            if wipe:
                for name in _NAMES:
                    shutil.rmtree(self._folder / name, ignore_errors=True)
                self._state_file.unlink(missing_ok=True)

    def status(self) -> StackStatus:
        """Look at both servers."""
        return stack_status(self._folder, self._state())

    def stop_redis(self) -> None:
        """End Redis alone; what it held is gone."""
        with self._locked():
            self._end({"redis"})

    def start_redis(self) -> None:
        """Start Redis again on its port."""
        self._start_again("redis")

    def kill_kafka(self) -> None:
        """End Kafka alone as a crash would: without a word to its clients."""
        processes.kill(self._running("kafka"))

    def start_kafka(self) -> None:
        """Start Kafka again on its port, with its records."""
        self._start_again("kafka")

    def pause(self, name: ServerName) -> None:
        """Stop a server's process: it keeps its connections and answers nothing."""
        processes.send(self._running(name), signal.SIGSTOP)

    def resume(self, name: ServerName) -> None:
        """Let a paused server go on."""
        processes.send(self._running(name), signal.SIGCONT)

    @property
    def _state_file(self) -> Path:
        return self._folder / "state.json"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        waiting = "another `trimtab stack` command works on this stack: waiting for it"
        with locked(self._folder / "lock", lambda: self._say(waiting)):
            yield

    @contextmanager
    def _all_or_none(self, names: Collection[ServerName]) -> Iterator[None]:
        """What fails inside, or is interrupted, leaves none of these servers running."""
        try:
            yield
        except BaseException:
            self._end(names)
            raise

    def _state(self) -> StackState:
        return load_state(self._state_file)

    def _save(self, name: ServerName, server: ServerState) -> None:
        save_state(self._state_file, self._state() | {name: server})

    def _running(self, name: ServerName) -> ProcessMark:
        server = self._state().get(name)
        if server is None or server.process is None or processes.has_ended(server.process):
            raise StackError(f"{_TITLES[name]} is not up: trimtab stack up")
        return server.process

    def _not_running(self, asked: Mapping[ServerName, int | None]) -> dict[ServerName, int]:
        """The servers that have to be started, and on which port."""
        state = self._state()
        ports: dict[ServerName, int] = {}
        for name, port in asked.items():
            server = state.get(name)
            if server is not None and self._runs(name, server):
                _check_same(name, server.port, port)
            else:
                taken = {*ports.values(), *asked.values()}
                ports[name] = _choose_port(name, port, server, taken)
        return ports

    def _runs(self, name: ServerName, server: ServerState) -> bool:
        if server.process is None:
            return False
        if died := processes.has_ended(server.process):
            self._say(f"{_TITLES[name]} (pid {server.process.pid}) had died: starting it again")
        return not died

    def _start(self, ports: Mapping[ServerName, int]) -> None:
        """Make every server ready, then start them side by side, then wait until each answers."""
        servers = {name: self._prepare(name, ports) for name in ports}
        started = {
            name: self._launch(name, ports[name], server) for name, server in servers.items()
        }
        for name, process in started.items():
            servers[name].wait_until_answers(process)
            # Whoever answers has to be ours: another program may have taken the port a moment
            # before.
            servers[name].check_alive(process)
            self._say(f"{_TITLES[name]} is up (pid {process.pid})")

    def _prepare(self, name: ServerName, ports: Mapping[ServerName, int]) -> Server:
        folder = self._folder / name
        if name == "redis":
            return prepare_redis(folder, ports[name])
        # Neither a port that is about to be used, nor that of a server which is down for a moment.
        besides = (*ports.values(), *(server.port for server in self._state().values()))
        return prepare_kafka(folder, ports[name], free_port(besides), self._cache, self._say)

    def _launch(self, name: ServerName, port: int, server: Server) -> ProcessMark:
        with processes.signals_deferred():  # no process may be started and not be written down
            process = server.start()
            try:
                self._save(name, ServerState(port, process))
            except OSError:
                processes.kill(process)
                raise
            return process

    def _start_again(self, name: ServerName) -> None:
        with self._locked():
            last = self._state().get(name)
            if last is None:
                raise StackError(f"{_TITLES[name]} was never up: trimtab stack up")
            if last.process is not None and processes.is_alive(last.process):
                return
            _check_free(name, last.port)
            with self._all_or_none({name}):
                self._start({name: last.port})

    def _check_answers(self) -> None:
        status = self.status()
        for name, server in (("Kafka", status.kafka), ("Redis", status.redis)):
            if server.state != "up":
                raise StackError(
                    f"{name} (pid {server.pid}) runs and does not answer: trimtab stack down, then up"
                )

    def _create_topics(self, partitions: int | None) -> None:
        try:
            create_stack_topics(kafka_address(self._state()["kafka"].port), partitions)
        except TopicError as error:
            raise StackError(
                f"{error} (to start anew, without its records: trimtab stack down --wipe)"
            ) from None
        except BrokerUnreachable as error:
            raise StackError(str(error)) from None

    def _end(self, names: Collection[ServerName]) -> None:
        state = self._state()
        for name in names:
            server = state.get(name)
            if server is None or server.process is None:
                continue
            died = processes.has_ended(server.process)
            processes.end(server.process, _END_SECONDS)
            self._say(
                f"{_TITLES[name]} (pid {server.process.pid}) {'had died' if died else 'ended'}"
            )
            self._save(name, msgspec.structs.replace(server, process=None))

    def _addresses(self) -> StackAddresses:
        state = self._state()
        kafka, redis = kafka_address(state["kafka"].port), redis_address(state["redis"].port)
        return StackAddresses(kafka, redis, find_redis().cli)


def _choose_port(
    name: ServerName, asked: int | None, last: ServerState | None, taken: Collection[int | None]
) -> int:
    if asked is not None:
        _check_free(name, asked)
        return asked
    if last is not None and last.port not in taken and is_free(last.port):
        return last.port
    return free_port(taken)


def _check_same(name: ServerName, port: int, asked: int | None) -> None:
    if asked not in {None, port}:
        raise StackError(
            f"{_TITLES[name]} is up on port {port}, expected {asked}: trimtab stack down, then up again"
        )


def _check_free(name: ServerName, port: int) -> None:
    if not is_free(port):
        raise StackError(
            f"port {port} on {LOOPBACK} is in use: end the program that listens on it, or give {_TITLES[name]} "
            f"another with --{name}-port"
        )
