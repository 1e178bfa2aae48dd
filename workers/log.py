"""Structured logs on standard error. A log line stands for an event that matters to an operator,
never for a single message.
"""

import sys

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger()

LINE_START = "\r\x1b[K"
"""Makes a terminal begin its current line again. It deletes the rate line (commands/rate.py), which
is printed without a line end.
"""

_render_for_terminal = structlog.dev.ConsoleRenderer()


def configure_logs() -> None:
    """Write `key=value` lines to standard error. On a terminal they are in colour and aligned."""
    renderer: structlog.typing.Processor
    if sys.stderr.isatty():
        renderer = _over_the_rate_line
    else:
        renderer = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"])

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _over_the_rate_line(
    logger: structlog.typing.WrappedLogger, name: str, event: structlog.typing.EventDict
) -> str:
    return f"{LINE_START}{_render_for_terminal(logger, name, event)}"
