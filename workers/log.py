"""Structured logs on standard error: one line for each event that matters, never one for each
message.
"""

import sys

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger()


LINE_START = "\r\x1b[K"
"""What a terminal takes to begin its line anew: log lines and the rate line share it."""
_render = structlog.dev.ConsoleRenderer()


def configure_logs() -> None:
    """Write `key=value` lines to standard error; coloured and aligned on a terminal."""
    terminal = sys.stderr.isatty()
    renderer: structlog.typing.Processor
    if terminal:
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
    return f"{LINE_START}{_render(logger, name, event)}"
