"""Ranked feeds: the record that is published, in JSON or Protobuf, and what its readers need.

A record too large for the topic is cut to the best items that fit, and says `truncated: n`.
"""

from bisect import bisect_right
from dataclasses import replace
from typing import NamedTuple

from workers.codec import json_feeds, protobuf_feeds
from workers.codec.formats import Format, Headers, seen_format, stated_format
from workers.errors import Failure
from workers.ranking.feed import Feed
from workers.ranking.refusal import EventRefused


class FeedUnreadable(Failure):
    """The record is no ranked feed: something else writes to this topic."""


class FeedIdentity(NamedTuple):
    """What a restore must know of a published feed. `requested_at` in ms since the epoch."""

    requested_at: int
    surface: str
    request_id: str


def encode_feed(feed: Feed, form: Format, limit_bytes: int) -> bytes:
    """Encode a feed into at most `limit_bytes`.

    Where it is larger, the longest beginning of its items that fits is kept and `truncated` counts
    the rest. Where not even the feed without items fits, because too many are `removed` or
    `defaulted`, those lists are left out, whole, `unlisted` counts the removed, and the items are
    cut again. (SetOwner names are too long for a record are too long for it as items, too: where
    `defaulted` is left out, `truncated`, `unlisted` or `below_top_k` stands.) Raises ValueError
    where what is left does not fit either: the limit is far too small.
    """
    value = _encode(feed, form)
    if len(value) <= limit_bytes:
        return value
    cut = _cut(feed, form, limit_bytes) or _cut(_without_lists(feed), form, limit_bytes)
    if cut is None:
        raise ValueError(f"limit_bytes: got {limit_bytes}, expected room for a feed without items")
    return cut


def _encode(feed: Feed, form: Format) -> bytes:
    return json_feeds.encode(feed) if form is Format.JSON else protobuf_feeds.encode(feed)


def _cut(feed: Feed, form: Format, limit_bytes: int) -> bytes | None:
    """The longest beginning that fits; None where none does."""
    counts = range(len(feed.items) + 1)
    fitting = bisect_right(counts, limit_bytes, key=lambda n: len(_encode(_first(feed, n), form)))
    return _encode(_first(feed, fitting - 1), form) if fitting else None


def _without_lists(feed: Feed) -> Feed:
    return replace(feed, removed=[], defaulted=[], unlisted=feed.unlisted + len(feed.removed))


def _first(feed: Feed, count: int) -> Feed:
    return replace(
        feed, items=feed.items[:count], truncated=feed.truncated + len(feed.items) - count
    )


def feed_headers(form: Format) -> Headers:
    """The headers of a published feed."""
    return [("content-type", form.content_type)]


def decode_feed(value: bytes | None, headers: Headers | None = None) -> Feed:
    """Decode a published feed. Raises FeedUnreadable."""
    form, payload = _format_of(value, headers)
    try:
        return json_feeds.decode(payload) if form is Format.JSON else protobuf_feeds.decode(payload)
    except (ValueError, RecursionError) as error:
        raise FeedUnreadable(f"feed: {error}") from None


def read_feed_identity(value: bytes | None, headers: Headers | None = None) -> FeedIdentity | None:
    """Read which request a record is the feed of, and no more; None where the record is no feed."""
    try:
        form, payload = _format_of(value, headers)
        read = json_feeds.identity if form is Format.JSON else protobuf_feeds.identity
        return FeedIdentity(*read(payload))
    except (FeedUnreadable, ValueError, RecursionError):
        return None


def _format_of(value: bytes | None, headers: Headers | None) -> tuple[Format, bytes]:
    """The format is stated, or else seen."""
    if value is None:
        raise FeedUnreadable("feed: got null, expected a ranked feed")
    try:
        stated = stated_format(headers)
    except EventRefused as refusal:
        raise FeedUnreadable(f"feed: {refusal.message}") from None
    return stated or seen_format(value), value
