"""The pointer: where a restore must read. It is the metadata of a committed offset.

ASCII JSON `{"v":1,"scan":...,"time":...,"next":...,"rules":"...","skip":[[17,19,false]]}`, about a
hundred bytes of the broker's 4 KiB. `rules`, `skip` and `out` are left out if they are empty.

Metadata that is not ours, of another version or damaged is not a pointer. A restore then reads the
whole output, which is slow and never wrong.
"""

from itertools import pairwise

import msgspec
from msgspec import Struct

MAX_SPANS = 32
"""How many spans a pointer may have: 1.5 KiB at most."""

_LARGEST = 2**63 - 1


class Span(Struct, frozen=True, array_like=True):
    """Input offsets from `first` up to and without `end` that are passed over: they cannot be read,
    and an operator has skipped them.

    `is_reported`: a dead letter for the span is out. Raises ValueError if it has no offset.
    """

    first: int
    end: int
    is_reported: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.end <= _LARGEST:
            raise ValueError(
                f"span: got {self.first} to {self.end}, expected 0 <= first < end <= {_LARGEST}"
            )


class Pointer(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=1):
    """What a commit writes beside the offset.

    - `scan` is the first output offset that a restore reads.
    - `time` is the stream time (ms) at the committed offset. -1: none yet.
    - `next` is the first input offset not yet taken.
    - `rules` is the digest of the rules by which all events from the committed offset to `next`
      were judged. Empty if they were judged by several, or by unknown ones.
    - `skip` are the spans at or after the committed offset that are passed over, in order.
    - `out` is (due, offset) of the last feed whose outcomes are out, (-1, -1) before the first. Only
      the pointers of the join have it.

    Raises ValueError if an offset is out of range, or if spans overlap or are too many.
    """

    scan: int
    time: int
    next: int
    rules: str = ""
    skip: tuple[Span, ...] = ()
    out: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for field, value, least in (
            ("scan", self.scan, 0),
            ("time", self.time, -1),
            ("next", self.next, 0),
        ):
            if not least <= value <= _LARGEST:
                raise ValueError(f"{field}: got {value}, expected {least} to {_LARGEST}")

        if self.out is not None and min(self.out) < -1:
            raise ValueError(f"out: got {self.out}, expected two numbers from -1 on")

        if len(self.skip) > MAX_SPANS:
            raise ValueError(f"skip: got {len(self.skip)} spans, expected at most {MAX_SPANS}")
        for before, after in pairwise(self.skip):
            if after.first < before.end:
                raise ValueError(
                    f"skip: got {after.first} behind {before.end}, expected spans in their order"
                )


class _Version(Struct):
    v: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Pointer).decode
_decode_version = msgspec.json.Decoder(_Version).decode


def write_pointer(pointer: Pointer) -> str:
    """The metadata of the offset."""
    return _encode(pointer).decode("ascii")


def read_pointer(metadata: str | None) -> Pointer | None:
    """The pointer in an offset's metadata. None if it is not a pointer that can be read."""
    try:
        # The decoder of the pointer compares `v` if it is there, but it may be absent.
        _decode_version(metadata or "")
        return _decode(metadata or "")
    except (ValueError, RecursionError):
        return None
