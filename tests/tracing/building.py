"""Small values of traces, and a partition that is traced."""

from collections.abc import Sequence

from tests.builders import request
from workers.counts import TraceCounts
from workers.ranking.feed import Feed, FeedItem
from workers.ranking.request import Completion, Request
from workers.ranking.weights import Weights
from workers.tracing.context import Headers, TraceContext
from workers.tracing.request_traces import PartitionTraces, RequestSpan, RequestTracer

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
WEIGHTS = Weights.of({"quality": 0.5, "engagement": 0.5})
EARLY_MS = 1_000


def parent(trace: str = TRACE, span: str = SPAN, flags: str = "01") -> Headers:
    """The header of an event."""
    return [("traceparent", f"00-{trace}-{span}-{flags}".encode())]


def span_name(number: int) -> str:
    """The id of the span of a producer."""
    return f"{number:016x}"


def ids_of(contexts: Sequence[TraceContext]) -> list[str]:
    """The ids of spans, in the order of their contexts."""
    return [f"{context.span_id:016x}" for context in contexts]


def feed_of(one: Request, models: dict[str, int] | None = None) -> Feed:
    """A feed of a request, ranked long ago. `models`: empty if nothing is scored."""
    given = {"quality": 3, "engagement": 1} if models is None else models
    return Feed(
        request_id=one.request_id,
        surface=one.surface.name,
        user_id=one.user_id,
        requested_at=one.requested_at,
        ranked_at=EARLY_MS,
        completion=Completion.FULL,
        refused=0,
        arm="control",
        weights=WEIGHTS,
        models=given,
        items=[FeedItem("a", 1.0, (1.0, 1.0))] if given else [],
    )


class Traced:
    """A traced partition, and the spans that it has handed out."""

    def __init__(self, ratio: float = 0.0, number: int = 3, group: str = "g") -> None:
        self.spans = list[RequestSpan]()
        self.counts = TraceCounts()
        tracer = RequestTracer(
            group=group,
            candidates="candidates",
            ratio=ratio,
            counts=self.counts,
            finish=self.spans.append,
        )
        self.partition: PartitionTraces = tracer.of_partition(number)

    def rank(self, request_id: str = "r", first_offset: int = 0) -> Headers:
        """Rank a request."""
        one = request(["a", "b"], request_id=request_id, first_offset=first_offset)
        return self.partition.rank(one, feed_of(one))

    def only_span(self) -> RequestSpan:
        """Commit, and return the one span that comes of it."""
        self.partition.commit(77)
        (span,) = self.spans
        return span
