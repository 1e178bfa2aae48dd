"""Dead letters keep what was refused and say why."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.codec.dead_letters import (
    MESSAGE_BYTES,
    dead_letter_headers,
    fit_dead_letter,
    read_dead_letter,
)
from workers.codec.formats import Headers

OWN: Headers = [("content-type", b"application/json"), ("trace", None), ("trace", b"\xff")]


def _headers(own: Headers | None, message: str = "why", offset: int = 412) -> Headers:
    return dead_letter_headers(own, "late", message, "candidates", 3, offset)


def test_the_events_own_headers_come_first_and_unchanged() -> None:
    assert _headers(OWN) == [
        *OWN,
        ("trimtab.reason", b"late"),
        ("trimtab.message", b"why"),
        ("__connect.errors.topic", b"candidates"),
        ("__connect.errors.partition", b"3"),
        ("__connect.errors.offset", b"412"),
    ]


@pytest.mark.parametrize("own", [None, [], OWN])
def test_a_letter_is_read_back_with_the_bytes_of_its_event(own: Headers | None) -> None:
    letter = read_dead_letter(b"key", None, _headers(own))
    assert letter == ("late", "why", "candidates", 3, 412, b"key", None, own or [], None, None, 0)


def test_of_a_letter_that_was_refused_twice_the_last_refusal_counts() -> None:
    letter = read_dead_letter(b"k", b"v", _headers(_headers(OWN, offset=1), "again", offset=2))
    assert letter is not None
    assert (letter.message, letter.offset, letter.headers) == ("again", 2, OWN)


@given(st.text(max_size=20), st.integers(0, 40_000))
def test_a_message_never_makes_a_letter_too_large(text: str, times: int) -> None:
    message = text * times
    kept = dict(_headers([], message))["trimtab.message"]
    assert kept is not None
    assert len(kept) <= MESSAGE_BYTES
    whole = message.encode("utf-8", "backslashreplace")
    assert kept == whole or (kept.endswith(b"...") and whole.startswith(kept[:-3]))
    kept.decode()


@pytest.mark.parametrize(
    "headers", [None, [], OWN, [("trimtab.message", b"why")], [("trimtab.reason", None)]]
)
def test_a_record_without_a_reason_is_not_a_dead_letter(headers: Headers | None) -> None:
    assert read_dead_letter(b"k", b"v", headers) is None


@pytest.mark.parametrize("offset", [b"", b"-1", b"x", b"1" * 30, "²".encode(), b"\xff", None])
def test_a_letter_that_another_program_wrote_is_read_as_far_as_possible(
    offset: bytes | None,
) -> None:
    letter = read_dead_letter(
        b"k", b"v", [("trimtab.reason", b"late"), ("__connect.errors.offset", offset)]
    )
    assert letter == ("late", "", "", -1, -1, b"k", b"v", [], None, None, 0)


def _wire_size(key: bytes, value: bytes | None, headers: Headers) -> int:
    return (
        len(key)
        + len(value or b"")
        + sum(len(name) + len(text or b"") + 10 for name, text in headers)
    )


@pytest.mark.parametrize("value", [None, b"", b"v" * 1000])
def test_a_letter_that_fits_is_not_touched(value: bytes | None) -> None:
    headers = _headers(OWN)
    assert fit_dead_letter(b"k", value, headers, _wire_size(b"k", value, headers)) == (
        b"k",
        value,
        headers,
    )


@given(st.integers(0, 9000), st.integers(0, 9000), st.integers(0, 9000), st.integers(800, 20_000))
def test_a_letter_that_is_too_large_is_cut_to_its_limit_and_still_says_why_and_where(
    value: int, own: int, message: int, limit: int
) -> None:
    headers = _headers([("trace", b"t" * own)], "é" * message)
    key, kept, fitting = fit_dead_letter(b"key", b"v" * value, headers, limit)
    assert key == b"key"
    assert kept is not None
    assert _wire_size(b"key", kept, fitting) <= limit
    letter = read_dead_letter(b"key", kept, fitting)
    assert letter is not None
    assert (letter.reason, letter.topic, letter.partition, letter.offset) == (
        "late",
        "candidates",
        3,
        412,
    )
    assert letter.value_bytes == (None if (kept, fitting) == (b"v" * value, headers) else value)
    assert letter.headers in ([], [("trace", b"t" * own)])


def test_the_value_is_cut_before_anything_else_is() -> None:
    headers = _headers(OWN)
    _, kept, fitting = fit_dead_letter(
        b"k", b"abcdef" * 100, headers, _wire_size(b"k", None, headers) + 100
    )
    assert fitting == [*headers, ("trimtab.value-bytes", b"600")]
    assert kept
    assert (b"abcdef" * 100).startswith(kept)


def test_no_value_stays_no_value() -> None:
    _, kept, fitting = fit_dead_letter(b"k", None, _headers([("trace", b"t" * 5000)]), 1000)
    assert kept is None
    assert ("trimtab.value-bytes", b"0") in fitting


@pytest.mark.parametrize(
    "own", [[], [("trace", b"t" * 900_000)], [("a", None), ("b", b"t" * 9000)]]
)
def test_a_letter_that_is_too_large_without_its_value_loses_its_headers_and_its_key_and_says_so(
    own: Headers,
) -> None:
    key = b"k" * 900_000
    fitted = fit_dead_letter(key, b"v" * 5000, _headers(own, "é" * 20_000), 3072)
    assert _wire_size(fitted.key or b"", fitted.value, fitted.headers) <= 3072
    letter = read_dead_letter(*fitted)
    assert letter is not None
    assert (letter.reason, letter.topic, letter.partition, letter.offset) == (
        "late",
        "candidates",
        3,
        412,
    )
    assert (letter.key, letter.key_bytes) == (None, 900_000)
    assert (letter.headers, letter.headers_left_out) == ([], len(own))
    assert letter.value_bytes == 5000
    assert letter.value
