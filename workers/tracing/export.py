"""Spans go to a collector over OTLP/HTTP, in a thread of OpenTelemetry's own.

Rules:
- The loop never waits for the collector. At most 2,048 spans are on their way. Further ones are
  dropped and counted.
- What goes wrong is logged once for each cause, and again after ten minutes. The libraries' own log
  lines are switched off: they repeat, and their texts may hold a header or a URL with a token. Of an
  address only host and port are shown.
- Cyclic garbage collection is off in a worker. So nothing here leaves a cycle behind. The client's
  exceptions would: each failed export would leave 40 kB.
- The end of the process waits for a second for what is still to be sent.
"""

import logging
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from workers.counts import TraceCounts
from workers.log import log
from workers.tracing.request_traces import RequestSpan
from workers.tracing.spans import SpanMaker
from workers.worker_errors import WorkerErrors

QUEUE_SPANS: Final = 2048
FLUSH_SECONDS: Final = 1.0
_TRY_SECONDS = 2.0
_AGAIN_SECONDS = 600.0
_TRY_AGAIN = HTTPStatus.SERVICE_UNAVAILABLE
_SILENT_LOGGERS = ("opentelemetry", "urllib3", "requests")


class SpanExport:
    """Sends spans. `emit` is called by the loop only. `exporter` is called by another thread."""

    def __init__(
        self, exporter: "CountingExporter", counts: TraceCounts, *, instance: str, version: str
    ) -> None:
        self._counts = counts
        self._errors = WorkerErrors(counts)
        self._made = 0
        processor = BatchSpanProcessor(exporter, max_queue_size=QUEUE_SPANS)
        self._maker = SpanMaker(processor, instance, version)

    @property
    def is_recording(self) -> bool:
        """False if `OTEL_SDK_DISABLED` is set: then nothing is to be traced."""
        return self._maker.is_recording

    @property
    def on_their_way(self) -> int:
        """How many spans wait or are being sent."""
        return self._made - self._counts.exported - self._counts.failed

    def emit(self, span: RequestSpan) -> None:
        """Send a span, or drop it if too many are on their way. Does not wait."""
        if self.on_their_way >= QUEUE_SPANS:
            self._counts.dropped += 1
            return
        try:
            self._maker.make(span)
        except Exception as error:  # noqa: BLE001 - our fault, or the library's: must cost no feed
            self._counts.dropped += 1
            self._errors.note("trace", error)
            return
        self._made += 1

    def close(self) -> None:
        """Wait for a second for what is still to be sent."""
        # The client itself would wait for up to half a minute.
        closing = threading.Thread(
            target=self._maker.provider.shutdown, name="traces-flush", daemon=True
        )
        closing.start()
        closing.join(FLUSH_SECONDS)
        if self.on_their_way:
            log.warning("traces_not_flushed", spans=self.on_their_way)


class CountingExporter(SpanExporter):
    """Counts what another exporter sends, and logs why it fails.

    `cause` tells why the last request failed; it is empty if it did not. `address` is shown.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        counts: TraceCounts,
        cause: Callable[[], str],
        address: str,
    ) -> None:
        self._exporter = exporter
        self._counts = counts
        self._cause = cause
        self._address = address
        self._logged_at: dict[str, float] = {}

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch."""
        is_sent = False
        try:
            result = self._exporter.export(spans)
            is_sent = result is SpanExportResult.SUCCESS and not self._cause()
        finally:
            if is_sent:
                self._counts.exported += len(spans)
            else:
                self._counts.failed += len(spans)
                self._log(self._cause() or "the spans could not be encoded")
        return SpanExportResult.SUCCESS if is_sent else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """End the other exporter."""
        self._exporter.shutdown()

    def _log(self, cause: str) -> None:
        now = time.monotonic()
        if now - self._logged_at.get(cause, float("-inf")) < _AGAIN_SECONDS:
            return
        self._logged_at[cause] = now
        log.warning(
            "traces_not_exported",
            collector=self._address,
            error=cause,
            doing="feeds go on without; lost spans are counted in trimtab_spans_total",
        )


class _Session(requests.Session):
    """Keeps the cause of a failure as a text without secrets, and leaves no cycle behind.

    A request that fails is answered as if by the collector: an exception that is raised from here
    would be kept by a frame that its own traceback refers to.
    """

    cause = ""

    def request(self, *parts: Any, **options: Any) -> Any:
        """Make a request. Raises nothing."""
        # Otherwise REQUESTS_CA_BUNDLE would win over OTEL_EXPORTER_OTLP_CERTIFICATE.
        options.setdefault("verify", self.verify)
        try:
            response = super().request(*parts, **options)
        except Exception as error:  # noqa: BLE001 - whatever it is, the spans are not sent
            is_passing = isinstance(error, requests.ConnectionError | requests.Timeout)
            response = requests.Response()
            response.status_code = _TRY_AGAIN if is_passing else HTTPStatus.BAD_REQUEST
            self.cause = _take_apart(error)
            return response

        # The exporter takes a redirect for a success.
        self.cause = "" if response.status_code < HTTPStatus.MULTIPLE_CHOICES else _status(response)
        return response


def _status(response: Any) -> str:
    """The status of an answer, in the standard's words and not in those of whoever sent it."""
    code = int(response.status_code)
    try:
        return f"HTTP {code} {HTTPStatus(code).phrase}"
    except ValueError:
        return f"HTTP {code}"


def _take_apart(error: BaseException) -> str:
    """The cause of an error, in words that show no part of a URL or a header. Takes the error and
    those below it apart: their tracebacks refer to frames that refer to them.
    """
    # An OSError as such is what requests raises if a file that it was given is not there.
    cause = "a file of certificates is missing" if type(error) is OSError else type(error).__name__
    seen: list[BaseException] = []
    left: list[object] = [error]
    while left:
        one = left.pop()
        if not isinstance(one, BaseException) or any(one is other for other in seen):
            continue
        seen.append(one)
        left += [one.__context__, one.__cause__, getattr(one, "reason", None), *one.args]
        if isinstance(one, ssl.SSLError):
            cause = one.reason or cause
        elif isinstance(one, OSError):
            cause = one.strerror or cause

    for one in seen:
        traceback.clear_frames(one.__traceback__)
        one.__traceback__ = None
        one.__context__ = None
        one.__cause__ = None
        one.args = ()
    return cause


def try_export(endpoint: str) -> str:
    """Send a request without spans to the OTLP/HTTP `endpoint`. Returns why it failed; empty if it
    did not. Raises ValueError or RuntimeError as `open_export` does.
    """
    _silence_libraries()
    session = _Session()
    exporter = OTLPSpanExporter(endpoint=endpoint, session=session, timeout=_TRY_SECONDS)
    exporter.export(())
    session.close()
    return session.cause


def _silence_libraries() -> None:
    for name in _SILENT_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [logging.NullHandler()]
        logger.setLevel(logging.CRITICAL + 1)
        logger.propagate = False


def open_export(endpoint: str, counts: TraceCounts, *, instance: str, version: str) -> SpanExport:
    """Begin to send spans to the OTLP/HTTP `endpoint`. `close` must be called.

    The variables of OpenTelemetry's SDK and exporter hold as well, such as
    `OTEL_EXPORTER_OTLP_HEADERS`. Raises ValueError or RuntimeError if it does not take one of them.
    """
    _silence_libraries()
    parts = urlsplit(endpoint)
    address = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    session = _Session()
    exporter = CountingExporter(
        OTLPSpanExporter(endpoint=endpoint, session=session),
        counts,
        cause=lambda: session.cause,
        address=address,
    )
    export = SpanExport(exporter, counts, instance=instance, version=version)
    if export.is_recording:
        log.info("traces", collector=address)
    else:
        log.info("traces_disabled", by="OTEL_SDK_DISABLED")
    return export
