"""Which headers are a W3C trace context."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tests.tracing.building import SPAN, TRACE
from workers.tracing.context import BadContext, Headers, context_headers, has_context, read_context

GOOD = f"00-{TRACE}-{SPAN}-01".encode()


def test_a_context_is_read_and_handed_on() -> None:
    headers: Headers = [
        ("content-type", b"application/json"),
        ("traceparent", GOOD),
        ("tracestate", b"vendor=1,t1@other=a b"),
    ]
    context = read_context(headers)
    assert (f"{context.trace_id:032x}", f"{context.span_id:016x}") == (TRACE, SPAN)
    assert context.is_sampled
    assert context_headers(context) == headers[1:]


def test_without_the_header_there_is_no_context() -> None:
    assert not has_context([("Traceparent", GOOD), ("tracestate", b"a=1"), ("x", None)])
    assert has_context([("x", None), ("traceparent", None)])


@pytest.mark.parametrize(("flags", "handed_on"), [("01", "01"), ("03", "03"), ("ff", "03")])
def test_the_flags_that_are_known_are_handed_on(flags: str, handed_on: str) -> None:
    context = read_context([("traceparent", GOOD[:-2] + flags.encode())])
    assert context_headers(context) == [("traceparent", GOOD[:-2] + handed_on.encode())]


def test_of_several_headers_the_last_counts() -> None:
    context = read_context([("traceparent", b"?"), ("traceparent", GOOD[:-2] + b"00")])
    assert not context.is_sampled


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"nonsense",
        b"\xff\xfe",
        GOOD.upper(),
        GOOD[:-1],
        GOOD + b"\n",
        GOOD + b"-more",
        b"ff" + GOOD[2:],
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        b"x" * 100_000,
    ],
)
def test_a_damaged_context_is_refused_and_shown_short(value: bytes | None) -> None:
    with pytest.raises(BadContext, match="traceparent: got") as refused:
        read_context([("traceparent", value)])
    assert len(str(refused.value)) < 400


def test_a_later_version_may_have_more_members() -> None:
    context = read_context([("traceparent", b"cc" + GOOD[2:] + b"-what-the-future-brings")])
    assert context_headers(context) == [("traceparent", GOOD)]


@pytest.mark.parametrize(
    "state",
    [
        None,
        b"",
        b"a=\xe9",
        b"a=1\n",
        b"a=1,b",
        b"A=1",
        b"=1",
        b"a=",
        b"a=1=2",
        b"a=" + b"x" * 257,
        b",".join(b"k%d=1" % number for number in range(33)),
        b",".join(b"k%d=%s" % (number, b"x" * 60) for number in range(9)),
    ],
)
def test_a_state_that_cannot_be_handed_on_is_left_out(state: bytes | None) -> None:
    context = read_context([("traceparent", GOOD), ("tracestate", state)])
    assert context_headers(context) == [("traceparent", GOOD)]


_HEX = st.text("0123456789abcdefg", min_size=15, max_size=33)
_PARENTS = st.one_of(
    st.text(max_size=60),
    st.builds(
        "{}-{}-{}-{}{}".format,
        st.sampled_from(["00", "01", "cc", "ff", "0"]),
        st.one_of(st.just(TRACE), st.just("0" * 32), _HEX),
        st.one_of(st.just(SPAN), st.just("0" * 16), _HEX),
        st.sampled_from(["00", "01", "02", "03", "ff", "1", "0g"]),
        st.sampled_from(["", "-", "-x", "x"]),
    ),
)


@given(parent=_PARENTS)
@settings(deadline=None)
def test_what_is_read_is_what_the_propagator_of_opentelemetry_reads(parent: str) -> None:
    carrier = {"traceparent": parent}
    expected = get_current_span(TraceContextTextMapPropagator().extract(carrier)).get_span_context()
    try:
        context = read_context([("traceparent", parent.encode())])
    except BadContext:
        # Theirs also strips spaces, which an HTTP header may have around it.
        assert not expected.is_valid or parent != parent.strip(" \t")
        return

    assert (context.trace_id, context.span_id) == (expected.trace_id, expected.span_id)
    assert context.is_sampled == expected.trace_flags.sampled
