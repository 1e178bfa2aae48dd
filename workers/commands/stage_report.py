"""How a stage of outcomes reports its status to Redis, which it can do without."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version

from workers.log import log
from workers.settings import SETTINGS, ConfigurationError
from workers.steering.stage_status import StageReport, StageStatusWriter


def stage_status(
    redis: str | None,
    redis_prefix: str,
    redis_timeout_ms: int,
    *,
    stage: str,
    process: str,
    report: Callable[[], StageReport],
) -> AbstractContextManager[StageStatusWriter | None]:
    """Writes the status of this process while its block runs. Without a Redis that is logged, and
    gives None. Raises ConfigurationError for a URL that cannot be right.

    `report` is called in another thread.
    """
    if not redis:
        log.info(
            "status_not_written",
            stage=stage,
            reason=f"{SETTINGS['redis'].flag} is not set: trimtab status will not show this process",
        )
        return nullcontext()

    try:
        return StageStatusWriter(
            redis,
            redis_prefix,
            _log_event,
            stage=stage,
            process=process,
            version=version("trimtab"),
            report=report,
            timeout_s=redis_timeout_ms / 1000,
        )
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _log_event(event: str, /, **fields: object) -> None:
    log.info(event, **fields)
