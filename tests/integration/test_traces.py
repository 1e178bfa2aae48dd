"""Traces from a producer's span over two workers to the header of the feed and a real collector."""

import json
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import SpanKind, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tests.rig.environment import Environment
from tests.rig.metrics import is_ready, total
from tests.rig.process import until
from tests.rig.redis import free_port
from tests.rig.traffic import JSON, make_request
from tests.tracing.collector import Collector, attributes_of, running_collector
from workers.streaming.records import Headers, Record


class TracedProducer:
    """A producer that OpenTelemetry instruments: each event has a span, whose context it carries."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._sender = env.sender()
        self._propagator = TraceContextTextMapPropagator()

    def send(self, events: Iterable[Mapping[str, Any]], sampler: Sampler = ALWAYS_ON) -> list[str]:
        """Send events, each with a span in a trace of its own. Returns their `traceparent`."""
        tracer = TracerProvider(sampler=sampler, shutdown_on_exit=False).get_tracer("producer")
        sent = []
        for event in events:
            carrier: dict[str, str] = {}
            with tracer.start_span("send", kind=SpanKind.PRODUCER) as span:
                assert isinstance(span, Span) or sampler is ALWAYS_OFF
                self._propagator.inject(carrier, set_span_in_context(span))
            self.send_with(event, carrier["traceparent"].encode())
            sent.append(carrier["traceparent"])
        self._sender.finish()
        return sent

    def send_with(self, event: Mapping[str, Any], traceparent: bytes) -> None:
        """Queue one event with this header."""
        headers: Headers = [*JSON, ("traceparent", traceparent)]
        key = str(event["request_id"]).encode()
        self._sender.send(key, json.dumps(event).encode(), headers)


def parent_of(record: Record) -> str:
    """The `traceparent` of a record. Empty if it has none."""
    return (dict(record.headers or []).get("traceparent") or b"").decode()


def spans_by_request(collector: Collector) -> dict[str, list[Any]]:
    """What the collector has, by the id of the request."""
    spans: dict[str, list[Any]] = {}
    for span in list(collector.spans):
        request_id = str(attributes_of(span).get("trimtab.request_id", "refused"))
        spans.setdefault(request_id, []).append(span)
    return spans


def test_a_feed_continues_the_trace_of_its_producer_and_flows_without_a_collector(
    make_env: Callable[..., Environment],
) -> None:
    draw = random.Random(1)
    port = free_port()
    with running_collector() as collector:
        env = make_env(
            variables={
                "TRIMTAB_METRICS_PORT": str(port),
                "TRIMTAB_TRACE_ENDPOINT": f"http://127.0.0.1:{collector.port}",
                "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20s3cr3t",
                "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5",
                "OTEL_BSP_SCHEDULE_DELAY": "100",
            }
        )
        workers = env.start_worker("--processes", "2")
        until(is_ready(port), workers.logged)
        until(lambda: total(port, "trimtab_partitions", state="reading") == 4)
        producer = TracedProducer(env)

        sent = {
            name: producer.send(make_request(name, 4, draw, batch=2)) for name in ("a", "b", "c")
        }
        producer.send(make_request("unsampled", 2, draw), ALWAYS_OFF)
        env.send(make_request("untraced", 2, draw))
        (bad,) = make_request("bad", 2, draw, batch=2)
        producer.send_with(bad, b"00-what-\xff-01")
        (nowhere,) = make_request("x", 1, draw, surface="nowhere")
        (refused,) = producer.send([nowhere])

        records = {
            (record.key or b"").decode(): record for record in env.records(env.feeds, 6, 0.1)
        }
        until(lambda: len(spans_by_request(collector)) == 4, workers.logged)
        spans = spans_by_request(collector)

        for name, contexts in sent.items():
            (span,) = spans[name]
            _, trace_id, span_id, flags = contexts[0].split("-")
            assert (span.trace_id.hex(), span.parent_span_id.hex()) == (trace_id, span_id)
            assert parent_of(records[name]) == f"00-{trace_id}-{span.span_id.hex()}-{flags}"
            linked = [f"{link.trace_id.hex()}-{link.span_id.hex()}" for link in span.links]
            assert linked == [context[3:52] for context in contexts]
            attributes = attributes_of(span)
            assert (
                attributes["trimtab.weights"]
                == json.loads(records[name].value or b"")["weights"]["version"]
            )
            assert attributes["messaging.destination.partition.id"] == str(records[name].partition)
            assert int(str(attributes["trimtab.feeds_end"])) > records[name].offset
        for name in ("unsampled", "untraced", "bad"):
            assert parent_of(records[name]) == ""
        (span,) = spans["refused"]
        assert (span.trace_id.hex(), span.status.message) == (refused[3:35], "unknown-surface")
        assert len({resource["service.instance.id"] for resource in collector.resources}) <= 2
        assert set(collector.authorization) == {"Bearer s3cr3t"}
        assert [letter.reason for letter in env.read_letters(1, 0.1)] == ["unknown-surface"]

    # The collector is away: feeds go on, and what is lost is counted.
    late = [make_request(f"late{number}", 2, draw, batch=2)[0] for number in range(20)]
    producer.send(late)
    assert len(env.records(env.feeds, 26, 0.1)) == 26
    until(lambda: total(port, "trimtab_spans_total", result="failed") == 20, workers.logged)
    assert workers.terminate() == 0
    logged = workers.logged()
    assert 1 <= logged.count("event=traces_not_exported") <= 2  # once in each process
    assert "trace_context_ignored" in logged
    assert "s3cr3t" not in logged
