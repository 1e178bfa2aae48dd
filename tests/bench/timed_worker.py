"""`trimtab worker` with a clock around every call into onnxruntime.

    python -m tests.bench.timed_worker FILE worker ...

At its end it writes each call of a session to FILE: the moment it ended (seconds since the epoch)
and the CPU seconds that the calling thread has spent in sessions by then. The worker's sessions have
no threads of their own, so this is all of it. The clock is read twice a call, which is nothing
beside a call of thousands of rows.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import onnxruntime

from tests.bench.onnx_share import SessionTime

calls: list[SessionTime] = []
spent = 0.0


class TimedSession(onnxruntime.InferenceSession):  # type: ignore[misc]  # it has no types
    """A session that notes its time."""

    def run(self, *arguments: Any, **keywords: Any) -> Any:
        """Run the model."""
        return _timed(super().run, *arguments, **keywords)

    def run_with_iobinding(self, *arguments: Any, **keywords: Any) -> Any:
        """Run the model on buffers that are bound."""
        return _timed(super().run_with_iobinding, *arguments, **keywords)

    def run_with_ort_values(self, *arguments: Any, **keywords: Any) -> Any:
        """Run the model on values of onnxruntime."""
        return _timed(super().run_with_ort_values, *arguments, **keywords)


def _timed(call: Any, *arguments: Any, **keywords: Any) -> Any:
    global spent  # noqa: PLW0603 - one script, one thread that scores
    before = time.thread_time()
    result = call(*arguments, **keywords)
    spent += time.thread_time() - before
    calls.append(SessionTime(time.time(), spent))
    return result


if __name__ == "__main__":
    path = Path(sys.argv.pop(1))
    onnxruntime.InferenceSession = TimedSession

    from workers.cli import main

    try:
        main()
    finally:
        path.write_text(json.dumps(calls))
