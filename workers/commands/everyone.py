"""Whether a command that waits for all workers has heard from all of them.

A worker is heard from while its status lasts in Redis. One that has no status any more has crashed,
or is cut off from this Redis and goes on under what it last had: Redis cannot tell which. So a
worker without a status is waited for:

| Kafka | `--workers N` | a worker in `workers:live` without a status | a member of the group without a status |
|---|---|---|---|
| was asked | either | only if it is a member of the group | is waited for |
| was not asked | given, and N workers are heard from | is passed over: it has crashed | cannot be known |
| was not asked | not given | is waited for | cannot be known |
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import click
from click.core import ParameterSource

from workers.commands.options import KAFKA, cluster_of, settings
from workers.steering.fleet import Fleet, LiveWorker
from workers.steering.keys import Keys
from workers.streaming.members import UNNAMED, Member, MembersUnknown, read_members

F = TypeVar("F", bound=Callable[..., Any])

_PAUSE_S = 0.5  # between two questions to Kafka
_OPTIONS = (*KAFKA, "group")


class Heard(NamedTuple):
    """The workers that are waited for because they have no status: ids in `workers:live`, and
    members of the group.

    `members` are the clients of all the group's members; None if Kafka was not asked.
    """

    silent: list[str]
    without_status: list[Member]
    members: list[str] | None

    @property
    def is_all(self) -> bool:
        """Whether there is none."""
        return not self.silent and not self.without_status


@dataclass(frozen=True)
class Expected:
    """What the caller knows of the workers: how many there are, and the Kafka that knows who is in
    the group.

    The groups that the workers name are asked, and `group` too if it is given, or if none is named.
    """

    workers: int | None
    kafka: str | None
    kafka_config: str | None
    group: str
    group_is_given: bool


class Everyone:
    """Asks Kafka now and then who is in the workers' group, and compares. Raises
    ConfigurationError.
    """

    def __init__(self, expected: Expected, keys: Keys) -> None:
        self._expected = expected
        self._keys = keys
        self._cluster = (
            cluster_of(expected.kafka, expected.kafka_config) if expected.kafka else None
        )
        self._members: list[Member] | None = None
        self._again = float("-inf")
        self._kafka_is_silent: str | None = None

    @property
    def expected(self) -> int | None:
        """How many workers there are, if the caller knows."""
        return self._expected.workers

    def heard(self, live: Fleet, count: int) -> Heard:
        """Compare who has a status with who should have one; asks Kafka, at most twice a second.

        `count`: how many have a status, among the workers that the command is about.
        """
        members = self._read_members(live)
        if members is None:
            are_all = self._expected.workers is not None and count >= self._expected.workers
            return Heard([] if are_all else live.silent, [], None)
        without_status = members_without_status(live, members, self._groups(live))
        clients = {one.client for one in without_status}
        return Heard(
            silent=[worker for worker in live.silent if worker in clients],
            without_status=without_status,
            members=[one.client for one in members],
        )

    def missing(self, heard: Heard, silent: Sequence[str]) -> list[str]:
        """Who is waited for because it says nothing, and what can be done, for people; `silent` is
        all of those.
        """
        lines = []
        if heard.without_status:
            clients = ", ".join(f"{one.client} at {one.host}" for one in heard.without_status)
            lines.append(
                f"in the group without a status in this Redis: {clients}"
                + (
                    f" (in {self._keys.live} without a status: {', '.join(silent)})"
                    if silent
                    else ""
                )
                + "; cut off, they rank under what they last had: see redis_lost and redis_read_only in their logs"
            )
        elif heard.silent:
            lines.append(
                f"in {self._keys.live} without a status: {', '.join(heard.silent)}; crashed, or cut off from this "
                "Redis and ranking under what they last had: give --kafka to ask who is in the group, or --workers "
                "with the number of workers that there are (a crashed one is forgotten after a day, or by "
                f"redis-cli ZREM {self._keys.live} ID)"
            )
        if self._kafka_is_silent:
            lines.append(f"Kafka was not asked: {self._kafka_is_silent}")
        return lines

    def _read_members(self, live: Fleet) -> list[Member] | None:
        """The members as Kafka knows them, of half a second ago at most; None if it cannot be
        asked.
        """
        if self._cluster is None or self._kafka_is_silent:
            return None
        if time.monotonic() >= self._again:
            try:
                self._members = read_members(self._cluster, self._groups(live))
            except MembersUnknown as unknown:
                self._kafka_is_silent = str(unknown)
                click.echo(f"Warning: the workers' group is not known: {unknown}", err=True)
                return None
            self._again = time.monotonic() + _PAUSE_S
        return self._members

    def _groups(self, live: Fleet) -> set[str]:
        named = {
            one.status.group for one in live.workers if one.status is not None and one.status.group
        }
        if self._expected.group_is_given or not named:
            named.add(self._expected.group)
        return named


def members_without_status(
    live: Fleet, members: Sequence[Member], groups: Collection[str]
) -> list[Member]:
    """The members that have no status, by their names.

    A member without a worker's name (older workers gave none, and the properties file may give all
    of them another client.id) may be any worker whose name no member goes by: as many of them are
    taken to have a status.
    """
    heard = {one.worker for one in live.workers}
    clients = {one.client for one in members}
    go_by_names = not clients.isdisjoint({*heard, *live.silent})

    known: list[Member] = []
    nameless: list[Member] = []
    for one in members:
        if one.client in heard:
            continue
        is_nameless = one.client == UNNAMED or not go_by_names
        (nameless if is_nameless else known).append(one)

    unmatched = [
        one for one in live.workers if one.worker not in clients and _may_be_in(one, groups)
    ]
    return known + nameless[len(unmatched) :]


def _may_be_in(worker: LiveWorker, groups: Collection[str]) -> bool:
    return worker.status is None or worker.status.group in groups


def expected_options(command: F) -> F:
    """--workers, --kafka, --kafka-config and --group; `expected_of` makes of them what is expected."""
    workers = click.option(
        "--workers",
        type=click.IntRange(1),
        help="How many workers there are.  [default: those that Redis knows]",
    )
    return workers(settings(*_OPTIONS)(command))


def expected_of(given: dict[str, Any]) -> Expected:
    """Take these options out of those that were given."""
    workers, kafka, kafka_config, group = (given.pop(name) for name in ("workers", *_OPTIONS))
    source = click.get_current_context().get_parameter_source("group")
    return Expected(
        workers=workers,
        kafka=kafka,
        kafka_config=kafka_config,
        group=group,
        group_is_given=source is not ParameterSource.DEFAULT,
    )
