"""Files of look-ups: what they hold, and the errors of lines that are wrong."""

import json
import struct
from pathlib import Path

import pytest

from tests.builders import surface
from tests.codec.wire import TRIO
from workers.codec.lookup_files import LookupFileBroken, read_lookups
from workers.ranking.features import FeatureSet
from workers.ranking.lookup import LookupQuery, LookupResult, SetKey
from workers.ranking.surface import DropSet, SetOwner

OTHER = FeatureSet("other", ("a",))
SURFACES = {
    "home": surface(drop=(DropSet("seen", SetOwner.USER), DropSet("blocked", SetOwner.SURFACE))),
    "shelf": surface("shelf", feature_set=TRIO, lookup_features=True),
    "plain": surface("plain", feature_set=OTHER),
}
SCHEMA = Path(__file__).parents[2] / "schemas" / "lookups.schema.json"


def lines(*texts: str) -> list[bytes]:
    return [f"{text}\n".encode() for text in texts]


def test_keys_in_the_file_are_found_and_all_others_are_empty() -> None:
    file = read_lookups(
        lines(
            '{"key": "seen:a:b", "members": ["x", "y"], "more": 1}',
            "",
            '{"key": "blocked:home", "members": []}',
            '{"key": "features:trio:x:y", "features": [0.1, 2, -3.5]}',
        ),
        SURFACES,
    )
    query = LookupQuery(
        {SetKey("seen", "a:b"): ["x"], SetKey("seen", "c"): ["x"]}, {"trio": ["x:y", "z"]}
    )
    assert file(query) == LookupResult(
        {SetKey("seen", "a:b"): frozenset("xy"), SetKey("seen", "c"): frozenset()},
        {"trio": {"x:y": struct.pack("<3f", 0.1, 2, -3.5)}},
    )


def test_in_an_empty_file_every_set_is_empty_and_no_item_has_features() -> None:
    assert read_lookups([], SURFACES)(
        LookupQuery({SetKey("seen", "u"): ["x"]}, {"trio": ["x"]})
    ) == LookupResult({SetKey("seen", "u"): frozenset()}, {"trio": {}})


def test_the_examples_of_the_schema_are_read() -> None:
    told = (
        SCHEMA.read_text()
        .replace("features:posts:", "features:trio:")
        .replace("[1.5, 8.0]", "[1.5, 8.0, 0]")
    )
    examples = [json.dumps(example) for example in json.loads(told)["examples"]]
    assert len(read_lookups(lines(*examples), SURFACES).sets) == 2


WRONG = {
    "no JSON": ("{", "JSON: "),
    "no object": ("[]", "got [], expected an object"),
    "no key": ('{"members": []}', "key: got None, expected a string"),
    "a set that no surface asks": (
        '{"key": "sen:u", "members": []}',
        "key: got 'sen:u', expected one that a surface looks up: blocked:..., seen:..., features:trio:...",
    ),
    "a key that steers": (
        '{"key": "weights:home", "members": []}',
        "key: got 'weights:home', expected one that",
    ),
    "no members": ('{"key": "seen:u"}', "members: got None, expected a list of item ids"),
    "a member that is a number": (
        '{"key": "seen:u", "members": ["a", 5]}',
        "members[1]: got 5, expected 1 to 256 bytes of UTF-8",
    ),
    "features where nothing is looked up": (
        '{"key": "features:other:x", "features": [1]}',
        "key: got 'features:other:x', expected features:trio:{item_id}",
    ),
    "features of no item": (
        '{"key": "features:trio:", "features": [1, 2, 3]}',
        "key: got 'features:trio:', expected features:trio:{item_id}",
    ),
    "no features": ('{"key": "features:trio:x"}', "features: got None, expected a list of numbers"),
    "too few features": (
        '{"key": "features:trio:x", "features": [1]}',
        "features: got 1 numbers, expected 3",
    ),
    "a feature that is text": (
        '{"key": "features:trio:x", "features": [1, 2, "3"]}',
        "features[2]: got '3', expected a number",
    ),
    "a feature beyond float32": (
        '{"key": "features:trio:x", "features": [1, 2, 1e39]}',
        "features[2] (c): got 1e+39, expected a finite float32",
    ),
}


@pytest.mark.parametrize(("line", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_line_that_is_wrong_is_named_with_its_field(line: str, said: str) -> None:
    with pytest.raises(LookupFileBroken) as broken:
        read_lookups(lines("", '{"key": "seen:v", "members": []}', line), SURFACES)
    assert str(broken.value).startswith(f"line 3: {said}")


@pytest.mark.parametrize(
    "line",
    ['{"key": "seen:u", "members": ["a"]}', '{"key": "features:trio:x", "features": [1, 2, 3]}'],
)
def test_a_key_may_occur_only_once(line: str) -> None:
    with pytest.raises(LookupFileBroken, match=r"line 2: key: got '.*' for the second time"):
        read_lookups(lines(line, line), SURFACES)
