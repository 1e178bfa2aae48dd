"""Calls that are bounded whatever the client does."""

import threading

import pytest

from tests.streaming.standins import never_returns
from workers.streaming.call_thread import CallOverdue, CallThread


def test_a_call_gives_what_it_returns_and_raises_what_it_raises() -> None:
    calls = CallThread("test")
    assert calls.run(lambda: 7, 5.0) == 7
    with pytest.raises(ZeroDivisionError):
        calls.run(lambda: 1 // 0, 5.0)
    assert calls.run(lambda: threading.current_thread().name, 5.0) == "test"


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
