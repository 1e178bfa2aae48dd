"""What `trimtab stack status` says: of each server its process, address, age and places, and
whether it answers.
"""

from pathlib import Path
from typing import Literal

import msgspec

from workers.local import processes
from workers.local.kafka_server import kafka_address, kafka_answers, kafka_log
from workers.local.redis_server import redis_address, redis_answers, redis_log
from workers.local.state import ServerName, ServerState, StackState

_ANSWERS = {"kafka": kafka_answers, "redis": redis_answers}
_ADDRESS = {"kafka": kafka_address, "redis": redis_address}
_LOG = {"kafka": kafka_log, "redis": redis_log}


class ServerStatus(msgspec.Struct, frozen=True):
    """One server. `died`: it ended and nobody asked it to. `silent`: it runs and does not answer."""

    state: Literal["up", "silent", "died", "down"]
    address: str | None
    pid: int | None
    uptime_s: float | None
    folder: str
    log: str


class StackStatus(msgspec.Struct, frozen=True):
    """The stack; `up` only where both servers answer."""

    up: bool
    kafka: ServerStatus
    redis: ServerStatus


def stack_status(folder: Path, state: StackState) -> StackStatus:
    """Look at both servers; takes up to two seconds for one that does not answer."""
    kafka = _server_status("kafka", folder / "kafka", state.get("kafka"))
    redis = _server_status("redis", folder / "redis", state.get("redis"))
    return StackStatus(kafka.state == redis.state == "up", kafka, redis)


def _server_status(name: ServerName, folder: Path, server: ServerState | None) -> ServerStatus:
    places = str(folder), str(_LOG[name](folder))
    if server is None or server.process is None:
        return ServerStatus("down", None, None, None, *places)
    address, pid = _ADDRESS[name](server.port), server.process.pid
    if processes.has_ended(server.process):
        return ServerStatus("died", address, pid, None, *places)
    answers = _ANSWERS[name](server.port)
    age = round(processes.uptime(server.process), 1)
    return ServerStatus("up" if answers else "silent", address, pid, age, *places)
