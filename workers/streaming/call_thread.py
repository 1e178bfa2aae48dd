"""Blocking calls into the Kafka client, on a thread of their own, so that the loop never waits past
a limit.

The client does not keep its own limits: `send_offsets_to_transaction` ignores its timeout while the
coordinator of the group is away (librdkafka #5456 and #5511, seen on 2.16), and the call may never
return.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class CallOverdue(Exception):
    """The call did not return in time. Its thread is lost: the client that it hangs in must be
    given up.
    """


class _Call(NamedTuple):
    run: Callable[[], Any]
    outcome: "Future[Any]"


class CallThread:
    """Runs one call after the other. After a `CallOverdue` it must not be used again.

    The thread is a daemon: a call that never returns does not keep the process from ending.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        threading.Thread(target=_serve, args=(self._calls,), name=name, daemon=True).start()

    def submit(self, call: Callable[[], T]) -> "Future[T]":
        """Begin a call. It begins once the calls before it are over, and cannot be cancelled."""
        outcome: Future[T] = Future()
        self._calls.put(_Call(call, outcome))
        return outcome

    def run(self, call: Callable[[], T], seconds: float) -> T:
        """Return what the call returns, and raise what it raises.

        Raises CallOverdue after `seconds`.
        """
        outcome = self.submit(call)
        try:
            return outcome.result(seconds)
        except TimeoutError:
            if outcome.done():
                raise  # by the call itself
            raise CallOverdue(f"no return within {seconds:g} s") from None

    def end(self, last: Callable[[], object]) -> None:
        """Run one more call without waiting for it, then end the thread."""
        self.submit(last)
        self._calls.put(None)


def _serve(calls: "SimpleQueue[_Call | None]") -> None:
    while (call := calls.get()) is not None:
        try:
            result = call.run()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the caller raises it
            call.outcome.set_exception(error)
        else:
            call.outcome.set_result(result)
            del result
        # Hold nothing while waiting: what the call refers to must go when its caller lets it go.
        del call
