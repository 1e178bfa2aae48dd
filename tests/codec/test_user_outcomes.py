"""What the users stage publishes, as the schema describes it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.contract.golden import GOLDEN, SCHEMAS
from workers.codec.user_outcomes import (
    PROGRESS_KEY,
    decode_user_outcomes,
    encode_user_progress,
    encode_user_sums,
    encode_user_sums_key,
)
from workers.outcomes.user_sums import PartitionUserSums, UserProgress, UserSums, UserSumsKey

EXAMPLES = json.loads((GOLDEN / "interactions.json").read_text(encoding="utf-8"))["user_outcomes"]
SCHEMA = Draft202012Validator(json.loads((SCHEMAS / "user-outcomes.schema.json").read_text()))

NUMBERS = st.integers(0, 2**40)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
KEYS = st.builds(
    UserSumsKey,
    hour=st.integers(0, 10**6),
    surface=TEXTS,
    arm=TEXTS,
    experiment=st.none() | st.from_regex(r"\A[0-9a-f]{12}\Z"),
)
SUMS = st.builds(UserSums, *[NUMBERS] * 8)


@settings(deadline=None)
@given(KEYS, st.integers(0, 1000), SUMS)
def test_sums_are_read_as_they_were_written(
    key: UserSumsKey, partition: int, sums: UserSums
) -> None:
    value = encode_user_sums(key, partition, sums)
    assert decode_user_outcomes(value) == PartitionUserSums(key, partition, sums)
    SCHEMA.validate(json.loads(value))
    assert encode_user_sums_key(key) != PROGRESS_KEY


def test_progress_is_read_as_it_was_written() -> None:
    progress = UserProgress(partition=3, next_offset=1042)
    value = encode_user_progress(progress)
    assert decode_user_outcomes(value) == progress
    SCHEMA.validate(json.loads(value))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["value"]["kind"])
def test_the_golden_examples_are_what_is_written(example: dict[str, object]) -> None:
    text = json.dumps(example["value"], separators=(",", ":"))
    record = decode_user_outcomes(text.encode())
    if isinstance(record, UserProgress):
        key = PROGRESS_KEY
        value = encode_user_progress(record)
    else:
        key = encode_user_sums_key(record.key)
        value = encode_user_sums(record.key, record.partition, record.sums)
    assert (key.decode(), json.loads(value)) == (example["key"], example["value"])
    SCHEMA.validate(example["value"])


@pytest.mark.parametrize("value", [None, b"", b"{}", b'{"kind":"other"}', b'{"kind":"progress"}'])
def test_anything_else_is_refused(value: bytes | None) -> None:
    with pytest.raises(ValueError, match=r"JSON|kind|missing|truncated|Input"):
        decode_user_outcomes(value)
