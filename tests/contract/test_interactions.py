"""The golden records of `interactions` mean what schemas/golden/interactions.json says."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.contract.golden import GOLDEN, SCHEMAS, SURFACES, Entry, headers_of, key_of, value_of
from workers.codec.feed_records import (
    decode_feed_record,
    encode_feed_record,
    feed_record_headers,
    is_feed_record,
)
from workers.codec.formats import Format, stated_format
from workers.codec.interactions import InteractionDecoder
from workers.codec.outcomes import (
    encode_feed_outcomes,
    encode_request_outcomes,
    encode_sums_key,
)
from workers.outcomes.join import NO_TIME, Join, JoinMark
from workers.outcomes.records import Interaction
from workers.outcomes.sums import SumsLedger
from workers.ranking.outcome_rules import OutcomeRule, OutcomeRules
from workers.ranking.refusal import EventRefused, Reason

INDEX: dict[str, Any] = json.loads((GOLDEN / "interactions.json").read_text(encoding="utf-8"))
DECODER = InteractionDecoder(SURFACES)


def _name(entry: Entry) -> str:
    return str(entry.get("file") or entry["code"])


def _schema(name: str) -> Draft202012Validator:
    return Draft202012Validator(
        json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))
    )


@pytest.mark.parametrize("entry", INDEX["accepted"], ids=_name)
def test_an_accepted_interaction_decodes_to_what_is_written(entry: Entry) -> None:
    interaction = DECODER.decode(value_of(entry), key_of(entry), headers_of(entry))
    assert interaction._asdict() == entry["interaction"]


@pytest.mark.parametrize(
    "entry", [e for e in INDEX["accepted"] if e["file"].endswith(".json")], ids=_name
)
def test_an_accepted_interaction_validates(entry: Entry) -> None:
    value = value_of(entry) or b""
    framed = value[:1] == b"\0"
    interaction = json.loads(value[5:] if framed else value)
    assert [error.message for error in _schema("interaction").iter_errors(interaction)] == []


@pytest.mark.parametrize("entry", INDEX["refused"], ids=_name)
def test_a_refused_interaction_is_refused_with_its_code_and_message(entry: Entry) -> None:
    with pytest.raises(EventRefused) as refusal:
        DECODER.decode(value_of(entry), key_of(entry), headers_of(entry))
    assert refusal.value.reason == entry["code"]
    assert entry["message"] in refusal.value.message


@pytest.mark.parametrize("entry", INDEX["feed_records"], ids=_name)
def test_a_feed_record_reads_and_writes_the_same_bytes(entry: Entry) -> None:
    headers = headers_of(entry)
    assert is_feed_record(headers)
    record = decode_feed_record(value_of(entry), key_of(entry), headers)
    assert record._asdict() | {"item_ids": list(record.item_ids)} == entry["record"]

    form = stated_format(headers) or Format.JSON
    assert dict(feed_record_headers(form)) == dict(headers)
    assert encode_feed_record(record, form) == value_of(entry)
    if form is Format.JSON:
        _schema("feed-record").validate(json.loads(value_of(entry) or b""))


def _rules(surface: str) -> OutcomeRules:
    written = INDEX["outcomes"][surface]
    return OutcomeRules(
        window_s=written["window_s"],
        seen=OutcomeRule(**written["seen"]),
        take=OutcomeRule(**written["take"]),
        others={name: OutcomeRule(**rule) for name, rule in written["others"].items()},
    )


@pytest.mark.parametrize(
    "sequence", INDEX["sequences"], ids=lambda s: f"{s['code']} {s['message'][:20]}"
)
def test_what_only_the_join_can_judge_is_refused_with_its_code(sequence: Entry) -> None:
    join = Join(JoinMark(0, 0, NO_TIME, 0), {"home": _rules("home")})
    *before, last = sequence["records"]
    for offset, record in enumerate(before):
        join.observe(offset, record["at"])
        if "feed" in record:
            _take_feed(join, record["feed"], offset)
        else:
            join.take_interaction(_interaction(record), record["at"])

    join.observe(len(before), last["at"])
    with pytest.raises(EventRefused) as refusal:
        join.take_interaction(_interaction(last), last["at"])
    assert refusal.value.reason == sequence["code"]
    assert sequence["message"] in refusal.value.message


def _interaction(record: Entry) -> Interaction:
    value = json.dumps(record["value"]).encode()
    return DECODER.decode(value, record["value"]["request_id"].encode())


def test_every_code_of_an_interaction_has_an_example() -> None:
    shown = {entry["code"] for entry in INDEX["refused"] + INDEX["sequences"]}
    assert shown == {
        *(Reason.NULL_VALUE, Reason.CONTENT_TYPE, Reason.MALFORMED, Reason.INVALID),
        *(Reason.SURFACE, Reason.KEY, Reason.AT_FUTURE, Reason.NO_FEED),
        *(Reason.CONFLICT, Reason.NO_ITEM),
    }


def test_a_partition_is_joined_to_the_records_that_are_written() -> None:
    example = INDEX["joined"]
    rules = _rules("home")
    join = Join(JoinMark(0, 0, NO_TIME, 0), {"home": rules})
    for offset, record in enumerate(example["records"]):
        join.observe(offset, record["at"])
        if "feed" in record:
            _take_feed(join, record["feed"], offset)
        elif rules.names_kind(record["value"]["kind"]):
            join.take_interaction(_interaction(record), record["at"])
    join.close_due(example["records"][-1]["at"] + 10_000)

    closed = join.take_due(10)
    outcomes = [json.loads(encode_request_outcomes(feed, Format.JSON)) for feed in closed]
    assert outcomes == example["request_outcomes"]

    sums = []
    for key, of_key in SumsLedger().add(closed).items():
        value = encode_feed_outcomes(key, 2, example["closed_until"], of_key, Format.JSON)
        sums.append({"key": encode_sums_key(key).decode(), "value": json.loads(value)})
    assert sums == example["feed_outcomes"]

    for record in outcomes:
        _schema("request-outcomes").validate(record)
    for record in sums:
        _schema("feed-outcomes").validate(record["value"])


def _take_feed(join: Join, feed: Entry, offset: int) -> None:
    value = json.dumps(feed).encode()
    headers = feed_record_headers(Format.JSON)
    assert join.take_feed(decode_feed_record(value, feed["request_id"].encode(), headers), offset)
