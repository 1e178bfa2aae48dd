"""A function in a process of its own: what takes a moment down must not wait for another thread's
turn.
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
    """What such a function takes first: it sets `ready` when it is, and returns soon after
    `stopping` is set.
    """

    ready: Event
    stopping: Event


class Apart(Generic[T]):
    """`function(signals, *arguments)` in a process of its own, killed at the end of the `with`
    block at the latest.
    """

    def __init__(self, function: Callable[..., T], *arguments: object) -> None:
        self._signals = Signals(_SPAWN.Event(), _SPAWN.Event())
        self._ours, self._theirs = _SPAWN.Pipe(duplex=False)
        words = (self._theirs, function, self._signals, arguments)
        self._process = _SPAWN.Process(target=_answer, args=words, daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        self._theirs.close()
        assert self._signals.ready.wait(_PATIENCE_SECONDS), "a process of the trial did not start"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.join()

    def end(self) -> T:
        """Ask it to end and wait for what it returns. Raises EOFError where it has failed."""
        self._signals.stopping.set()
        assert self._ours.poll(_PATIENCE_SECONDS), "a process of the trial did not end"
        result: T = self._ours.recv()
        return result


def _answer(
    answer: Connection,
    function: Callable[..., Any],
    signals: Signals,
    arguments: tuple[object, ...],
) -> None:
    answer.send(function(signals, *arguments))
