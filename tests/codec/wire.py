"""Events as texts and messages, valid ones and ones that are wrong in every way, to test decoding
with.
"""

import json
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from tests.builders import surface
from workers.codec.generated.candidate_pb2 import Candidate as WireCandidate
from workers.codec.generated.candidate_pb2 import CandidateEvent
from workers.ranking.features import FeatureSet
from workers.ranking.surface import Surfaces

TRIO = FeatureSet("trio", ("a", "b", "c"), {"b": 8.0})
HOME = surface(feature_set=TRIO)
SHELF = surface("shelf", feature_set=TRIO, lookup_features=True)
SURFACES: Surfaces = {"home": HOME, "shelf": SHELF}

AT = 1_763_900_000_000
KEY = b"r-1"


def valid_event(**changes: Any) -> dict[str, Any]:
    """A valid event as JSON holds it."""
    event = {"request_id": "r-1", "surface": "home", "user_id": "u", "requested_at": AT}
    return event | {"candidates": [candidate("x")]} | changes


def candidate(item_id: str, **changes: Any) -> dict[str, Any]:
    return {"item_id": item_id, "features": [1.0, 2.0, 3.0]} | changes


def encoded(event: object) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode()


def deeply_nested(depth: int) -> bytes:
    return encoded(valid_event(unknown="DEEP")).replace(b'"DEEP"', b"[" * depth + b"]" * depth)


# Arbitrary events in JSON, written as text, so that they may hold what no value of Python can.

_ODD = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "-1",
    "3.0",
    "1e2",
    "1e400",
    "-1e400",
    "1e-400",
    "3.5e38",
    "1" * 39,
    "9" * 5000,
    "253402300799999",
    "253402300800000",
    "1000000",
    "1000001",
    "18446744073709551616",
    '""',
    '"r-1"',
    '"home"',
    '"1"',
    '"\\ud800"',
    '"\\ud83d\\ude00"',
    '"\\u0000"',
    '"é"',
    '"' + "é" * 128 + '"',
    '"' + "x" * 256 + '"',
    '"' + "x" * 257 + '"',
    '"' + "é" * 129 + '"',
    '"\\x"',
    '"a\tb"',
    "[]",
    "{}",
    "[1,2,3]",
    '{"a":1}',
    '[{"item_id":"x"}]',
    "[[[[]]]]",
    '{"a":{"a":{}}}',
    "NaN",
    "Infinity",
    "-Infinity",
    "01",
    "+1",
    ".5",
    "1.",
    "tru",
    "'x'",
    "[1,]",
    '{"a":1,}',
    "{1:2}",
    "",
]
_NUMBERS = st.from_regex(
    r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?", fullmatch=True
)
_ANYTHING = st.sampled_from(_ODD) | _NUMBERS | st.text(max_size=5).map(json.dumps)
_SPACE = st.sampled_from(["", "", "", " ", "\n", "\t", "\u00a0"])


@st.composite
def _objects(draw: DrawFn, fields: dict[str, SearchStrategy[str]]) -> str:
    """An object of these fields. Up to two of them are replaced, dropped or given twice, and there
    may be an unknown one.
    """
    pairs = [(name, draw(value)) for name, value in fields.items()]
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        name, value = draw(st.sampled_from([*fields, "unknown"])), draw(_ANYTHING)
        change = draw(st.sampled_from(["replace", "drop", "before", "after"]))
        if change in ("replace", "drop"):
            pairs = [pair for pair in pairs if pair[0] != name]
        if change != "drop":
            pairs.insert(0 if change == "before" else len(pairs), (name, value))
    between = draw(_SPACE)
    return (
        "{"
        + ",".join(f"{between}{json.dumps(name)}:{between}{value}" for name, value in pairs)
        + "}"
    )


def _lists(elements: SearchStrategy[str], most: int) -> SearchStrategy[str]:
    return st.lists(elements, max_size=most).map(lambda parts: f"[{','.join(parts)}]")


_IDS = st.text(min_size=1, max_size=6).map(json.dumps) | st.sampled_from(['"x"', '"y"', '"é"'])
_POSITIONAL = st.tuples(_NUMBERS, _NUMBERS, _NUMBERS).map(lambda numbers: f"[{','.join(numbers)}]")
_NAMED = _objects({"a": _NUMBERS, "b": _NUMBERS, "c": _NUMBERS})
_NOTHING = st.sampled_from(["null", "[]", "{}"])
_CANDIDATES = _objects(
    {"item_id": _IDS, "source": st.just("null") | _IDS, "features": _POSITIONAL | _NAMED | _NOTHING}
)
_EVENTS = _objects(
    {
        "request_id": st.just('"r-1"'),
        "surface": st.sampled_from(['"home"', '"shelf"']),
        "user_id": _IDS,
        "requested_at": st.integers(0, 2**50).map(str),
        "expected": st.integers(0, 10).map(str) | st.just("null"),
        "last": st.sampled_from(["true", "false", "null"]),
        "candidates": _lists(_CANDIDATES | _ANYTHING, 3) | _lists(_CANDIDATES, 3),
    }
)


@st.composite
def _damaged(draw: DrawFn, values: SearchStrategy[bytes]) -> bytes:
    """Bytes with a few of them replaced, dropped or put in."""
    value = bytearray(draw(values))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(value)))
        value[start : start + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(value)


def damaged(values: SearchStrategy[bytes]) -> SearchStrategy[bytes]:
    """Most as they are, some damaged."""
    return values | values | _damaged(values)


def json_values() -> SearchStrategy[bytes]:
    """Events in JSON: valid, wrong, and damaged."""
    return damaged(_EVENTS.map(str.encode))


# Arbitrary events in Protobuf.

_FLOATS = st.floats(width=32)
_WIRE_CANDIDATES = st.builds(
    WireCandidate,
    item_id=st.sampled_from(["x", "y", "é", "", "x" * 256, "é" * 129]),
    source=st.sampled_from([None, "", "s", "s" * 65, "s" * 257]),
    features=st.lists(_FLOATS, min_size=3, max_size=3) | st.sampled_from([[], [1.0]]),
    features_f32=st.sampled_from([b"", b"", b"", bytes(12), bytes(11), b"\x00\x00\xc0\x7f" * 3]),
    features_by_name=st.just({})
    | st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.floats(), max_size=3),
)
_MESSAGES = st.builds(
    CandidateEvent,
    request_id=st.sampled_from(["r-1", "r-1", "r-1", "", "é"]),
    surface=st.sampled_from(["home", "home", "shelf", "shelf", "", "attic"]),
    user_id=st.sampled_from(["u", "u", "", "é" * 128, "é" * 129]),
    requested_at=st.sampled_from([AT, AT, 0, None, -1, 253_402_300_799_999, 253_402_300_800_000]),
    expected=st.sampled_from([None, None, 0, 3, -1, 1_000_000, 1_000_001]),
    last=st.sampled_from([None, True, False]),
    candidates=st.lists(_WIRE_CANDIDATES, max_size=3),
)


def protobuf_values() -> SearchStrategy[bytes]:
    """Events in Protobuf: valid, wrong, and damaged."""
    return damaged(_MESSAGES.map(lambda message: bytes(message.SerializeToString())))
