"""The pointer fits into the metadata of an offset. Other metadata is not read as a pointer."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.codec.pointer import MAX_SPANS, Pointer, Span, read_pointer, write_pointer

_OFFSETS = st.integers(0, 2**63 - 1)


@given(_OFFSETS, st.integers(-1, 2**63 - 1), _OFFSETS)
def test_a_pointer_is_read_back_from_short_ascii(scan: int, time: int, next: int) -> None:  # noqa: A002
    pointer = Pointer(scan=scan, time=time, next=next)
    metadata = write_pointer(pointer)
    assert metadata.isascii()
    assert len(metadata) < 4096
    assert read_pointer(metadata) == pointer


def test_the_metadata_has_the_documented_form() -> None:
    assert write_pointer(Pointer(scan=3, time=-1, next=7)) == '{"v":1,"scan":3,"time":-1,"next":7}'
    judged = write_pointer(Pointer(scan=3, time=-1, next=7, rules="1a2b3c4d5e6f"))
    assert judged == '{"v":1,"scan":3,"time":-1,"next":7,"rules":"1a2b3c4d5e6f"}'
    skipping = write_pointer(
        Pointer(scan=3, time=-1, next=7, skip=(Span(17, 19), Span(21, 22, is_reported=True)))
    )
    assert skipping == '{"v":1,"scan":3,"time":-1,"next":7,"skip":[[17,19,false],[21,22,true]]}'


def test_as_many_spans_as_a_pointer_may_have_fit_into_the_metadata() -> None:
    spans = tuple(Span(2**62 + 2 * n, 2**62 + 2 * n + 1) for n in range(MAX_SPANS))
    pointer = Pointer(
        scan=2**63 - 1, time=2**63 - 1, next=2**63 - 1, rules="1a2b3c4d5e6f", skip=spans
    )
    metadata = write_pointer(pointer)
    assert len(metadata) < 4096
    assert read_pointer(metadata) == pointer


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        "",
        "consumer-1",
        "{",
        "[]",
        "{}",
        '{"v":2,"scan":0,"time":0,"next":0}',
        '{"v":1,"scan":0,"time":0}',
        '{"scan":0,"time":0,"next":0}',
        '{"v":"1","scan":0,"time":0,"next":0}',
        '{"v":1,"scan":-1,"time":0,"next":0}',
        '{"v":1,"scan":0,"time":-2,"next":0}',
        '{"v":1,"scan":0,"time":0,"next":-1}',
        '{"v":1,"scan":0.0,"time":0,"next":0}',
        '{"v":1,"scan":"0","time":0,"next":0}',
        '{"v":1,"scan":true,"time":0,"next":0}',
        '{"v":1,"scan":9223372036854775808,"time":0,"next":0}',
        '{"v":1,"scan":0,"time":0,"next":0} x',
        '{"v":1,"scan":0,"time":0,"next":0,"skip":[[3,3,false]]}',
        '{"v":1,"scan":0,"time":0,"next":0,"skip":[[-1,3,false]]}',
        '{"v":1,"scan":0,"time":0,"next":0,"skip":[[5,7,false],[6,9,false]]}',
        '{"v":1,"scan":0,"time":0,"next":0,"skip":[5]}',
        '{"v":1,"scan":0,"time":0,"next":0,"skip":['
        + ",".join(f"[{n},{n + 1},false]" for n in range(33))
        + "]}",
        '{"v":1,"scan":0,"time":0,"next":0,"x":"\ud800"}',
        "[" * 100_000,
        '{"x":' * 100_000,
    ],
)
def test_metadata_that_is_not_ours_is_not_a_pointer(metadata: str | None) -> None:
    assert read_pointer(metadata) is None


@given(st.text())
def test_reading_never_raises(metadata: str) -> None:
    assert read_pointer(metadata) is None


def test_a_key_that_a_later_version_adds_is_ignored() -> None:
    assert read_pointer('{"v":1,"scan":1,"time":2,"next":3,"more":[]}') == Pointer(
        scan=1, time=2, next=3
    )


@pytest.mark.parametrize("wrong", [{"scan": -1}, {"time": -2}, {"next": -1}, {"next": 2**63}])
def test_an_impossible_pointer_cannot_be_constructed(wrong: dict[str, int]) -> None:
    (field,) = wrong
    with pytest.raises(ValueError, match=f"^{field}: got "):
        Pointer(**(dict[str, Any](scan=0, time=0, next=0) | wrong))
