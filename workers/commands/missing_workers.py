"""Which workers a command that waits for all of them has no status of.

A worker has a status in Redis as long as it renews it. A worker without one has crashed, or is cut
off from this Redis and goes on with what it last had: Redis cannot tell which. Kafka can, because
only a worker that runs is a member of the workers' group. So a worker without a status is waited
for:

| Kafka | `--workers N` | a worker in `workers:live` without a status | a member of the group without a status |
|---|---|---|---|
| was asked | either | only if it is a member of the group | is waited for |
| was not asked | given, and N workers have a status | is passed over: it has crashed | cannot be known |
| was not asked | not given | is waited for | cannot be known |
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import click
from click.core import ParameterSource

from workers.commands.options import KAFKA, BrokersAt, CommandFunction, gather, settings
from workers.steering.fleet import Fleet, LiveWorker
from workers.steering.keys import Keys
from workers.streaming.members import UNNAMED, Member, MembersUnknown, read_members

_KAFKA_PAUSE_S = 0.5  # between two calls of Kafka
_OPTIONS = ("workers", *KAFKA, "group")


@dataclass(frozen=True)
class ExpectedWorkers:
    """What the caller knows of the workers: how many there are, and the Kafka that knows the group.

    The members of every group that a worker names are read. `group` is read too if it was given, or
    if no worker names one.
    """

    count: int | None
    brokers: BrokersAt
    group: str
    group_is_given: bool

    @classmethod
    def of(
        cls, workers: int | None, kafka: str | None, kafka_config: str | None, group: str
    ) -> "ExpectedWorkers":
        """From the options of these names, while the command runs."""
        source = click.get_current_context().get_parameter_source("group")
        is_given = source is not ParameterSource.DEFAULT
        return cls(workers, BrokersAt.of(kafka, kafka_config), group, is_given)


def expected_options(command: CommandFunction) -> CommandFunction:
    """--workers, --kafka, --kafka-config and --group, as `expected`."""
    workers = click.option(
        "--workers",
        type=click.IntRange(1),
        metavar="N",
        help="How many workers there are.  [default: those that Redis knows]",
    )
    gathered = gather("expected", _OPTIONS, ExpectedWorkers.of)(command)
    return workers(settings(*KAFKA, "group")(gathered))


class Missing(NamedTuple):
    """The workers that are waited for because they have no status.

    `silent` are ids in `workers:live`, `without_status` members of the group. `members` are the
    clients of all the group's members, None if Kafka was not asked.
    """

    silent: list[str]
    without_status: list[Member]
    members: list[str] | None

    @property
    def is_empty(self) -> bool:
        """Whether every worker has a status."""
        return not self.silent and not self.without_status


class MissingWorkers:
    """Compares the workers in Redis with the members of their group in Kafka, if it is set.

    Raises ConfigurationError for Kafka properties that cannot be used.
    """

    def __init__(self, expected: ExpectedWorkers, keys: Keys) -> None:
        self._expected = expected
        self._keys = keys
        self._cluster = expected.brokers.cluster() if expected.brokers.servers else None
        self._members: list[Member] | None = None
        self._next_read = float("-inf")
        self._kafka_error: str | None = None

    def find(self, fleet: Fleet, count: int) -> Missing:
        """Find the workers that have no status but should have one.

        Calls Kafka at most twice a second. `count` is how many of the workers that the command is
        about have a status.
        """
        members = self._read_members(fleet)
        if members is None:
            expected = self._expected.count
            all_have_status = expected is not None and count >= expected
            silent = [] if all_have_status else fleet.silent
            return Missing(silent, without_status=[], members=None)

        without_status = members_without_status(fleet, members, self._groups(fleet))
        clients = {member.client for member in without_status}
        return Missing(
            silent=[worker for worker in fleet.silent if worker in clients],
            without_status=without_status,
            members=[member.client for member in members],
        )

    def explain(self, missing: Missing, silent: Sequence[str]) -> list[str]:
        """Which workers are missing and what can be done, for people.

        `silent` are all workers in `workers:live` without a status, waited for or not.
        """
        reasons = []
        listed = self._keys.live
        if missing.without_status:
            clients = [f"{member.client} at {member.host}" for member in missing.without_status]
            also = f" (in {listed} without a status: {', '.join(silent)})" if silent else ""
            reasons.append(
                f"in the group without a status in this Redis: {', '.join(clients)}{also};"
                " cut off, they rank under what they last had:"
                " see redis_lost and redis_read_only in their logs"
            )
        elif missing.silent:
            reasons.append(
                f"in {listed} without a status: {', '.join(missing.silent)};"
                " crashed, or cut off from this Redis and ranking under what they last had:"
                " give --kafka to see who is in the group, or --workers with the number of workers"
                " (a crashed one is forgotten after a day, or by"
                f" redis-cli ZREM {listed} ID)"
            )
        if self._kafka_error:
            reasons.append(f"Kafka was not asked: {self._kafka_error}")
        return reasons

    def _read_members(self, fleet: Fleet) -> list[Member] | None:
        """The members as Kafka knew them at most half a second ago.

        None if Kafka is not set or has failed once.
        """
        if self._cluster is None or self._kafka_error:
            return None
        if time.monotonic() < self._next_read:
            return self._members

        try:
            self._members = read_members(self._cluster, self._groups(fleet))
        except MembersUnknown as unknown:
            self._kafka_error = str(unknown)
            click.echo(f"Warning: the workers' group is not known: {unknown}", err=True)
            return None
        self._next_read = time.monotonic() + _KAFKA_PAUSE_S
        return self._members

    def _groups(self, fleet: Fleet) -> set[str]:
        groups = set()
        for worker in fleet.workers:
            if worker.status is not None and worker.status.group:
                groups.add(worker.status.group)
        if self._expected.group_is_given or not groups:
            groups.add(self._expected.group)
        return groups


def members_without_status(
    fleet: Fleet, members: Sequence[Member], groups: Collection[str]
) -> list[Member]:
    """The members of the groups that have no status, by the names of their clients.

    A member may have no worker's name: older workers gave none, and the properties file may give
    all of them another client.id. Such a member may be any worker whose name no member has. So as
    many of these members as there are such workers count as having a status.
    """
    with_status = {worker.worker for worker in fleet.workers}
    clients = {member.client for member in members}
    have_worker_names = not clients.isdisjoint({*with_status, *fleet.silent})

    named: list[Member] = []
    nameless: list[Member] = []
    for member in members:
        if member.client in with_status:
            continue
        if member.client == UNNAMED or not have_worker_names:
            nameless.append(member)
        else:
            named.append(member)

    unmatched = 0
    for worker in fleet.workers:
        if worker.worker not in clients and _may_be_in(worker, groups):
            unmatched += 1
    return named + nameless[unmatched:]


def _may_be_in(worker: LiveWorker, groups: Collection[str]) -> bool:
    return worker.status is None or worker.status.group in groups
