"""Faults of our own on single records: each kind is logged once with its trace, and every one is
counted.
"""

import traceback

from workers.counts import Counts
from workers.log import log


class WorkerErrors:
    """The second line of defence: what nobody thought of costs one record, and is not silent."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._logged: set[tuple[str, str]] = set()

    def note(self, doing: str, error: BaseException, **where: object) -> None:
        """Count an error, and log the first of its kind. `where` says which record it was."""
        self._counts.worker_errors += 1
        kind = doing, type(error).__name__
        if kind in self._logged:
            return
        self._logged.add(kind)
        trace = "".join(traceback.format_exception(error))
        log.error("worker_error", doing=doing, error=repr(error), **where, trace=trace)
