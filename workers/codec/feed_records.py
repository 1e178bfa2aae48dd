"""Feed records: what a worker writes to `interactions` about each feed that it publishes.

The header `trimtab.record: feed` tells them from interactions. They are written by workers only, in
the transaction of their feed, so a record that does not read is a fault of ours or of a program that
uses our header.
"""

import math

import msgspec
from google.protobuf.message import DecodeError
from msgspec import Struct

from workers.codec.formats import Format, Headers, stated_format
from workers.codec.generated.feed_record_pb2 import FeedRecord as WireFeedRecord
from workers.codec.judge import check_key, is_id, shown
from workers.outcomes.records import FeedRecord
from workers.ranking.outcome_rules import LONGEST_WINDOW_S
from workers.ranking.refusal import EventRefused, Reason
from workers.ranking.request import Completion
from workers.ranking.version import MAX_VERSION

RECORD_HEADER = "trimtab.record"
_FEED = b"feed"
LAST_POSITION = 1_000_000


class _Json(Struct, gc=False, omit_defaults=True):
    request_id: str
    surface: str
    user_id: str
    arm: str
    weights: str
    models: dict[str, int]
    completion: str
    window_s: int
    item_ids: list[str]
    score_sums: dict[str, float]
    experiment: str | None = None
    first_position: int = 0


_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder(_Json).decode


def feed_record_headers(form: Format) -> Headers:
    """The headers of a feed record in this format."""
    return [(RECORD_HEADER, _FEED), ("content-type", form.content_type)]


def is_feed_record(headers: Headers | None) -> bool:
    """Whether the headers are those of a feed record."""
    for name, value in headers or ():
        if name == RECORD_HEADER:
            return value == _FEED
    return False


def encode_feed_record(record: FeedRecord, form: Format) -> bytes:
    """Encode a feed record."""
    if form is Format.PROTOBUF:
        wire = WireFeedRecord(
            request_id=record.request_id,
            surface=record.surface,
            user_id=record.user_id,
            arm=record.arm,
            experiment=record.experiment or "",
            weights=record.weights,
            models=record.models,
            completion=record.completion,
            window_s=record.window_s,
            item_ids=record.item_ids,
            score_sums=record.score_sums,
            first_position=record.first_position,
        )
        return wire.SerializeToString(deterministic=True)
    return _encode_json(
        _Json(
            request_id=record.request_id,
            surface=record.surface,
            user_id=record.user_id,
            arm=record.arm,
            experiment=record.experiment,
            weights=record.weights,
            models=dict(record.models),
            completion=record.completion,
            window_s=record.window_s,
            item_ids=list(record.item_ids),
            score_sums=dict(record.score_sums),
            first_position=record.first_position,
        )
    )


def decode_feed_record(
    value: bytes | None, key: bytes | None, headers: Headers | None
) -> FeedRecord:
    """Decode a feed record. Raises EventRefused."""
    if value is None:
        raise EventRefused(Reason.NULL_VALUE, "value: got null, expected a feed record")
    is_protobuf = stated_format(headers) is Format.PROTOBUF
    record = _read_protobuf(value) if is_protobuf else _read_json(value)

    for name in ("request_id", "user_id"):
        text = getattr(record, name)
        if not is_id(text):
            raise _invalid(name, text, "1 to 256 bytes of UTF-8")
    if not all(is_id(item_id) for item_id in record.item_ids):
        raise _invalid("item_ids", record.item_ids, "ids of 1 to 256 bytes of UTF-8")
    if len(set(record.item_ids)) != len(record.item_ids):
        raise _invalid("item_ids", record.item_ids, "each item once")
    if not 1 <= record.window_s <= LONGEST_WINDOW_S:
        raise _invalid("window_s", record.window_s, f"1 to {LONGEST_WINDOW_S} seconds")
    if not 0 <= record.first_position <= LAST_POSITION:
        raise _invalid("first_position", record.first_position, f"0 to {LAST_POSITION}")
    if not all(1 <= version <= MAX_VERSION for version in record.models.values()):
        raise _invalid("models", record.models, f"versions from 1 to {MAX_VERSION}")
    if not all(math.isfinite(total) for total in record.score_sums.values()):
        raise _invalid("score_sums", record.score_sums, "finite numbers")
    check_key(key, record.request_id)
    return record


def _read_json(value: bytes) -> FeedRecord:
    try:
        value.decode()  # the typed decoder does not look into strings that it skips
        wire = _decode_json(value)
        completion = Completion(wire.completion)
    except msgspec.ValidationError as error:
        raise EventRefused(Reason.INVALID, f"feed record: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EventRefused(Reason.MALFORMED, f"JSON: {error}") from None
    except ValueError as error:
        raise EventRefused(Reason.INVALID, f"completion: {error}") from None
    return FeedRecord(
        request_id=wire.request_id,
        surface=wire.surface,
        user_id=wire.user_id,
        arm=wire.arm,
        experiment=wire.experiment or None,
        weights=wire.weights,
        models=wire.models,
        completion=completion,
        window_s=wire.window_s,
        item_ids=tuple(wire.item_ids),
        score_sums=wire.score_sums,
        first_position=wire.first_position,
    )


def _read_protobuf(value: bytes) -> FeedRecord:
    try:
        wire = WireFeedRecord.FromString(value)
    except DecodeError as error:
        raise EventRefused(
            Reason.MALFORMED, f"Protobuf: {error}, expected trimtab.v1.FeedRecord"
        ) from None
    try:
        completion = Completion(wire.completion)
    except ValueError as error:
        raise EventRefused(Reason.INVALID, f"completion: {error}") from None
    return FeedRecord(
        request_id=wire.request_id,
        surface=wire.surface,
        user_id=wire.user_id,
        arm=wire.arm,
        experiment=wire.experiment or None,
        weights=wire.weights,
        models=dict(wire.models),
        completion=completion,
        window_s=wire.window_s,
        item_ids=tuple(wire.item_ids),
        score_sums=dict(wire.score_sums),
        first_position=wire.first_position,
    )


def _invalid(name: str, value: object, expected: str) -> EventRefused:
    return EventRefused(Reason.INVALID, f"{name}: got {shown(value)}, expected {expected}")
