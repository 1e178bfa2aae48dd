"""The compiled reader reads what is usual, exactly as the decoders in Python do, and leaves the rest
to them. The compiled writer writes items as Python and the Protobuf library do.

If this machine could not compile them, Python does all of it, and these tests hold for that.
"""

import json
import struct
import sys
from decimal import Decimal
from math import nextafter
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from tests.builders import surface
from tests.codec.wire import (
    AT,
    HOME,
    KEY,
    SURFACES,
    candidate,
    encoded,
    json_values,
    protobuf_values,
    valid_event,
)
from workers.codec.compiled import IS_COMPILED, item_writer, usual_readers
from workers.codec.formats import Format
from workers.codec.generated.candidate_pb2 import Candidate, CandidateEvent
from workers.codec.json_events import JsonEventDecoder
from workers.codec.judge import SourceNames
from workers.codec.protobuf_events import ProtobufEventDecoder
from workers.codec.protobuf_feeds import write_by_library, write_in_python
from workers.ranking.features import FeatureSet
from workers.ranking.feed import FeedItems

READERS = usual_readers(SURFACES, SourceNames())
read_json = READERS[Format.JSON]
read_protobuf = READERS[Format.PROTOBUF]
IN_JSON = JsonEventDecoder(SURFACES, SourceNames())
IN_PROTOBUF = ProtobufEventDecoder(SURFACES, SourceNames())
write_items = item_writer(write_in_python)


def _with_features(*numbers: str) -> bytes:
    """A valid event of one candidate, with these texts as the numbers of its features."""
    return encoded(valid_event()).replace(b"[1.0, 2.0, 3.0]", f"[{','.join(numbers)}]".encode())


def _in_protobuf(**changes: object) -> CandidateEvent:
    message = CandidateEvent(request_id="r-1", surface="home", user_id="u", requested_at=AT)
    message.candidates.add(item_id="x", source="s", features_f32=struct.pack("<3f", 1, 2, 3))
    message.MergeFrom(CandidateEvent(**changes))  # type: ignore[arg-type]
    return message


# What it returns


@settings(max_examples=800, deadline=None)
@given(json_values())
def test_what_it_reads_in_json_the_checked_path_accepts_with_an_equal_event(value: bytes) -> None:
    event = read_json(value, KEY)
    note("read" if event else "left to Python")
    if event is not None:
        assert repr(event) == repr(IN_JSON.decode_checked(value, KEY))


@settings(max_examples=800, deadline=None)
@given(protobuf_values())
def test_what_it_reads_in_protobuf_the_checked_path_accepts_with_an_equal_event(
    value: bytes,
) -> None:
    event = read_protobuf(value, KEY)
    note("read" if event else "left to Python")
    if event is not None:
        assert repr(event) == repr(IN_PROTOBUF.decode_checked(value, KEY))


_DIGITS = st.from_regex(
    r"-?(0|[1-9][0-9]{0,22})(\.[0-9]{1,24})?([eE][+-]?[0-9]{1,2})?", fullmatch=True
)


@settings(max_examples=1500, deadline=None)
@given(st.lists(_DIGITS | st.floats(-3e38, 3e38).map(repr), min_size=3, max_size=3))
def test_numbers_are_rounded_as_python_rounds_them(texts: list[str]) -> None:
    event = read_json(_with_features(*texts), KEY)
    if event is not None:
        assert event.rows == struct.pack("<3f", *map(json.loads, texts))


@settings(max_examples=500, deadline=None)
@given(st.floats(1e-6, 1e6), st.integers(15, 40))
def test_numbers_close_to_the_middle_of_two_floats_are_rounded_as_python_rounds_them(
    number: float, characters: int
) -> None:
    of_float64 = (Decimal(number) + Decimal(nextafter(number, 2e6))) / 2
    short = struct.unpack("<f", struct.pack("<f", number))[0]
    (bits,) = struct.unpack("<I", struct.pack("<f", short))
    (next_short,) = struct.unpack("<f", struct.pack("<I", bits + 1))
    of_float32 = (Decimal(short) + Decimal(next_short)) / 2
    texts = [f"{middle:f}"[:characters].rstrip(".") for middle in (of_float64, of_float32)]

    event = read_json(_with_features(*texts, "0"), KEY)
    if event is not None:
        assert event.rows == struct.pack("<3f", *map(json.loads, texts), 0)


def _needs_an_escape(text: str) -> bool:
    return any(character < " " or character in '"\\' for character in text)


@settings(max_examples=500, deadline=None)
@given(st.text(min_size=1, max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_texts_are_read_unless_json_has_to_escape_them(
    item_id: str, source: str, title: str
) -> None:
    value = encoded(valid_event(candidates=[candidate(item_id, source=source, title=title)]))
    event = read_json(value, KEY)
    assert (event is not None) == (IS_COMPILED and not _needs_an_escape(item_id + source))
    if event is not None:
        assert event == IN_JSON.decode_checked(value, KEY)


_NAMES = st.lists(st.text(max_size=20), min_size=1, max_size=5, unique=True)


@settings(max_examples=300, deadline=None)
@given(_NAMES, st.data())
def test_features_may_have_any_name_and_come_in_any_order(
    names: list[str], data: st.DataObject
) -> None:
    surfaces = {"home": surface(feature_set=FeatureSet("any", tuple(names)))}
    given_names = data.draw(st.permutations(names))[: data.draw(st.integers(1, len(names)))]
    features = {name: names.index(name) + 0.5 for name in given_names}
    value = encoded(valid_event(candidates=[candidate("x", features=features)]))

    event = usual_readers(surfaces, SourceNames())[Format.JSON](value, KEY)
    assert (event is not None) == (IS_COMPILED and not any(map(_needs_an_escape, given_names)))
    if event is not None:
        assert event == JsonEventDecoder(surfaces, SourceNames()).decode_checked(value, KEY)


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\tb"])
def test_a_name_that_lacks_its_escape_is_left_to_python(name: str) -> None:
    surfaces = {"home": surface(feature_set=FeatureSet("odd", (name,)))}
    value = encoded(valid_event()).replace(b"[1.0, 2.0, 3.0]", f'{{"{name}": 1}}'.encode())
    assert usual_readers(surfaces, SourceNames())[Format.JSON](value, KEY) is None


def test_equal_sources_are_one_object_also_after_many_others() -> None:
    readers = usual_readers(SURFACES, SourceNames())
    numbers = [*range(1000), *range(1000)]
    candidates = [candidate(f"i-{i}", source=f"source-{n}") for i, n in enumerate(numbers)]
    event = readers[Format.JSON](encoded(valid_event(candidates=candidates)), KEY)
    if event is not None:
        assert event.sources == [f"source-{n}" for n in numbers]
        assert len({id(source) for source in event.sources}) == 1000


# What it reads


_USUAL = {
    "one candidate": valid_event(),
    "what a request may say": valid_event(expected=3, last=True),
    "nulls": valid_event(expected=None, last=None, candidates=[candidate("x", source=None)]),
    "several candidates": valid_event(candidates=[candidate("x", source="s"), candidate("y")]),
    "none, and the last one": valid_event(last=True, candidates=[]),
    "features by name": valid_event(candidates=[candidate("x", features={"c": 1, "a": 2.5})]),
    "names that nobody knows": valid_event(
        candidates=[candidate("x", features={"a": 1, "d": "e", "f": [{}]}, title='"\u00e9"')],
        note={"deep": [[], {"\\": None}], "number": -1.5e300},
    ),
    "no features, which are looked up": valid_event(
        surface="shelf", candidates=[{"item_id": "x"}, candidate("y", features=None)]
    ),
    "no feature by position, or by name": valid_event(
        surface="shelf", candidates=[candidate("x", features=[]), candidate("y", features={})]
    ),
    "letters of the world": valid_event(user_id="\u00fc" * 128, candidates=[candidate("\u6771")]),
}


@pytest.mark.parametrize("event", _USUAL.values(), ids=_USUAL.keys())
@pytest.mark.parametrize("sort_keys", [False, True])
@pytest.mark.parametrize("indent", [None, 2])
def test_it_reads_usual_events_in_json(
    event: dict[str, object], sort_keys: bool, indent: int | None
) -> None:
    text = json.dumps(event, ensure_ascii=False, sort_keys=sort_keys, indent=indent)
    read = read_json(text.encode(), KEY)
    assert (read is not None) == IS_COMPILED
    if read is not None:
        assert read == IN_JSON.decode_checked(text.encode(), KEY)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"expected": 3, "last": True},
        {"expected": 0, "last": False},
        {"candidates": [Candidate(item_id="y", features=[4, 5, 6])]},
        {"surface": "shelf", "candidates": [Candidate(item_id="\u00e9")]},
    ],
)
def test_it_reads_usual_events_in_protobuf(changes: dict[str, object]) -> None:
    value = _in_protobuf(**changes).SerializeToString()
    read = read_protobuf(value, KEY)
    assert (read is not None) == IS_COMPILED
    if read is not None:
        assert read == IN_PROTOBUF.decode_checked(value, KEY)


def test_fields_that_a_later_schema_may_add_are_skipped() -> None:
    later = b"\x40\x01" + b"\x4a\x02hi" + b"\x51" + bytes(8) + b"\x5d" + bytes(4)
    value = _in_protobuf().SerializeToString()
    assert read_protobuf(value + later, KEY) == read_protobuf(value, KEY)


# What it leaves to Python


@pytest.mark.parametrize(
    "value",
    [
        encoded(valid_event()).replace(b"user_id", b"user\\u005fid"),
        encoded(valid_event()).replace(b'"u"', b'"\\u0075"'),
        encoded(valid_event()).replace(b'"user_id"', b'"user_id": "v", "user_id"'),
        encoded(valid_event(expected=1)).replace(b"1}", b"1.0}"),
        encoded(valid_event(candidates=[candidate("x", features=[1, 2])])),
        encoded(valid_event(candidates=[candidate("x"), candidate("")])),
        _with_features("1", "2", "01"),
        _with_features("1", "2", "1e39"),
        _with_features("1", "2", "NaN"),
        _with_features("1", "2", "[3]"),
        encoded(valid_event(note="NOTE")).replace(b"NOTE", b"\xff"),
        encoded(valid_event(note="NOTE")).replace(b"NOTE", b"\\x"),
        encoded(valid_event(surface="attic")),
        encoded(valid_event(request_id="r-2")),
        encoded(valid_event()) + b"}",
        b"\xef\xbb\xbf" + encoded(valid_event()),
        b"\0" + encoded(valid_event()),
        b"",
    ],
)
def test_it_leaves_to_python_what_is_not_usual(value: bytes) -> None:
    assert read_json(value, KEY) is None


def test_it_leaves_every_event_that_is_cut_to_python() -> None:
    value = encoded(valid_event(expected=2, last=True, candidates=[candidate("x", source="s")]))
    cut = [read_json(value[:size], KEY) for size in range(len(value))]
    assert cut == [None] * len(value)


def test_no_cut_of_a_message_makes_it_read_past_the_end() -> None:
    value = _in_protobuf(expected=2, last=True).SerializeToString()
    for size in range(len(value)):
        event = read_protobuf(value[:size], KEY)
        if event is not None:
            assert event == IN_PROTOBUF.decode_checked(value[:size], KEY)


@pytest.mark.parametrize("field", [b"\x0a", b"\x12", b"\x1a", b"\x20", b"\x28", b"\x30"])
def test_it_leaves_a_message_that_gives_a_field_twice_to_python(field: bytes) -> None:
    value = _in_protobuf(expected=2, last=True).SerializeToString()
    assert read_protobuf(value + field, KEY) is None


@pytest.mark.parametrize("key", [None, b"", b"r-2", b"r-1\0"])
def test_it_leaves_an_event_with_another_key_to_python(key: bytes | None) -> None:
    assert read_json(encoded(valid_event()), key) is None
    assert read_protobuf(_in_protobuf().SerializeToString(), key) is None


def test_a_reader_that_was_compiled_for_other_events_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Later(NamedTuple):
        request_id: str
        surface: str

    monkeypatch.setattr("workers.codec.compiled.Event", Later)
    if not IS_COMPILED:
        assert (
            usual_readers(SURFACES, SourceNames())[Format.JSON](encoded(valid_event()), KEY) is None
        )
        return
    with pytest.raises(ImportError, match="install trimtab again"):
        usual_readers(SURFACES, SourceNames())


def test_it_keeps_no_reference_to_what_it_read() -> None:
    sources = SourceNames()
    readers = usual_readers(SURFACES, sources)
    values = [
        (readers[Format.JSON], encoded(valid_event(candidates=[candidate("x", source="s")]))),
        (readers[Format.JSON], _with_features("1", "2", "[3]")),
        (readers[Format.JSON], encoded(valid_event(note="NOTE")).replace(b"NOTE", b"\xff")),
        (readers[Format.PROTOBUF], _in_protobuf().SerializeToString()),
        (readers[Format.PROTOBUF], _in_protobuf().SerializeToString()[:-3]),
    ]

    def references() -> list[int]:
        kept: list[object] = [HOME, KEY, *sources.values(), *[value for _, value in values]]
        return [sys.getrefcount(each) for each in kept]

    for read, value in values:
        read(value, KEY)
    before = references()
    for _ in range(1000):
        for read, value in values:
            read(value, KEY)
    assert references() == before


# Items of feeds


@st.composite
def plain_items(draw: st.DrawFn) -> FeedItems:
    """Items without source and adjustments: ids of any script, and zeros among the numbers."""
    long_id = st.sampled_from(["i" * 127, "i" * 128, "\u65e5" * 85, "x" * 256])
    ids = draw(st.lists(st.text(min_size=1, max_size=64) | long_id, max_size=40))
    objectives = draw(st.integers(1, 33))
    finals = st.sampled_from([0.0, -0.0]) | st.floats(allow_nan=False, allow_infinity=False)
    scores = st.floats(width=32, allow_nan=False, allow_infinity=False)
    return FeedItems(
        item_ids=ids,
        final_scores=draw(arrays.arrays(np.float64, len(ids), elements=finals)),
        scores=draw(arrays.arrays(np.float64, (len(ids), objectives), elements=scores)),
    )


@settings(max_examples=400, deadline=None)
@given(plain_items())
def test_items_have_the_bytes_that_python_and_the_library_write(items: FeedItems) -> None:
    expected = write_by_library(items)
    assert write_in_python(items) == expected
    assert write_items(items) == expected


@pytest.mark.parametrize("count", [0, 1, 2, 127, 128, 129, 16_383, 16_384, 16_385])
def test_positions_may_be_of_any_length(count: int) -> None:
    ids = tuple(f"item-{number}" for number in range(count))
    items = FeedItems(ids, np.arange(count, dtype=np.float64) - 0.5, np.ones((count, 1)))
    assert write_items(items) == write_in_python(items) == write_by_library(items)


def test_columns_may_be_views_of_others() -> None:
    numbers = np.arange(24, dtype=np.float64).reshape(4, 6)
    items = FeedItems(["a", "b"], numbers[::2, 1], numbers[:2].T[::-3].T)
    assert write_items(items) == write_by_library(items)


def test_an_id_without_utf8_is_an_error_in_both() -> None:
    items = FeedItems(["a", "\ud800"], np.ones(2), np.ones((2, 1)))
    for write in (write_items, write_in_python):
        with pytest.raises(UnicodeEncodeError):
            write(items)


@pytest.mark.parametrize(
    ("finals", "scores"),
    [
        (np.ones(3), np.ones((2, 1))),
        (np.ones(2), np.ones((3, 1))),
        (np.ones(2), np.ones(2)),
        (np.ones((2, 1)), np.ones((2, 1))),
        (np.ones(2, np.float32), np.ones((2, 1))),
        (np.ones(2), np.ones((2, 1), np.float32)),
        (np.ones(2, ">f8"), np.ones((2, 1))),
    ],
)
def test_the_compiled_writer_refuses_columns_of_another_shape_or_type(
    finals: NDArray[np.float64], scores: NDArray[np.float64]
) -> None:
    if IS_COMPILED:
        with pytest.raises(ValueError, match="expected float64 for each of 2 items"):
            write_items(FeedItems(["a", "b"], finals, scores))


def test_the_writer_keeps_no_reference_to_what_it_wrote() -> None:
    items = FeedItems(["a", "\u00e9"], np.ones(2), np.ones((2, 1)))
    odd = FeedItems(["a", "\ud800"], items.final_scores, items.scores)

    def references() -> list[int]:
        kept: list[object] = [*items.item_ids, *odd.item_ids, items.final_scores, items.scores]
        return [sys.getrefcount(each) for each in kept]

    before = references()
    for _ in range(100):
        write_items(items)
        with pytest.raises(UnicodeEncodeError):
            write_items(odd)
    assert references() == before
