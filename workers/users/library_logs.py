"""Log lines of Faust, mode and aiokafka, as lines of our own.

They log for developers, many lines for each rebalance. What an operator needs is logged by the
stage. Of the libraries only warnings of aiokafka and errors of Faust are passed on, each text at
most once in ten seconds.
"""

import logging
import time

from workers.log import log

_SECONDS = 10.0
_LEVELS = {"faust": logging.ERROR, "mode": logging.ERROR, "aiokafka": logging.WARNING}


class _ToOurLog(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self._logged_at: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage().partition("\n")[0]
        now = time.monotonic()
        if now - self._logged_at.get(text, float("-inf")) < _SECONDS:
            return
        self._logged_at[text] = now
        log.warning("library", logger=record.name, message=text)


def route_library_logs() -> None:
    """Pass on what matters of the libraries, and drop the rest."""
    handler = _ToOurLog()
    for name, level in _LEVELS.items():
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
