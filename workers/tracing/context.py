"""The W3C trace context in the headers of records: `traceparent` and `tracestate`. Pure.

https://www.w3.org/TR/trace-context/ has the rules. OpenTelemetry's own propagator is not used here:
it decodes headers that nobody traces, and does not tell a damaged context from a missing one.

Rules:
- Names of headers are compared as they are. Of several headers with one name the last counts.
- A damaged `traceparent` is as good as none. A damaged `tracestate` is left out.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

Headers = Sequence[tuple[str, bytes | None]]

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

SAMPLED = 0x01
_RANDOM = 0x02
"""The trace id was drawn at random. A span hands this on to those below it."""
_MAX_STATE_BYTES = 512
"""What has to be handed on of a `tracestate`, by the standard. A longer one is left out."""

# The members of later versions may go on behind a further dash.
_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_MEMBER = re.compile(
    rb"[a-z0-9][a-z0-9_*/@-]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_MAX_MEMBERS = 32


class BadContext(ValueError):
    """A `traceparent` is not one. The message shows at most 60 bytes of it."""

    def __init__(self, value: bytes | None) -> None:
        got = None if value is None else value[:60]
        super().__init__(
            f"traceparent: got {got!r}, expected 00-<32 hex digits>-<16 hex digits>-<2 hex digits>"
        )


class TraceContext(NamedTuple):
    """Names a span. `span` has its ids as bytes: 16 of the trace, then 8 of the span."""

    span: bytes
    flags: int
    state: str = ""

    @property
    def trace_id(self) -> int:
        """The id of the trace, as OpenTelemetry has it."""
        return int.from_bytes(self.span[:16], "big")

    @property
    def span_id(self) -> int:
        """The id of the span, as OpenTelemetry has it."""
        return int.from_bytes(self.span[16:], "big")

    @property
    def is_sampled(self) -> bool:
        """Whether the span is recorded, so that those below it are to be recorded too."""
        return bool(self.flags & SAMPLED)


def has_context(headers: Headers) -> bool:
    """Whether a record has a context, which may be damaged. Called for each record."""
    for name, _ in headers:  # noqa: SIM110 - any() over a generator takes three times as long
        if name == TRACEPARENT:
            return True
    return False


def read_context(headers: Headers) -> TraceContext:
    """The context of a record that has one. Raises BadContext."""
    parent: bytes | None = None
    state: bytes | None = None
    for name, value in headers:
        if name == TRACEPARENT:
            parent = value
        elif name == TRACESTATE:
            state = value

    matched = _PARENT.fullmatch(parent or b"")
    if matched is None:
        raise BadContext(parent)
    version, trace_id, span_id, flags, more = matched.groups()
    is_known = version == b"00"
    if (
        version == b"ff"
        or (is_known and more)
        or not trace_id.strip(b"0")
        or not span_id.strip(b"0")
    ):
        raise BadContext(parent)

    span = bytes.fromhex((trace_id + span_id).decode())
    return TraceContext(span, int(flags, 16), _read_state(state))


def context_headers(context: TraceContext) -> list[tuple[str, bytes | None]]:
    """The headers by which a record continues a trace."""
    flags = context.flags & (SAMPLED | _RANDOM)
    parent = f"00-{context.span[:16].hex()}-{context.span[16:].hex()}-{flags:02x}"
    headers: list[tuple[str, bytes | None]] = [(TRACEPARENT, parent.encode())]
    if context.state:
        headers.append((TRACESTATE, context.state.encode()))
    return headers


def _read_state(value: bytes | None) -> str:
    """A `tracestate` that can be handed on, or nothing. Empty members are left out."""
    if value is None or len(value) > _MAX_STATE_BYTES:
        return ""

    members: list[str] = []
    for raw in value.split(b","):
        member = raw.strip(b" \t")
        if not member:
            continue
        if not _MEMBER.fullmatch(member):
            return ""
        members.append(member.decode("ascii"))
    return ",".join(members) if len(members) <= _MAX_MEMBERS else ""
