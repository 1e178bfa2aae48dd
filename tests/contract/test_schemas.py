"""The schemas describe what the codec takes and gives, and the README names every code."""

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.contract.golden import GOLDEN, INDEX, SCHEMAS, Entry
from workers.codec.dead_letters import MESSAGE_BYTES
from workers.codec.judge import ID_BYTES, LATEST_MS, MAX_EXPECTED, SOURCE_BYTES
from workers.codec.partitioner import murmur2, partition_of
from workers.ranking.experiment import MAX_ARMS, Experiment
from workers.ranking.refusal import CandidateReason, Reason
from workers.ranking.removal import RemovalReason
from workers.ranking.version import MAX_VERSION
from workers.steering.history import MAX_ENTRIES

GENERATED = SCHEMAS.parent / "workers" / "codec" / "generated"
JSON_SCHEMAS = [
    "candidate",
    "feed",
    "dead-letter",
    "weights",
    "experiment",
    "models",
    "weights-history",
    "interaction",
    "feed-record",
    "request-outcomes",
    "feed-outcomes",
    "user-outcomes",
    "lookups",
]


def _schema(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(
        (SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8")
    )
    return schema


def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(_schema(name))


def _properties(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every property of a schema and of what it defines."""
    found = list(schema.get("properties", {}).items())
    for inner in [*schema.get("$defs", {}).values(), *(p for _, p in found)]:
        found += _properties(inner)
    return found


@pytest.mark.parametrize("name", JSON_SCHEMAS)
def test_a_schema_is_a_valid_schema_and_documents_every_property(name: str) -> None:
    schema = _schema(name)
    Draft202012Validator.check_schema(schema)
    assert schema["description"]
    assert [key for key, prop in _properties(schema) if not prop.get("description")] == []


@pytest.mark.parametrize("name", JSON_SCHEMAS)
def test_the_examples_in_a_schema_are_valid(name: str) -> None:
    validator, examples = _validator(name), _schema(name).get("examples", [])
    assert [error.message for example in examples for error in validator.iter_errors(example)] == []


def _json_files(entries: list[Entry]) -> list[Entry]:
    return [
        e
        for e in entries
        if (e["file"] or "").endswith(".json") and not e["file"].endswith("framed.json")
    ]


# The schema is stricter than the worker in what an unknown feature may be.
_BEYOND_THE_SCHEMA = {"accepted/missing-and-unknown-names.json"}


@pytest.mark.parametrize("entry", _json_files(INDEX["accepted"]), ids=lambda e: e["file"])
def test_an_accepted_event_validates(entry: Entry) -> None:
    errors = list(
        _validator("candidate").iter_errors(json.loads((GOLDEN / entry["file"]).read_bytes()))
    )
    assert bool(errors) == (entry["file"] in _BEYOND_THE_SCHEMA)


# What JSON Schema cannot see: which surfaces there are, which look features up, what a feature set
# holds, and that 3.0 is no integer.
_UNSEEN = (
    "unknown-surface",
    "key-mismatch",
    "feature-count-few",
    "feature-count-many",
    "feature-not-finite",
)
_UNSEEN_FILES = (
    *("requested-at-fraction", "request-id-long", "surrogate"),
    *("feature-count-missing", "feature-type-null"),
)


def _seen(entry: Entry) -> bool:
    name = Path(entry["file"]).stem
    return not (
        entry["code"] == "malformed" or name.startswith(_UNSEEN) or name.endswith(_UNSEEN_FILES)
    )


@pytest.mark.parametrize(
    "entry", [e for e in _json_files(INDEX["refused"]) if _seen(e)], ids=lambda e: e["file"]
)
def test_a_refused_event_does_not_validate(entry: Entry) -> None:
    text = (GOLDEN / entry["file"]).read_text(encoding="utf-8")
    event = json.loads(
        text, parse_int=lambda digits: int(digits) if len(digits) < 400 else float(digits)
    )
    assert not _validator("candidate").is_valid(event)


@pytest.mark.parametrize("entry", INDEX["feeds"], ids=lambda e: e["name"])
def test_a_published_feed_validates(entry: Entry) -> None:
    feed = json.loads((GOLDEN / entry["json"]).read_bytes())
    assert [error.message for error in _validator("feed").iter_errors(feed)] == []


@pytest.mark.parametrize("entry", INDEX["dead_letters"], ids=lambda e: e["reason"])
def test_the_headers_of_a_dead_letter_validate(entry: Entry) -> None:
    assert [
        error.message for error in _validator("dead-letter").iter_errors(dict(entry["headers"]))
    ] == []


def test_a_set_of_weights_as_redis_holds_it_validates_and_nonsense_does_not() -> None:
    validator = _validator("weights")
    assert validator.is_valid({"quality": "0.7", "engagement": "-1e-3"})
    assert not any(
        validator.is_valid({"quality": bad})
        for bad in ("nan", "inf", "", "0x1", "0.7 ", None, True)
    )


def test_an_experiment_as_redis_holds_it_validates_and_nonsense_does_not() -> None:
    validator = _validator("experiment")
    assert validator.is_valid(
        Experiment("s", {"a": 1, "b-_9": 1234, "c": 0}).fields() | {"control": "87.65"}
    )
    vectors = json.loads((GOLDEN / "arms.json").read_text(encoding="utf-8"))["experiments"]
    assert all(validator.is_valid(vector["experiment"]) for vector in vectors)
    assert not validator.is_valid({"canary": "5"})
    assert not any(
        validator.is_valid({"salt": "s", "canary": bad})
        for bad in ("101", "5%", "-1", "0.001", "", 5)
    )
    assert not any(
        validator.is_valid({"salt": "s", bad: "5"}) for bad in ("", "a b", "a:b", "é", "x" * 65)
    )
    assert _schema("experiment")["maxProperties"] == MAX_ARMS + len(("salt", "control"))


def test_the_bound_of_versions_is_the_one_in_the_schemas_and_the_readme() -> None:
    assert _schema("manifest")["properties"]["version"]["maximum"] == MAX_VERSION
    assert _schema("feed")["properties"]["models"]["additionalProperties"]["maximum"] == MAX_VERSION
    assert f"from 1 to {MAX_VERSION} " in _schema("models")["additionalProperties"]["description"]
    assert "from 1 to 2^63 - 1" in (SCHEMAS / "README.md").read_text(encoding="utf-8")


def test_pins_as_redis_holds_them_validate_and_nonsense_does_not() -> None:
    validator = _validator("models")
    assert validator.is_valid(
        {"quality": "20261127031249", "engagement": "latest", "clicks": str(MAX_VERSION)}
    )
    odd = ("0", "01", "+1", "-1", "1.0", "", "newest", "20261127031249123456", 3, None)
    assert not any(validator.is_valid({"quality": bad}) for bad in odd)


def test_the_bound_of_the_history_is_the_one_in_the_schema() -> None:
    assert f"keeps the last {MAX_ENTRIES:,};" in _schema("weights-history")["description"]


def test_the_limits_in_the_schemas_are_those_of_the_codec() -> None:
    schema = _schema("candidate")
    properties, defs = schema["properties"], schema["$defs"]
    assert defs["id"]["maxLength"] == ID_BYTES
    assert defs["candidate"]["properties"]["source"]["maxLength"] == SOURCE_BYTES
    assert properties["requested_at"]["maximum"] == LATEST_MS
    assert properties["expected"]["maximum"] == MAX_EXPECTED
    assert (
        f"{MESSAGE_BYTES} bytes"
        in _schema("dead-letter")["properties"]["trimtab.message"]["description"]
    )


def test_the_readme_names_every_code_of_refusal_and_of_removal_and_no_other() -> None:
    rows = re.findall(
        r"^\| `([a-z0-9-]+)` \| .+ \|$", (SCHEMAS / "README.md").read_text(encoding="utf-8"), re.M
    )
    assert rows == [*Reason, *CandidateReason, *RemovalReason]
    removal = _schema("feed")["$defs"]["removal"]["properties"]["reason"]["description"]
    assert [reason for reason in RemovalReason if f"`{reason}`" not in removal] == []
    assert _schema("dead-letter")["properties"]["trimtab.reason"]["enum"] == list(Reason)


def test_the_readme_names_every_schema() -> None:
    readme = (SCHEMAS / "README.md").read_text(encoding="utf-8")
    unnamed = [
        p.name
        for p in SCHEMAS.iterdir()
        if p.suffix in {".json", ".proto", ".yaml"} and p.name not in readme
    ]
    assert unnamed == []


def test_asyncapi_refers_to_files_and_components_that_are_there() -> None:
    text = (SCHEMAS / "asyncapi.yaml").read_text(encoding="utf-8")
    references = re.findall(r'\$ref: "([^"]+)"', text)
    files = [r for r in references if r.startswith("./")]
    inner = [r.rsplit("/", 1)[1] for r in references if r.startswith("#/")]
    assert len(files) + len(inner) == len(references)
    assert [f for f in files if not (SCHEMAS / f).exists()] == []
    assert [name for name in inner if not re.search(rf"^ +{name}:$", text, re.M)] == []


def test_generating_the_protobuf_code_anew_gives_the_bytes_that_are_checked_in(
    tmp_path: Path,
) -> None:
    runpy.run_path(str(SCHEMAS / "generate.py"))["generate"](tmp_path)
    made = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert made == {p.name: p.read_bytes() for p in GENERATED.glob("*_pb2.py*")}
    assert len(made) == 12


def _murmur2(key: bytes) -> int:
    """Kafka's murmur2, written from its definition."""
    factor, mask = 0x5BD1E995, 0xFFFFFFFF
    result, whole = 0x9747B28C ^ len(key), len(key) // 4 * 4
    for place in range(0, whole, 4):
        part = int.from_bytes(key[place : place + 4], "little") * factor & mask
        result = result * factor & mask ^ (part ^ part >> 24) * factor & mask
    if whole < len(key):
        result = (result ^ int.from_bytes(key[whole:], "little")) * factor & mask
    result = (result ^ result >> 13) * factor & mask
    return result ^ result >> 15


@given(st.binary(max_size=300))
def test_the_workers_murmur2_is_that_of_the_definition(key: bytes) -> None:
    assert murmur2(key) == _murmur2(key)


def test_the_partitions_in_the_index_are_those_of_javas_partitioner() -> None:
    # Three of the vectors of Kafka's own tests.
    assert [_murmur2(k) - 2**32 for k in (b"21", b"foobar", b"a-little-bit-long-string")] == [
        -973932308,
        -790332482,
        -985981536,
    ]
    partitions = INDEX["partitions"]
    assert all(
        partition_of(key.encode(), partitions["of"]) == place
        for key, place in partitions["keys"].items()
    )
    assert partitions["keys"] == {
        key: (_murmur2(key.encode()) & 0x7FFFFFFF) % partitions["of"] for key in partitions["keys"]
    }
    readme = (SCHEMAS / "README.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in readme for key in partitions["keys"])
