"""A function in a process of its own.

Whatever notes moments must not share an interpreter with other work: it would wait for its turn.
"""

from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from types import TracebackType
from typing import Any, Generic, NamedTuple, Self, TypeVar

T = TypeVar("T")
_PATIENCE_SECONDS = 60.0
_SPAWN = get_context("spawn")


class Signals(NamedTuple):
    """The first argument of such a function: it sets `ready`, and returns soon after `stopping`."""

    ready: Event
    stopping: Event


class Background(Generic[T]):
    """Runs `function(signals, *arguments)`. Enter to start it; it is killed at the end of the `with`
    block at the latest.
    """

    def __init__(self, function: Callable[..., T], *arguments: object) -> None:
        self._signals = Signals(_SPAWN.Event(), _SPAWN.Event())
        self._receiver, self._sender = _SPAWN.Pipe(duplex=False)
        call = (self._sender, function, self._signals, arguments)
        self._process = _SPAWN.Process(target=_run, args=call, daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        self._sender.close()
        assert self._signals.ready.wait(_PATIENCE_SECONDS), "a process did not start"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.join()

    def stop(self) -> T:
        """Ask it to end, and return its result. Raises EOFError if it has failed."""
        self._signals.stopping.set()
        return self.result()

    def result(self) -> T:
        """Wait for its end, and return its result. Raises EOFError if it has failed."""
        assert self._receiver.poll(_PATIENCE_SECONDS), "a process did not end"
        result: T = self._receiver.recv()
        return result


def _run(
    sender: Connection,
    function: Callable[..., Any],
    signals: Signals,
    arguments: tuple[object, ...],
) -> None:
    sender.send(function(signals, *arguments))
