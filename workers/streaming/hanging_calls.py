"""Protection from calls into a client library that never return.

Every such call has a limit, and the client does not always keep it. librdkafka's
`send_offsets_to_transaction` ignores its timeout while the coordinator of the group is away
(librdkafka #5456 and #5511, seen on 2.16), and may never return.

- `CallThread` runs blocking calls on a thread of its own, so that the loop never waits past a
  limit. The transactional calls run so.
- `Watchdog` notices that a loop does not turn any more, whichever call it hangs in. All other
  calls, `poll` and `close` of the consumer among them, are watched so.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class CallOverdue(Exception):
    """The call did not return in time. Its thread is lost, so the client that it hangs in must be
    given up.
    """


class _Outcome(NamedTuple):
    result: Any
    error: BaseException | None = None


class _Call(NamedTuple):
    run: Callable[[], Any]
    deliver: Callable[[_Outcome], None]


class CallThread:
    """Runs one call after the other. After a `CallOverdue` it must not be used again.

    The thread is a daemon: a call that never returns does not keep the process from ending.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        threading.Thread(target=_serve, args=(self._calls,), name=name, daemon=True).start()

    def submit(self, call: Callable[[], T]) -> "Future[T]":
        """Queue a call. It begins once the calls before it are over, and cannot be cancelled."""
        future: Future[T] = Future()

        def deliver(outcome: _Outcome) -> None:
            if outcome.error is None:
                future.set_result(outcome.result)
            else:
                future.set_exception(outcome.error)

        self._calls.put(_Call(call, deliver))
        return future

    def run(self, call: Callable[[], T], seconds: float) -> T:
        """Return what the call returns, and raise what it raises.

        Raises CallOverdue after `seconds`. Each transaction comes here three times, so the outcome
        comes by a queue: waiting for a future costs nearly twice as much CPU.
        """
        outcomes: SimpleQueue[_Outcome] = SimpleQueue()
        self._calls.put(_Call(call, outcomes.put))

        try:
            outcome = outcomes.get(timeout=seconds)
        except Empty:
            raise CallOverdue(f"no return within {seconds:g} s") from None
        if outcome.error is None:
            result: T = outcome.result
            return result

        try:
            raise outcome.error
        finally:
            # The error refers to this frame. The frame must not refer to the error as well: a
            # worker runs without the collector that would find such a cycle.
            del outcome

    def end(self, last: Callable[[], object] | None = None) -> None:
        """Let the thread end after the calls before, and after `last`. Does not wait for it."""
        if last is not None:
            self.submit(last)
        self._calls.put(None)


def _serve(calls: "SimpleQueue[_Call | None]") -> None:
    while (call := calls.get()) is not None:
        call.deliver(_outcome_of(call.run))
        # Hold nothing while waiting: what the call refers to must go when its caller lets it go.
        del call


def _outcome_of(call: Callable[[], Any]) -> _Outcome:
    try:
        return _Outcome(call())
    except BaseException as error:  # noqa: BLE001 - whatever it is, the caller raises it
        return _Outcome(None, error)


_LOOK_SECONDS = 0.5
_MAX_PER_LOOK = 1.0
"""How many seconds a look counts at most: a paused machine or a stopped process is not a hanging
call."""


class Pulse:
    """What a loop is doing, and since when. Written by the loop, read by any thread.

    `is_bounded` is False for what has no limit here: a model scores, or a drain has a limit of its
    own.
    """

    def __init__(self) -> None:
        self.turns = 0
        self.doing = "start"
        self.is_bounded = False
        self.since = time.monotonic()

    def begin(self, doing: str, *, is_bounded: bool = True) -> None:
        """Note what the loop begins to do."""
        self.turns += 1
        self.doing = doing
        self.is_bounded = is_bounded
        self.since = time.monotonic()

    def seconds(self) -> float:
        """For how long it has been doing that."""
        return time.monotonic() - self.since


class Watchdog:
    """Runs within `with`. Calls `on_stuck` once if the loop does one bounded thing for longer than
    `limit` seconds.
    """

    def __init__(self, pulse: Pulse, on_stuck: Callable[[str, float], None], limit: float) -> None:
        self._pulse = pulse
        self._on_stuck = on_stuck
        self._limit = limit
        self._turns = -1
        self._waited = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def look(self, elapsed: float) -> bool:
        """Look at the loop `elapsed` seconds after the last look. Return whether it is stuck."""
        turns = self._pulse.turns
        if turns != self._turns or not self._pulse.is_bounded:
            self._turns = turns
            self._waited = 0.0
            return False

        self._waited += min(elapsed, _MAX_PER_LOOK)
        return self._waited > self._limit

    def _run(self) -> None:
        looked = time.monotonic()
        while not self._done.wait(_LOOK_SECONDS):
            now = time.monotonic()
            if self.look(now - looked):
                self._on_stuck(self._pulse.doing, self._waited)
                return
            looked = now
