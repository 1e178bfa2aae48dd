"""Whether a worker traces, and how it begins to."""

import importlib.util
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Final
from urllib.parse import urlsplit

from workers.counts import TraceCounts
from workers.settings import ConfigurationError, WorkerSettings, how_to_set
from workers.tracing.request_traces import RequestTracer

_PATH: Final = "/v1/traces"
"""Where a collector listens for traces."""
_PRINTABLE: Final = re.compile(r"[!-\[\]-~]+")
"""Without spaces and backslashes."""


@contextmanager
def tracing(
    settings: WorkerSettings, instance: str, counts: TraceCounts
) -> Iterator[RequestTracer | None]:
    """Export traces while the block runs, if a collector is set. `instance` names the process.

    | TRIMTAB_TRACE_ENDPOINT | OTEL_SDK_DISABLED | gives    |
    |------------------------|-------------------|----------|
    | not set                | either            | None     |
    | set                    | true              | None     |
    | set                    | not set, false    | a tracer |

    Raises ConfigurationError.
    """
    ratio = _read_ratio(settings.trace_ratio)
    if not settings.trace_endpoint:
        yield None
        return

    endpoint = _read_endpoint(settings.trace_endpoint)
    _require_opentelemetry()
    # Only the extra brings what this imports.
    from workers.tracing.export import open_export  # noqa: PLC0415

    try:
        export = open_export(endpoint, counts, instance=instance, version=version("trimtab"))
    except (ValueError, RuntimeError) as error:
        raise _wrong_variable(error) from None

    tracer = RequestTracer(
        group=settings.group,
        candidates=settings.topic_candidates,
        ratio=ratio,
        counts=counts,
        finish=export.emit,
    )
    try:
        yield tracer if export.is_recording else None
    finally:
        export.close()


def try_collector(endpoint: str | None, ratio: str) -> str | None:
    """Why a collector takes no spans; empty if it does. None if no collector is set. Sends none.

    Raises ConfigurationError if a worker would not start with these settings.
    """
    _read_ratio(ratio)
    if not endpoint:
        return None

    url = _read_endpoint(endpoint)
    _require_opentelemetry()
    from workers.tracing.export import try_export  # noqa: PLC0415

    try:
        return try_export(url)
    except (ValueError, RuntimeError) as error:
        raise _wrong_variable(error) from None


def _wrong_variable(error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"trace_endpoint: OpenTelemetry does not take one of its own variables: {error}"
    )


def _read_ratio(value: str) -> float:
    """A share. Raises ConfigurationError. A text that is no number is not shown: it may belong into
    another setting.
    """
    got = value
    try:
        ratio = float(value)
    except ValueError:
        got = "a text that is not a number"
        ratio = math.nan
    if not 0 <= ratio <= 1:
        raise ConfigurationError(
            f"trace_ratio: got {got}, expected a number from 0 to 1. {how_to_set('trace_ratio')}"
        )
    return ratio


def _read_endpoint(value: str) -> str:
    """The URL that spans are sent to. Without a path, the usual one is added.

    Raises ConfigurationError, which shows nothing of it: it may hold a password or a token. A
    password that is not escaped moves the parts of a URL, so what could be one is refused.
    """
    try:
        parts = urlsplit(value)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        behind_host = parts.path + parts.query + parts.fragment
    except ValueError:
        is_url = False
    if not is_url or "@" in behind_host or not _PRINTABLE.fullmatch(value):
        raise ConfigurationError(
            "trace_endpoint: got a value that is not shown, because it may hold a password; expected"
            " http://host:port or https://host:port, with or without a path, and what is special"
            f" escaped: %40 for @, %2F for /. {how_to_set('trace_endpoint')}"
        )
    return value if parts.path.strip("/") else parts._replace(path=_PATH).geturl()


def _require_opentelemetry() -> None:
    """Raises ConfigurationError if the extra is not installed."""
    names = ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
    try:
        missing = [name for name in names if importlib.util.find_spec(name) is None]
    except ModuleNotFoundError as error:
        missing = [str(error.name)]
    if missing:
        raise ConfigurationError(
            "trace_endpoint: is set, but OpenTelemetry is not installed; expected the extra 'otel'."
            " Install it: pip install 'trimtab[otel]'"
        )
