"""The pointer that stands beside a committed offset, in its metadata: where a restore must read.

ASCII JSON `{"v":1,"scan":...,"time":...,"next":...,"rules":"...","skip":[[17,19,false]]}`, a
hundred bytes of the broker's 4 KiB; `rules` and `skip` are left out if they are empty. Metadata
that is not ours, of another version or damaged is no pointer: a restore then reads the whole
output, which is slow and never wrong.
"""

from itertools import pairwise

import msgspec
from msgspec import Struct

MAX_SPANS = 32
"""How many spans a pointer may have: 1.5 KiB at most."""

_MOST = 2**63 - 1


class Span(Struct, frozen=True, array_like=True):
    """Input offsets from `first` to, not with, `end` that are passed over: they cannot be read, and
    somebody said so.

    `is_told` once a dead letter says it. Raises ValueError on a span without an offset.
    """

    first: int
    end: int
    is_told: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.end <= _MOST:
            raise ValueError(
                f"span: got {self.first} to {self.end}, expected 0 <= first < end <= {_MOST}"
            )


class Pointer(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=1):
    """`scan` is the first output offset that a restore reads, `time` the stream time (ms; -1: none
    yet) at the committed offset, `next` the first input offset not yet taken. `rules` is the digest
    of the rules by which all events from the committed offset to `next` were judged; empty if they
    were judged by several, or by unknown ones. `skip` are the spans at or after the committed
    offset that are passed over, in their order. Raises ValueError on an offset that cannot be, and
    on spans that overlap or are too many.
    """

    scan: int
    time: int
    next: int
    rules: str = ""
    skip: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        for field, value, low in (
            ("scan", self.scan, 0),
            ("time", self.time, -1),
            ("next", self.next, 0),
        ):
            if not low <= value <= _MOST:
                raise ValueError(f"{field}: got {value}, expected {low} to {_MOST}")
        if len(self.skip) > MAX_SPANS:
            raise ValueError(f"skip: got {len(self.skip)} spans, expected at most {MAX_SPANS}")
        for before, after in pairwise(self.skip):
            if after.first < before.end:
                raise ValueError(
                    f"skip: got {after.first} behind {before.end}, expected spans in their order"
                )


class _Versioned(Struct):
    v: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Pointer).decode
_decode_version = msgspec.json.Decoder(_Versioned).decode


def write_pointer(pointer: Pointer) -> str:
    """The offset's metadata."""
    return _encode(pointer).decode("ascii")


def read_pointer(metadata: str | None) -> Pointer | None:
    """The pointer in an offset's metadata; None where there is none that can be read."""
    try:
        _decode_version(
            metadata or ""
        )  # the tag is compared where it stands, and may not be absent
        return _decode(metadata or "")
    except (ValueError, RecursionError):
        return None
