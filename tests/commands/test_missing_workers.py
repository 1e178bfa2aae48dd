"""Which members of the workers' group have no status: by name, and by number if names do not help."""

import pytest

from workers.commands.missing_workers import members_without_status
from workers.steering.fleet import Fleet, LiveWorker
from workers.steering.status import WorkerStatus
from workers.streaming.members import Member

GROUPS = {"g"}


def lives(worker: str, group: str | None = "g") -> LiveWorker:
    return LiveWorker(worker, WorkerStatus(worker, 1, 10_000, True, {}, group=group), 5)


def members(*clients: str) -> list[Member]:
    return [Member(client, f"10.0.0.{number}") for number, client in enumerate(clients)]


def missing(live: Fleet, *clients: str) -> list[str]:
    return [one.client for one in members_without_status(live, members(*clients), GROUPS)]


def test_a_member_that_goes_by_no_workers_id_is_one_without_a_status() -> None:
    live = Fleet([lives("w-0"), lives("w-1")], ["w-2"])
    assert missing(live, "w-0", "w-1") == []
    assert missing(live, "w-0", "w-1", "w-2") == ["w-2"]
    assert missing(live, "w-0", "w-1", "w-3") == ["w-3"]


def test_a_worker_that_is_no_member_leaves_room_for_no_other_ones_name_in_the_list() -> None:
    live = Fleet([lives("w-0"), lives("w-1")], ["w-2"])
    assert missing(live, "w-0", "w-2") == ["w-2"]


def test_a_member_of_a_worker_that_came_back_is_the_same_worker() -> None:
    assert missing(Fleet([lives("w-0")], []), "w-0", "w-0") == []


@pytest.mark.parametrize("client", ["rdkafka", "ranking", "ranking-2"])
def test_members_that_all_go_by_another_name_are_counted(client: str) -> None:
    live = Fleet([lives("w-0"), lives("w-1")], ["w-2"])
    assert missing(live, client, client) == []
    assert missing(live, client, client, client) == [client]


def test_members_of_older_workers_are_counted_beside_those_that_go_by_their_names() -> None:
    live = Fleet([lives("w-0"), lives("w-1")], ["w-2"])
    assert missing(live, "w-0", "rdkafka") == []
    assert missing(live, "w-0", "rdkafka", "rdkafka") == ["rdkafka"]


def test_a_worker_that_has_not_joined_yet_covers_no_member_of_another_name() -> None:
    assert missing(Fleet([lives("w-0"), lives("w-1")], []), "w-0", "w-3") == ["w-3"]


def test_a_worker_of_another_group_is_not_one_of_the_nameless_members() -> None:
    assert missing(Fleet([lives("w-0"), lives("x-0", "other")], []), "w-0", "rdkafka") == [
        "rdkafka"
    ]
    assert missing(Fleet([lives("w-0"), lives("w-1", None)], []), "w-0", "rdkafka") == ["rdkafka"]


def test_a_worker_whose_status_does_not_read_may_be_a_nameless_member() -> None:
    assert missing(Fleet([lives("w-0"), LiveWorker("w-1", None)], []), "w-0", "rdkafka") == []
