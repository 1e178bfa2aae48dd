"""The golden bytes mean what schemas/golden/index.json says: the same contract that other languages
test.
"""

import json
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from tests.contract.golden import (
    GOLDEN,
    INDEX,
    SCHEMAS,
    SURFACES,
    Entry,
    headers_of,
    key_of,
    value_of,
)
from workers.assembly.assembler import NO_TIME, Assembler, Mark
from workers.codec.dead_letters import dead_letter_headers, read_dead_letter
from workers.codec.decoder import Decoder
from workers.codec.feeds import decode_feed, encode_feed, read_feed_identity
from workers.codec.formats import Format
from workers.counts import Counts
from workers.ranking.refusal import CandidateReason, EventRefused, Reason, RefusedCandidate
from workers.ranking.request import Event
from workers.streaming.placement import Placement


def _name(entry: Entry) -> str:
    return str(entry.get("file") or entry.get("name") or entry["code"])


def _decode(entry: Entry) -> Event:
    return Decoder(SURFACES, Format(INDEX["default_format"])).decode(
        value_of(entry), key_of(entry), headers_of(entry)
    )


def _event_document(event: Event) -> Entry:
    """An event as the index writes it."""
    fields: Entry = event._asdict() | {"surface": event.surface.name}
    for column in ("item_ids", "sources", "rows", "refused"):
        del fields[column]
    fields["candidates"] = [
        {
            "item_id": item_id,
            "source": event.sources[place],
            "features": _features_document(event.rows[12 * place : 12 * place + 12], event),
        }
        for place, item_id in enumerate(event.item_ids)
    ]
    return fields


def _features_document(row: bytes, event: Event) -> list[float] | None:
    return None if row == event.surface.absent_row else list(struct.unpack("<3f", row))


@pytest.mark.parametrize("entry", INDEX["accepted"], ids=_name)
def test_an_accepted_example_decodes_to_the_event_that_the_index_names(entry: Entry) -> None:
    event = _decode(entry)
    # As text, so that 0.0 and -0.0 differ.
    assert json.dumps(_event_document(event), sort_keys=True) == json.dumps(
        entry["event"], sort_keys=True
    )
    assert event.refused == ()


@pytest.mark.parametrize("entry", [e for e in INDEX["refused"] if "ranked" not in e], ids=_name)
def test_a_refused_example_is_refused_with_its_code_and_message(entry: Entry) -> None:
    with pytest.raises(EventRefused) as refusal:
        _decode(entry)
    assert refusal.value.reason == entry["code"]
    assert entry["message"] in refusal.value.message


@pytest.mark.parametrize("entry", [e for e in INDEX["refused"] if "ranked" in e], ids=_name)
def test_a_bad_candidate_is_refused_with_its_code_and_its_siblings_are_not(entry: Entry) -> None:
    event = _decode(entry)
    (refused,) = event.refused
    assert (refused.position, refused.reason) == (1, entry["code"])
    assert entry["message"] in refused.message
    assert event.item_ids == entry["ranked"]


def _outcome(assembler: Assembler, offset: int, record: Entry) -> Sequence[RefusedCandidate]:
    value = json.dumps(record["value"]).encode()
    event = Decoder(SURFACES).decode(value, record["value"]["request_id"].encode())
    assembler.observe(offset, record["at"])
    return assembler.take(event, offset, record["at"])


def _admit(sequence: Entry) -> Callable[[str], None] | None:
    if "partition" not in sequence:
        return None
    placement = Placement(
        count=sequence["of"], is_required=True, counts=Counts(), ask_count=lambda: None
    )
    return partial(placement.check, sequence["partition"])


@pytest.mark.parametrize(
    "sequence", INDEX["sequences"], ids=lambda s: f"{s['code']} {s['message'][:20]}"
)
def test_what_only_the_stream_can_judge_is_refused_with_its_code(sequence: Entry) -> None:
    assembler = Assembler(Mark(0, 0, NO_TIME, 0), admit=_admit(sequence))
    *before, last = sequence["records"]
    for offset, record in enumerate(before):
        assert not _outcome(assembler, offset, record)
    if sequence["code"] in set(CandidateReason):
        (refused,) = _outcome(assembler, len(before), last)
        assert (refused.reason, refused.position) == (sequence["code"], 3)
        assert sequence["message"] in refused.message
        return
    with pytest.raises(EventRefused) as refusal:
        _outcome(assembler, len(before), last)
    assert refusal.value.reason == sequence["code"]
    assert sequence["message"] in refusal.value.message


def test_every_code_has_an_example() -> None:
    shown = {entry["code"] for entry in INDEX["refused"] + INDEX["sequences"]}
    # An event with refused candidates is itself refused with this code, once it is taken. No event
    # is known on which the worker fails.
    of_interactions = {Reason.AT_FUTURE, Reason.NO_FEED, Reason.NO_ITEM}
    without_example = {Reason.CANDIDATES, Reason.WORKER_ERROR, Reason.UNREADABLE}
    assert shown | of_interactions | without_example == {*Reason, *CandidateReason}


def test_every_file_is_listed_and_every_listed_file_is_there() -> None:
    listed = {e["file"] for e in INDEX["accepted"] + INDEX["refused"] if e["file"]}
    listed |= {e[form] for e in INDEX["feeds"] for form in ("json", "protobuf")}
    interactions = json.loads((GOLDEN / "interactions.json").read_text(encoding="utf-8"))
    for kind in ("accepted", "refused", "feed_records"):
        listed |= {e["file"] for e in interactions[kind] if e["file"]}
    there = {p.relative_to(GOLDEN).as_posix() for p in GOLDEN.glob("*/*")}
    assert there == listed


def test_a_refused_file_is_named_after_its_code() -> None:
    misnamed = [
        e["file"]
        for e in INDEX["refused"]
        if e["file"] and not e["file"].startswith(f"refused/{e['code']}")
    ]
    assert misnamed == []


@pytest.mark.parametrize("entry", INDEX["feeds"], ids=_name)
@pytest.mark.parametrize("form", Format)
def test_a_golden_feed_is_encoded_to_the_same_bytes(entry: Entry, form: Format) -> None:
    golden = (GOLDEN / entry[form.value]).read_bytes()
    feed = decode_feed(golden, [("content-type", form.content_type)])
    assert encode_feed(feed, form, 1_000_000) == golden


@pytest.mark.parametrize("entry", INDEX["feeds"], ids=_name)
def test_a_golden_feed_says_the_same_in_json_and_in_protobuf(entry: Entry) -> None:
    in_json, in_protobuf = ((GOLDEN / entry[form.value]).read_bytes() for form in Format)
    assert decode_feed(in_json) == decode_feed(in_protobuf)
    assert (
        read_feed_identity(in_json)
        == read_feed_identity(in_protobuf)
        == (1763900000000, "home", "r-1")
    )


@pytest.mark.parametrize("entry", INDEX["feeds"], ids=_name)
def test_a_golden_feed_can_be_recomputed_from_the_record_alone(entry: Entry) -> None:
    record: dict[str, Any] = json.loads((GOLDEN / entry["json"]).read_bytes())
    weights = record["weights"]["values"]
    for item in record["items"]:
        final = 0.0
        for objective, weight in weights.items():
            final += weight * item["scores"][objective]
        for adjustment in item.get("adjustments", {}).values():
            final += adjustment
        assert final == item["final_score"]


@pytest.mark.parametrize("entry", INDEX["dead_letters"], ids=lambda e: e["reason"])
def test_a_dead_letter_carries_the_headers_that_the_index_names(entry: Entry) -> None:
    own = [(name, text.encode()) for name, text in entry["event_headers"].items()]
    where = (entry["topic"], entry["partition"], entry["offset"])
    headers = dead_letter_headers(own, entry["reason"], entry["message"], *where)
    assert [[name, (text or b"").decode()] for name, text in headers] == entry["headers"]
    letter = read_dead_letter(b"k", b"v", headers)
    assert letter == (entry["reason"], entry["message"], *where, b"k", b"v", own, None, None, 0)


def test_no_golden_byte_is_changed_by_a_checkout() -> None:
    assert "* -text" in (SCHEMAS / "golden" / ".gitattributes").read_text().splitlines()
