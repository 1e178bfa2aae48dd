"""What runs beside a test until the end of its `with` block, in a thread of the test's process."""

import threading
from types import TracebackType
from typing import Self


class Stream:
    """A thread that runs `_run` until the end of the `with` block, which waits for it.

    `_run` looks at `_stopping`, and returns soon after it is set.
    """

    def __init__(self, name: str) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        raise NotImplementedError
