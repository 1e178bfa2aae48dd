"""Calls that never return: bounded by a thread of their own, or noticed by the watchdog."""

import gc
import threading
import weakref
from contextlib import suppress

import pytest

from tests.streaming.standins import never_returns
from workers.streaming.hanging_calls import CallOverdue, CallThread, Pulse, Watchdog


def test_a_call_gives_what_it_returns_and_raises_what_it_raises() -> None:
    calls = CallThread("test")
    assert calls.run(lambda: 7, 5.0) == 7
    with pytest.raises(ZeroDivisionError):
        calls.run(lambda: 1 // 0, 5.0)
    assert calls.run(lambda: threading.current_thread().name, 5.0) == "test"


def test_a_call_that_runs_into_a_time_limit_of_its_own_is_not_overdue() -> None:
    def times_out() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        CallThread("test").run(times_out, 5.0)


def test_an_error_goes_when_its_handler_is_over() -> None:
    """A worker runs without the cyclic garbage collection."""
    calls = CallThread("test")
    raised: list[weakref.ref[Exception]] = []

    class Failed(Exception):
        def __init__(self) -> None:
            raised.append(weakref.ref(self))

    def fails() -> None:
        raise Failed

    gc.disable()
    try:
        with suppress(Failed):
            calls.run(fails, 5.0)
        calls.run(lambda: None, 5.0)  # the thread has let go of the call before
        assert raised[0]() is None
    finally:
        gc.enable()


def test_a_call_that_never_returns_is_overdue() -> None:
    with pytest.raises(CallOverdue, match=r"no return within 0\.01 s"):
        CallThread("test").run(never_returns, 0.01)


def test_the_last_call_is_not_waited_for_and_ends_the_thread() -> None:
    calls = CallThread("to-end")
    called = threading.Event()
    calls.end(called.set)
    assert called.wait(5.0)
    for thread in threading.enumerate():
        if thread.name == "to-end":
            thread.join(5.0)
            assert not thread.is_alive()


def watchdog_of(pulse: Pulse, limit: float = 10.0) -> Watchdog:
    return Watchdog(pulse, lambda doing, seconds: None, limit)


def looks(watchdog: Watchdog, times: int, elapsed: float = 0.5) -> list[bool]:
    return [watchdog.look(elapsed) for _ in range(times)]


def test_a_loop_that_turns_is_never_stuck() -> None:
    pulse = Pulse()
    watchdog = watchdog_of(pulse)
    for _ in range(100):
        pulse.begin("consume")
        assert not watchdog.look(0.5)


def test_a_loop_that_hangs_in_one_call_is_stuck_past_the_limit() -> None:
    pulse = Pulse()
    watchdog = watchdog_of(pulse)
    pulse.begin("consume")
    assert looks(watchdog, 21) == [False] * 21
    assert watchdog.look(0.5)


def test_what_has_a_limit_of_its_own_may_take_as_long_as_it_takes() -> None:
    pulse = Pulse()
    watchdog = watchdog_of(pulse)
    pulse.begin("publish", is_bounded=False)
    assert not any(looks(watchdog, 1000))
    pulse.begin("consume")
    assert looks(watchdog, 22)[-1]


def test_a_machine_that_was_paused_is_not_taken_for_a_loop_that_hangs() -> None:
    pulse = Pulse()
    watchdog = watchdog_of(pulse)
    pulse.begin("consume")
    assert looks(watchdog, 9, elapsed=3600.0) == [False] * 9


def test_a_call_that_never_returns_is_named_while_it_hangs() -> None:
    pulse, stuck = Pulse(), threading.Event()
    named: list[str] = []

    def on_stuck(doing: str, _seconds: float) -> None:
        named.append(doing)
        stuck.set()

    def loop() -> None:
        pulse.begin("consume")
        never_returns()

    with Watchdog(pulse, on_stuck, limit=0.1):
        threading.Thread(target=loop, daemon=True).start()
        assert stuck.wait(10.0)
    assert named == ["consume"]
