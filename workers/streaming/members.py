"""The members of the workers' group, as the broker knows them."""

from collections.abc import Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException

from workers.errors import Failure
from workers.streaming.clients import Cluster
from workers.streaming.rights import denied_rights, describe_missing, group_rights

UNNAMED = "rdkafka"
"""The client of a member that gives no client.id."""
SECONDS = 5.0
"""How long the broker has to answer."""


class MembersUnknown(Failure):
    """The broker does not tell who is in the group. The message says why."""


class Member(NamedTuple):
    """One consumer of the group. `client` is a worker's id, unless the properties file gives a
    client.id.
    """

    client: str
    host: str


def read_members(cluster: Cluster, groups: Iterable[str]) -> list[Member]:
    """The members of these groups together; a group that does not exist has none. Raises
    MembersUnknown.
    """
    names = sorted(set(groups))
    members: list[Member] = []
    try:
        admin = cluster.admin()
        # Ask for metadata first: a client that knows no broker yet may look for the coordinator for
        # seconds.
        admin.list_topics(timeout=SECONDS)
        descriptions = admin.describe_consumer_groups(names, request_timeout=SECONDS)
        for name in names:
            members += _members_of(descriptions[name])
    except KafkaException as error:
        denied = denied_rights(cluster, error.args[0], group_rights(names))
        why = describe_missing(cluster, denied) if denied else error.args[0].str()
        raise MembersUnknown(f"groups {', '.join(names)}: {why}") from None
    except FutureTimeout:
        raise MembersUnknown(f"groups {', '.join(names)}: no answer within {SECONDS:g} s") from None
    return members


def _members_of(description: "Future[Any]") -> list[Member]:
    try:
        # The client's own limit comes first. This one is for a client that does not keep it.
        group = description.result(SECONDS + 1)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
            return []
        raise
    return [Member(member.client_id, member.host.lstrip("/")) for member in group.members]
