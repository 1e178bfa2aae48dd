"""The pointer that stands beside a committed offset, in its metadata: where a restore must read.

ASCII JSON `{"v":1,"scan":...,"time":...,"next":...,"rules":"..."}`, a hundred bytes of the broker's
4 KiB. Metadata that is not ours, of another version or damaged is no pointer: a restore then reads
the whole output, which is slow and never wrong.
"""

import msgspec
from msgspec import Struct

_MOST = 2**63 - 1


class Pointer(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=1):
    """`scan` is the first output offset that a restore reads, `time` the stream time (ms; -1: none
    yet) at the committed offset, `next` the first input offset not yet taken. `rules` is the digest
    of the rules by which all events from the committed offset to `next` were judged; empty if they
    were judged by several, or by unknown ones. Raises ValueError on an offset that cannot be."""

    scan: int
    time: int
    next: int
    rules: str = ""

    def __post_init__(self) -> None:
        for field, value, low in (
            ("scan", self.scan, 0),
            ("time", self.time, -1),
            ("next", self.next, 0),
        ):
            if not low <= value <= _MOST:
                raise ValueError(f"{field}: got {value}, expected {low} to {_MOST}")


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
