"""Spans on their way to a collector, which may be away, slow or full of secrets."""

import gc
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import pytest
import structlog
import trustme
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.tracing.building import SPAN, TRACE, Traced, parent, span_name
from tests.tracing.collector import Collector, attributes_of, running_collector
from workers.counts import TraceCounts
from workers.ranking.refusal import Reason
from workers.tracing.export import QUEUE_SPANS, CountingExporter, SpanExport, open_export
from workers.tracing.request_traces import RequestSpan
from workers.tracing.spans import SpanMaker

NOBODY = "http://127.0.0.1:1/v1/traces"


def a_span() -> RequestSpan:
    """The span of a request with two events."""
    traced = Traced()
    traced.partition.take("r", [*parent(), ("tracestate", b"vendor=1")], 10)
    traced.partition.take("r", parent(span=span_name(2)), 11)
    traced.rank(first_offset=10)
    return traced.only_span()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as running:
        yield running


@contextmanager
def exporting(endpoint: str) -> Iterator[tuple[SpanExport, TraceCounts]]:
    counts = TraceCounts()
    export = open_export(endpoint, counts, instance="host-0", version="1")
    try:
        yield export, counts
    finally:
        export.close()


def url_of(collector: Collector) -> str:
    return f"http://127.0.0.1:{collector.port}/v1/traces"


def test_a_span_is_made_as_it_is_described() -> None:
    exporter = InMemorySpanExporter()
    described = a_span()
    SpanMaker(SimpleSpanProcessor(exporter), "host-0", "1").make(described)
    (span,) = exporter.get_finished_spans()
    assert span.context is not None
    assert span.parent is not None
    assert (span.context.trace_id, span.context.span_id) == (
        described.context.trace_id,
        described.context.span_id,
    )
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, SPAN)
    assert span.parent.is_remote
    assert span.context.trace_state.to_header() == "vendor=1"
    assert span.kind is SpanKind.CONSUMER
    assert [f"{link.context.span_id:016x}" for link in span.links] == [SPAN, span_name(2)]
    assert [(event.name, event.timestamp) for event in span.events] == list(described.events)
    assert (span.start_time, span.end_time) == (described.started_at, described.ended_at)
    assert dict(span.attributes or {}) == dict(described.attributes)
    assert span.status.status_code is StatusCode.UNSET
    assert span.resource.attributes["service.name"] == "trimtab"
    assert span.resource.attributes["service.instance.id"] == "host-0"


def test_what_was_refused_has_the_status_of_an_error() -> None:
    exporter = InMemorySpanExporter()
    traced = Traced()
    traced.partition.refuse(parent(), 10, Reason.LATE)
    SpanMaker(SimpleSpanProcessor(exporter), "host-0", "1").make(traced.only_span())
    (span,) = exporter.get_finished_spans()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "late")


def test_a_trace_of_its_own_has_the_ids_that_the_feed_names() -> None:
    exporter = InMemorySpanExporter()
    traced = Traced(ratio=1.0)
    traced.partition.take("r", [], 10)
    traced.rank(first_offset=10)
    described = traced.only_span()
    SpanMaker(SimpleSpanProcessor(exporter), "host-0", "1").make(described)
    (span,) = exporter.get_finished_spans()
    assert span.context is not None
    assert span.parent is None
    assert span.context.trace_id == described.context.trace_id


def test_the_name_of_the_service_is_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "feeds")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    exporter = InMemorySpanExporter()
    SpanMaker(SimpleSpanProcessor(exporter), "host-0", "1").make(a_span())
    (span,) = exporter.get_finished_spans()
    assert span.resource.attributes["service.name"] == "feeds"
    assert span.resource.attributes["deployment.environment.name"] == "test"


def test_spans_arrive_before_the_process_ends(collector: Collector) -> None:
    with exporting(url_of(collector)) as (export, counts):
        for _ in range(3):
            export.emit(a_span())
    assert len(collector.spans) == 3
    assert counts == TraceCounts(exported=3)
    span = collector.spans[0]
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
    assert span.kind == Span.SPAN_KIND_CONSUMER
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert attributes_of(span)["trimtab.models"] == ("quality/3", "engagement/1")


class StandingExporter(SpanExporter):
    """Hangs until it may go on, as a collector that takes a connection and does not answer."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()

    def export(self, _spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.may_go_on.wait()
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.may_go_on.set()


def test_more_spans_than_may_be_on_their_way_are_dropped_and_counted() -> None:
    counts = TraceCounts()
    standing = StandingExporter()
    exporter = CountingExporter(standing, counts, cause=lambda: "", address="here")
    export = SpanExport(exporter, counts, instance="host-0", version="1")
    span = a_span()
    for _ in range(QUEUE_SPANS + 10):
        export.emit(span)
    assert counts.dropped == 10
    assert export.on_their_way == QUEUE_SPANS

    standing.may_go_on.set()
    export.close()
    assert (counts.exported, export.on_their_way) == (QUEUE_SPANS, 0)


def test_the_end_does_not_wait_for_a_collector_that_hangs() -> None:
    counts = TraceCounts()
    standing = StandingExporter()
    exporter = CountingExporter(standing, counts, cause=lambda: "", address="here")
    export = SpanExport(exporter, counts, instance="host-0", version="1")
    export.emit(a_span())
    with structlog.testing.capture_logs() as logged:
        export.close()
    assert [(line["event"], line["spans"]) for line in logged] == [("traces_not_flushed", 1)]
    assert "traces-flush" in {thread.name for thread in threading.enumerate()}  # still waiting
    standing.may_go_on.set()


class FailingExporter(SpanExporter):
    """Fails as no exporter should."""

    def export(self, _spans: Sequence[ReadableSpan]) -> SpanExportResult:
        raise RuntimeError("what nobody thought of")


def test_spans_of_an_exporter_that_raises_are_counted_as_failed() -> None:
    counts = TraceCounts()
    exporter = CountingExporter(FailingExporter(), counts, cause=lambda: "", address="here")
    export = SpanExport(exporter, counts, instance="host-0", version="1")
    export.emit(a_span())
    export.close()
    assert counts == TraceCounts(failed=1)


def test_a_span_that_cannot_be_made_is_dropped_and_breaks_nothing(
    monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("what nobody thought of")

    with exporting(url_of(collector)) as (export, counts), monkeypatch.context() as patched:
        patched.setattr(SpanMaker, "make", fail)
        with structlog.testing.capture_logs() as logged:
            export.emit(a_span())
            export.emit(a_span())
    assert counts == TraceCounts(dropped=2, worker_errors=2)
    assert [line["event"] for line in logged] == ["worker_error"]


# What is logged


def exported(endpoint: str, batches: int = 3) -> tuple[TraceCounts, list[str]]:
    """Send batches one by one. Returns the counts, and the log lines as text."""
    with structlog.testing.capture_logs() as logged, exporting(endpoint) as (export, counts):
        for _ in range(batches):
            export.emit(a_span())
            export._maker.provider.force_flush()
    return counts, [str(line) for line in logged]


@pytest.fixture(autouse=True)
def short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (HTTPStatus.UNAUTHORIZED, "HTTP 401 Unauthorized"),
        (HTTPStatus.SERVICE_UNAVAILABLE, "HTTP 503 Service Unavailable"),
        (HTTPStatus.FOUND, "HTTP 302 Found"),
    ],
)
def test_a_collector_that_refuses_is_logged_once(
    collector: Collector, status: HTTPStatus, cause: str
) -> None:
    collector.status = status
    counts, (_begins, line) = exported(url_of(collector))
    assert f"'error': '{cause}'" in line
    assert f"'collector': '127.0.0.1:{collector.port}'" in line
    assert counts.failed == 3


def test_a_collector_that_is_away_is_logged_once() -> None:
    counts, (_begins, line) = exported(NOBODY)
    assert "'error': 'Connection refused'" in line
    assert counts.failed == 3


def test_a_collector_behind_tls_is_checked_by_its_certificate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(tmp_path / "ca.pem"))
    with running_collector(context) as collector:
        endpoint = url_of(collector).replace("http:", "https:")
        counts, _ = exported(endpoint)
        assert counts == TraceCounts(exported=3)

        monkeypatch.delenv("OTEL_EXPORTER_OTLP_CERTIFICATE")
        counts, (_begins, line) = exported(endpoint)
    assert "'error': 'CERTIFICATE_VERIFY_FAILED'" in line
    assert counts.failed == 3


def test_a_file_of_certificates_that_is_missing_is_logged(
    monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/hosts")
    _, (_begins, line) = exported(url_of(collector).replace("http:", "https:"))
    assert "'error': 'a file of certificates is missing'" in line


def test_no_token_is_logged_or_printed(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    collector: Collector,
) -> None:
    secret = "s3cr3t"
    lines = list[str]()
    endpoints = (
        f"http://127.0.0.1:{collector.port}/v1/traces?key={secret}",
        f"http://{secret}:{secret}@127.0.0.1:1/{secret}/v1/traces?key={secret}",
        f"https://{secret}:{secret}@127.0.0.1:{collector.port}/v1/traces?key={secret}",
    )
    for headers in (f"authorization=Bearer%20{secret}", f"no-equals-{secret}", f"a={secret}%0a\n"):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", headers)
        for status in (HTTPStatus.OK, HTTPStatus.FORBIDDEN):
            collector.status = status
            for endpoint in endpoints:
                lines += exported(endpoint, batches=1)[1]
    shown = capfd.readouterr()
    assert "HTTP 403 Forbidden" in "".join(lines)
    assert secret not in "".join(lines)
    assert secret not in shown.out + shown.err + caplog.text
    assert any(secret in (sent or "") for sent in collector.authorization)


def count_cycles(endpoint: str) -> tuple[TraceCounts, int]:
    """Send four spans, each by itself. Returns the counts, and the objects in cycles after the first."""
    with exporting(endpoint) as (export, counts):
        export.emit(a_span())
        export._maker.provider.force_flush()
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                export.emit(a_span())
                export._maker.provider.force_flush()
            return counts, gc.collect()
        finally:
            gc.enable()


def test_neither_spans_nor_failures_leave_cycles_because_nothing_collects_them(
    collector: Collector,
) -> None:
    with structlog.testing.capture_logs():
        assert count_cycles(url_of(collector)) == (TraceCounts(exported=4), 0)

        collector.status = HTTPStatus.BAD_GATEWAY
        tls = url_of(collector).replace("http:", "https:")
        for endpoint in (url_of(collector), NOBODY, tls, "http://no..body/v1/traces"):
            assert count_cycles(endpoint) == (TraceCounts(failed=4), 0), endpoint
