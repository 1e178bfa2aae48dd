"""Which requests are traced, and what their spans say. Plain Python: the loop makes no call into
OpenTelemetry before a feed is committed.

Rules:
- A request is traced if an accepted event of it has a sampled context. The first such context is
  the parent of its span. The span links to the first 16 different ones.
- A request whose events have no context is traced by the ratio. A checksum of its id decides.
- A context that is not sampled is followed: its event gets no request traced, by no ratio.
- A refused record with a sampled context has a span of its own, with an error.
- Ids are hashes of where the record is in the log. So whoever replays a request after a crash gives
  its span, and the header of its feed, the same ids.
- A span is handed out when the transaction of its feed or dead letter is committed. So a feed has
  at most one span. It has none if the process is killed between the commit and the export.

What a partition holds is in its `PartitionTraces`, and is lost with it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, NamedTuple
from zlib import crc32

from workers.counts import TraceCounts
from workers.log import log
from workers.ranking.feed import Feed
from workers.ranking.refusal import Reason
from workers.ranking.removal import RemovalReason
from workers.ranking.request import Request
from workers.tracing.context import (
    SAMPLED,
    BadContext,
    Headers,
    TraceContext,
    context_headers,
    has_context,
    read_context,
)

MAX_LINKS: Final = 16
NOT_TRACED: Final[Headers] = ()
"""The headers of what is not traced."""
_SPAN_BYTES: Final = 24
"""The ids of one context."""
_ALL: Final = 1 << 32
_SPREAD: Final = 2_654_435_761
"""Knuth's multiplier: 2 ** 32 divided by the golden ratio."""

_REQUEST_ID: Final = "trimtab.request_id"
"""An attribute that the span of a request has, and that of a dead letter has not."""

AttributeValue = str | int | bool | tuple[str, ...]


class RequestSpan(NamedTuple):
    """What is known of a request, or of a refused record, once it is committed.

    - `context` names the span itself. `parent` is None if it begins a trace.
    - Times are nanoseconds since the epoch. `events` are pairs of a name and a time.
    - `error` is empty, or says why nothing was ranked.
    """

    context: TraceContext
    parent: TraceContext | None
    links: tuple[TraceContext, ...]
    name: str
    started_at: int
    ended_at: int
    events: tuple[tuple[str, int], ...]
    attributes: Mapping[str, AttributeValue]
    error: str = ""


@dataclass(frozen=True)
class RequestTracer:
    """Decides what is traced. `group` reads the topic `candidates`. `ratio` is the share of requests
    without a context that are traced, from 0 to 1. `finish` takes each span; it must not wait.
    """

    group: str
    candidates: str
    ratio: float
    counts: TraceCounts
    finish: Callable[[RequestSpan], None]

    def of_partition(self, number: int) -> "PartitionTraces":
        """The traces of a partition that was restored."""
        return PartitionTraces(self, number)

    def root_of(self, request_id: str) -> bytes:
        """The id of the trace that a request begins: 16 bytes."""
        return self._digest("trace", request_id, size=16)

    def is_drawn(self, request_id: str) -> bool:
        """Whether a request without a context is traced: always the same for an id.

        It is asked once for each event of a request that is not traced, so it is no cryptographic
        hash: that would take eight times as long.
        """
        # The product spreads ids that differ in their last characters only.
        return crc32(request_id.encode()) * _SPREAD % _ALL < self.ratio * _ALL

    def span_of(self, kind: str, partition: int, offset: int) -> bytes:
        """The id of a span: 8 bytes. `offset` is that of the first event."""
        return self._digest("span", kind, str(partition), str(offset), size=8)

    def note_bad(self, bad: BadContext, partition: int, offset: int) -> None:
        """Count a record whose context is damaged, and log the first."""
        self.counts.bad_contexts += 1
        if self.counts.bad_contexts == 1:
            log.warning(
                "trace_context_ignored",
                partition=partition,
                offset=offset,
                error=str(bad),
                doing="taking the event without it; counted from now on, and not logged again",
            )

    def _digest(self, *parts: str, size: int) -> bytes:
        text = "\0".join((self.group, self.candidates, *parts))
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()
        return digest if any(digest) else b"\1" * size  # an id of zeros is not valid


class _OpenTrace:
    """The trace of a request that is not ranked yet. `links` are the ids of its contexts, joined."""

    __slots__ = ("first_offset", "has_more_links", "links", "opened_at", "parent")

    def __init__(self, first_offset: int, opened_at: int) -> None:
        self.first_offset = first_offset
        self.opened_at = opened_at
        self.parent: TraceContext | None = None
        self.links = b""
        self.has_more_links = False

    def add(self, context: TraceContext) -> None:
        """Add the sampled context of an event."""
        if self.parent is None:
            self.parent = context
        if context.span in self._spans():
            return
        if len(self.links) < MAX_LINKS * _SPAN_BYTES:
            self.links += context.span
        else:
            self.has_more_links = True

    def contexts(self) -> tuple[TraceContext, ...]:
        """The contexts to link to."""
        return tuple(TraceContext(span, SAMPLED) for span in self._spans())

    def _spans(self) -> list[bytes]:
        links = self.links
        return [links[at : at + _SPAN_BYTES] for at in range(0, len(links), _SPAN_BYTES)]


class PartitionTraces:
    """The traces of the open requests of a partition, and the spans that wait for their commit.

    Not thread-safe. A traced request takes about 1 kB while it is open.
    """

    def __init__(self, tracer: RequestTracer, number: int) -> None:
        self._tracer = tracer
        self._number = number
        self._is_drawing = tracer.ratio > 0
        self._open: dict[str, _OpenTrace] = {}
        self._uncommitted: list[RequestSpan] = []

    def take(self, request_id: str, headers: Headers | None, offset: int) -> None:
        """Take an accepted event. `headers` are None if they cannot be read.

        It runs once for each event, so what most events are is asked first.
        """
        context = None
        if headers is not None and has_context(headers):
            context = self._read(headers, offset)
        if context is None:
            if not self._is_drawing or request_id in self._open:
                return
            if not self._tracer.is_drawn(request_id):
                return
        elif not context.is_sampled:
            return

        trace = self._open.get(request_id)
        if trace is None:
            trace = _OpenTrace(offset, time.time_ns())
            self._open[request_id] = trace
        if context is not None:
            trace.add(context)

    def rank(self, request: Request, feed: Feed) -> Headers:
        """Note the feed of a request. Return the headers by which its records continue the trace,
        none if the request is not traced.

        | the request                                       | is traced               |
        |---------------------------------------------------|-------------------------|
        | has a sampled context                             | below the first of them |
        | was drawn, and its first event had no context     | as a trace of its own   |
        | was drawn, and its first event was not sampled    | no                      |
        | otherwise                                         | no                      |
        """
        trace = self._open.pop(request.request_id, None)
        if trace is None:
            return NOT_TRACED
        if trace.parent is None and trace.first_offset != request.first_offset:
            return NOT_TRACED

        started_at = trace.opened_at
        closed_at = max(started_at, feed.ranked_at * 1_000_000)
        ranked_at = max(closed_at, time.time_ns())
        attributes = self._attributes(request.first_offset)
        attributes["messaging.kafka.message.key"] = request.request_id
        attributes.update(_describe(request, feed))
        if trace.has_more_links:
            attributes["trimtab.links_truncated"] = True

        error = "" if feed.models else _why_not_scored(feed)
        if error:
            attributes["error.type"] = error
        context = self._context("request", trace.parent, request)
        self._uncommitted.append(
            RequestSpan(
                context=context,
                parent=trace.parent,
                links=trace.contexts(),
                name=f"process {self._tracer.candidates}",
                started_at=started_at,
                ended_at=ranked_at,
                events=(("opened", started_at), ("closed", closed_at), ("ranked", ranked_at)),
                attributes=attributes,
                error=error,
            )
        )
        return context_headers(context)

    def refuse(self, headers: Headers | None, offset: int, reason: Reason) -> None:
        """Note the dead letter of a record."""
        # The context of an event that was accepted has been read, and counted if it is damaged.
        is_accepted = reason is Reason.CANDIDATES
        if headers is None or not has_context(headers):
            return
        parent = self._read(headers, offset, is_counted=not is_accepted)
        if parent is None or not parent.is_sampled:
            return

        now = time.time_ns()
        span_id = self._tracer.span_of("dead letter", self._number, offset)
        self._uncommitted.append(
            RequestSpan(
                context=parent._replace(span=parent.span[:16] + span_id),
                parent=parent,
                links=(TraceContext(parent.span, SAMPLED),),
                name=f"process {self._tracer.candidates}",
                started_at=now,
                ended_at=now,
                events=(("refused", now),),
                attributes={**self._attributes(offset), "error.type": str(reason)},
                error=str(reason),
            )
        )

    def commit(self, feeds_end: int) -> None:
        """Hand out what was committed. The feeds are in the output below `feeds_end`."""
        if not self._uncommitted:
            return

        spans = self._uncommitted
        self._uncommitted = []
        now = time.time_ns()
        for span in spans:
            committed_at = max(now, span.ended_at)
            attributes = dict(span.attributes)
            if _REQUEST_ID in attributes:
                attributes["trimtab.feeds_end"] = feeds_end
            self._tracer.finish(
                span._replace(
                    ended_at=committed_at,
                    events=(*span.events, ("committed", committed_at)),
                    attributes=attributes,
                )
            )

    def _read(
        self, headers: Headers, offset: int, *, is_counted: bool = True
    ) -> TraceContext | None:
        """The context of a record that has one. None if it is damaged."""
        try:
            return read_context(headers)
        except BadContext as bad:
            if is_counted:
                self._tracer.note_bad(bad, self._number, offset)
            return None

    def _context(self, kind: str, parent: TraceContext | None, request: Request) -> TraceContext:
        """The context of a request's span."""
        span_id = self._tracer.span_of(kind, self._number, request.first_offset)
        if parent is None:
            return TraceContext(self._tracer.root_of(request.request_id) + span_id, SAMPLED)
        return parent._replace(span=parent.span[:16] + span_id)

    def _attributes(self, offset: int) -> dict[str, AttributeValue]:
        """What OpenTelemetry's conventions for messaging say about a record."""
        return {
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": self._tracer.candidates,
            "messaging.destination.partition.id": str(self._number),
            "messaging.consumer.group.name": self._tracer.group,
            "messaging.kafka.offset": offset,
        }


def _describe(request: Request, feed: Feed) -> dict[str, AttributeValue]:
    """What the span says about a feed: nothing of its user, and no items."""
    attributes: dict[str, AttributeValue] = {
        _REQUEST_ID: request.request_id,
        "trimtab.surface": feed.surface,
        "trimtab.arm": feed.arm,
        "trimtab.completion": str(feed.completion),
        "trimtab.candidates": len(request.item_ids),
        "trimtab.refused": feed.refused,
        "trimtab.items": len(feed.items),
        "trimtab.weights": feed.weights.version,
        "trimtab.models": tuple(f"{name}/{version}" for name, version in feed.models.items()),
    }
    if feed.experiment is not None:
        attributes["trimtab.experiment"] = feed.experiment
    if feed.skipped:
        attributes["trimtab.skipped"] = tuple(feed.skipped)
    return attributes


def _why_not_scored(feed: Feed) -> str:
    """The reason why all items of a feed are removed."""
    if feed.removed:
        return str(feed.removed[0].reason)
    return str(RemovalReason.NOT_SCORED)
