"""When a turn may begin. The clock is moved by hand: nothing here waits."""

from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.streaming import worker as worker_module
from workers.streaming.dispatch import Dispatcher
from workers.streaming.hanging_calls import Pulse
from workers.streaming.linger import NO_LINGER, Linger
from workers.streaming.worker import Worker

PART = 0.05
CLOCK_ERROR = 1e-9


class Transaction(NamedTuple):
    """When it began and ended, and the moments at which its requests had closed."""

    began: float
    ended: float
    requests: list[float]


def transactions_of(linger: Linger, closes: list[float], seconds_each: float) -> list[Transaction]:
    """The transactions of a loop in which requests close at these moments. Each turn takes what has
    closed by then, or waits for the next.
    """
    transactions: list[Transaction] = []
    left = sorted(closes)
    now = 0.0
    published_at = float("-inf")
    while left:
        while pause := linger.pause(now, published_at):
            assert pause <= PART
            now += pause
        now = max(now, left[0])
        closed = [moment for moment in left if moment <= now]
        left = left[len(closed) :]
        published_at = now
        transactions.append(Transaction(now, now + seconds_each, closed))
        now += seconds_each
    return transactions


LINGERS = st.integers(0, 1000).map(lambda ms: ms / 1000)
MOMENTS = st.lists(st.floats(0, 3), min_size=1, max_size=40)
DURATIONS = st.floats(0.001, 0.3)


@settings(deadline=None)
@given(LINGERS, MOMENTS, DURATIONS)
def test_transactions_begin_at_least_the_linger_apart(
    seconds: float, closes: list[float], duration: float
) -> None:
    transactions = transactions_of(Linger(seconds), closes, duration)
    begins = [transaction.began for transaction in transactions]
    for before, after in pairwise(begins):
        assert after - before >= seconds - CLOCK_ERROR


@settings(deadline=None)
@given(LINGERS, MOMENTS, DURATIONS)
def test_a_request_waits_for_the_linger_at_most_or_for_the_transaction_under_way(
    seconds: float, closes: list[float], duration: float
) -> None:
    before = float("-inf")
    for transaction in transactions_of(Linger(seconds), closes, duration):
        longest = max(seconds, duration)
        for closed in transaction.requests:
            assert transaction.began <= max(closed, before + longest) + CLOCK_ERROR
        before = transaction.began


@settings(deadline=None)
@given(MOMENTS, DURATIONS)
def test_without_a_linger_nothing_waits(closes: list[float], duration: float) -> None:
    free_at = 0.0
    for transaction in transactions_of(NO_LINGER, closes, duration):
        assert transaction.began == max(free_at, transaction.requests[0])
        free_at = transaction.ended


def test_a_request_after_a_quiet_spell_goes_out_at_once() -> None:
    began = [
        transaction.began for transaction in transactions_of(Linger(0.2), [1.0, 1.05, 9.0], 0.01)
    ]
    assert began == pytest.approx([1.0, 1.2, 9.0])


@pytest.mark.parametrize("reason", ["is_restoring", "is_behind", "is_stopping"])
def test_a_restore_a_backlog_and_a_drain_do_not_wait(reason: str) -> None:
    linger = Linger(1.0)
    assert linger.pause(10.0, 10.0) == PART
    assert linger.pause(10.0, 10.0, **{reason: True}) == 0.0


@pytest.mark.parametrize("seconds", [-0.001, 1.5])
def test_a_linger_that_would_stop_the_loop_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="expected 0 to 1"):
        Linger(seconds)


# The loop


class Clock:
    """Stands still, except that sleeping moves it on. `on_sleep` is called after each sleep."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sleeps: list[float] = []
        self.on_sleep: Callable[[], object] = lambda: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.sleeps.append(seconds)
        self.on_sleep()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(worker_module, "time", clock)
    return clock


class Queue:
    """A consumer that returns as many messages as are waiting."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting

    def poll(self, _seconds: float) -> object | None:
        return self._take(1)[0] if self.waiting else None

    def consume(self, most: int, _seconds: float) -> list[object]:
        return self._take(most)

    def _take(self, most: int) -> list[object]:
        count = min(most, self.waiting)
        self.waiting -= count
        return [SimpleNamespace(partition=lambda: 0, offset=lambda: 0, error=lambda: None)] * count


def worker_of(clock: Clock, seconds: float, waiting: int = 0) -> Worker[Any, Any]:
    """A worker that has just published, on one partition. `waiting`: messages to be consumed."""
    unused: Any = None
    intake: Any = SimpleNamespace(take=unused)  # no partition is owned: each record is dropped
    owned: dict[int, Any] = {}
    ownership: Any = SimpleNamespace(partitions=owned, is_restoring=False)
    reachability: Any = SimpleNamespace(heard=lambda: None)
    worker = Worker(
        group="g",
        topic="candidates",
        consumer=Queue(waiting),  # type: ignore[arg-type]
        ownership=ownership,
        dispatcher=Dispatcher("candidates", ownership, intake, reachability, unused),
        end_check=unused,
        emitter=SimpleNamespace(has_room=lambda _: True),
        outlet=SimpleNamespace(published_at=clock.now),  # type: ignore[arg-type]
        restarts=unused,
        reachability=reachability,
        lag=unused,
        pulse=Pulse(),
        describe_stage=dict,
        linger=Linger(seconds),
    )
    worker._polled_at = clock.now
    return worker


def test_the_idle_clock_runs_on_while_the_loop_lingers(clock: Clock) -> None:
    worker = worker_of(clock, 0.12)
    passed: list[float] = []
    worker.ownership.partitions[0] = SimpleNamespace(pass_idle=passed.append)
    worker._linger()
    assert passed == pytest.approx([50.0, 50.0, 20.0]), "ms, none of them more than a poll counts"


def test_a_drain_ends_the_linger(clock: Clock) -> None:
    worker = worker_of(clock, 1.0)
    clock.on_sleep = worker.stop
    worker._linger()
    assert clock.sleeps == [PART]


def test_a_watchdog_sees_that_a_lingering_loop_does_not_hang(clock: Clock) -> None:
    worker = worker_of(clock, 1.0)
    turns: list[int] = []
    clock.on_sleep = lambda: turns.append(worker.pulse.turns)
    worker._linger()
    assert len(turns) >= 20
    assert all(after == before + 1 for before, after in pairwise(turns))


def test_a_turn_that_left_messages_is_followed_by_the_next_at_once(clock: Clock) -> None:
    worker = worker_of(clock, 1.0, waiting=worker_module._MAX_MESSAGES + 1)
    worker._consume()
    worker._linger()
    assert clock.sleeps == []
    worker._consume()
    worker._linger()
    assert clock.sleeps, "now everything is read"
