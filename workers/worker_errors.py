"""Errors in the worker's own code that cost a single record.

They should not happen. If one does, the worker goes on with the next record: every error is
counted, and the first of each kind is logged with its traceback.
"""

import traceback
from typing import Protocol

from workers.log import log


class CountsErrors(Protocol):
    """Counters that have one for these errors."""

    worker_errors: int


class WorkerErrors:
    """Counts and logs these errors. Two are of one kind if the step and the type are the same."""

    def __init__(self, counts: CountsErrors) -> None:
        self._counts = counts
        self._logged: set[tuple[str, str]] = set()

    def note(self, doing: str, error: BaseException, **record: object) -> None:
        """Count an error, and log the first of its kind.

        `doing` is the step that failed. `record` has the log fields that say which record it was.
        """
        self._counts.worker_errors += 1
        kind = (doing, type(error).__name__)
        if kind in self._logged:
            return

        self._logged.add(kind)
        trace = "".join(traceback.format_exception(error))
        log.error("worker_error", doing=doing, error=repr(error), **record, trace=trace)
