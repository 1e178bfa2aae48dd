"""A span of our own as one of OpenTelemetry."""

from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, Tracer, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from workers.tracing.context import TraceContext
from workers.tracing.request_traces import RequestSpan

_ATTRIBUTE_CHARACTERS = 256


class _GivenIds(IdGenerator):
    """Gives a span the ids that were chosen for it. Only the loop makes spans, one after the other."""

    def __init__(self) -> None:
        self.given = TraceContext(b"", 0)

    def generate_trace_id(self) -> int:
        return self.given.trace_id

    def generate_span_id(self) -> int:
        return self.given.span_id


class SpanMaker:
    """Makes spans and hands them to `processor`. What is sampled was decided before.

    `instance` names this process, `version` the program. What `OTEL_RESOURCE_ATTRIBUTES` and
    `OTEL_SERVICE_NAME` say about the service wins.
    """

    def __init__(self, processor: SpanProcessor, instance: str, version: str) -> None:
        named = Resource(
            {
                "service.name": "trimtab",
                "service.version": version,
                "service.instance.id": instance,
            }
        )
        resource = Resource.create().merge(named).merge(OTELResourceDetector().detect())
        self._ids = _GivenIds()
        self.provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=resource,
            shutdown_on_exit=False,
            id_generator=self._ids,
            span_limits=SpanLimits(max_attribute_length=_ATTRIBUTE_CHARACTERS),
        )
        self.provider.add_span_processor(processor)
        self._tracer = self.provider.get_tracer("trimtab", version)

    @property
    def is_recording(self) -> bool:
        """Whether spans are made at all. `OTEL_SDK_DISABLED` forbids it."""
        return isinstance(self._tracer, Tracer)

    def make(self, span: RequestSpan) -> None:
        """Make a span that has ended, and hand it on."""
        context = Context()
        if span.parent is not None:
            context = set_span_in_context(NonRecordingSpan(_named(span.parent)), context)

        self._ids.given = span.context
        made = self._tracer.start_span(
            span.name,
            context=context,
            kind=SpanKind.CONSUMER,
            attributes=dict(span.attributes),
            links=[Link(_named(link)) for link in span.links],
            start_time=span.started_at,
        )
        for name, at in span.events:
            made.add_event(name, timestamp=at)
        if span.error:
            made.set_status(Status(StatusCode.ERROR, span.error))
        made.end(span.ended_at)


def _named(context: TraceContext) -> SpanContext:
    """A context of a record, in OpenTelemetry's type."""
    return SpanContext(
        trace_id=context.trace_id,
        span_id=context.span_id,
        is_remote=True,
        trace_flags=TraceFlags(context.flags),
        trace_state=TraceState.from_header([context.state]) if context.state else None,
    )
