"""Requests that wait for their models, on an assembler and its budget."""

from tests.builders import event
from workers.assembly.assembler import NO_TIME, Assembler, Mark
from workers.assembly.held import Budget


def holding(*names: str) -> tuple[Assembler, Budget]:
    budget = Budget()
    assembler = Assembler(Mark(0, 0, NO_TIME, 0), budget)
    for offset, name in enumerate(names):
        assembler.observe(offset, 1000)
        assembler.take(event(name, "a", "b", last=True), offset, 1000)
    assembler.hold(assembler.take_closed(), now=0.0)
    return assembler, budget


def test_held_requests_count_into_the_budget_and_not_as_closed() -> None:
    assembler, budget = holding("r", "s")
    assert (assembler.held_requests, budget.requests, assembler.closed_candidates) == (2, 2, 0)
    assert budget.bytes_held > 2 * 1200
    assembler.release_held()
    assert (
        assembler.held_requests,
        budget.requests,
        budget.bytes_held,
        assembler.closed_candidates,
    ) == (0, 0, 0, 4)


def test_a_held_request_holds_the_low_water_mark_until_it_is_published() -> None:
    assembler, _ = holding("r")
    assert assembler.mark().low_water == 0
    assembler.release_held()
    assembler.publish(assembler.take_closed())
    assert assembler.mark().low_water == 1


def test_released_requests_come_before_those_that_have_closed_since_in_their_own_order() -> None:
    assembler, _ = holding("r", "s")
    assembler.observe(2, 1000)
    assembler.take(event("t", "a", last=True), 2, 1000)
    assembler.release_held()
    assert [request.request_id for request in assembler.take_closed()] == ["r", "s", "t"]


def test_a_request_keeps_its_first_deadline_when_it_is_held_again() -> None:
    assembler, _ = holding("r")
    assembler.release_held()
    (request,) = assembler.take_closed()
    assembler.hold([request], now=20.0)
    assert not assembler.is_overdue(request, 29.0)
    assert assembler.is_overdue(request, 30.0)


def test_to_make_room_the_oldest_held_request_stops_waiting() -> None:
    assembler, budget = holding("r", "s")
    assembler.give_up_oldest_held()
    (request,) = assembler.take_closed()
    assert (request.request_id, budget.requests) == ("r", 1)
    assert assembler.is_overdue(request, 0.0)


def test_requests_that_stop_waiting_come_first_and_the_oldest_before_the_others() -> None:
    assembler, _ = holding("r", "s", "t")
    assembler.observe(3, 1000)
    assembler.take(event("u", "a", last=True), 3, 1000)
    assembler.give_up_oldest_held()
    assembler.give_up_oldest_held()
    assembler.release_held()
    assert [request.request_id for request in assembler.take_closed()] == ["r", "s", "t", "u"]
    assert assembler.closed_candidates == 0


def test_a_lost_partition_gives_its_held_requests_back_to_the_budget() -> None:
    assembler, budget = holding("r", "s")
    assembler.abandon()
    assert (budget.requests, budget.bytes_held) == (0, 0)


def test_if_no_request_may_wait_each_is_overdue_before_it_is_held() -> None:
    assembler, budget = holding("r")
    assembler.release_held()
    (request,) = assembler.take_closed()
    assembler.publish([request])
    assert not assembler.is_overdue(request, 99.0)
    budget.max_wait_seconds = 0.0
    assert assembler.is_overdue(request, 99.0)
