"""Entries of the users stage as bytes."""

import pytest

from tests.users.test_counting import count, feed
from workers.users.changelog import ChangelogDamaged, decode_entry, encode_entry, encode_key
from workers.users.counting import Books


def test_every_entry_is_read_back_as_it_was_written() -> None:
    books = Books(0)
    count(books, feed("ü-1"), 0)
    count(books, feed("u-2", experiment=None), 1)
    entries = list(books.entries())
    assert len(entries) == 5
    for key, entry in entries:
        assert decode_entry(encode_key(key), encode_entry(entry)) == (key, entry)
        assert decode_entry(encode_key(key), None) == (key, None)


@pytest.mark.parametrize(
    ("key", "value"),
    [(None, b"[]"), (b"x", b"[]"), (b'["other"]', b"[]"), (b'["user","home"]', None)],
)
def test_anything_else_is_refused(key: bytes | None, value: bytes | None) -> None:
    with pytest.raises(ChangelogDamaged, match="expected what the users stage writes"):
        decode_entry(key, value)
