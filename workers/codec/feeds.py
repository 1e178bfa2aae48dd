"""Ranked feeds: the record that is published, in JSON or Protobuf, and what its readers need.

A record that is too large for the topic is cut to the best items that fit, and says `truncated: n`.
"""

from bisect import bisect_right
from typing import NamedTuple

from workers.codec import json_feeds, protobuf_feeds
from workers.codec.formats import Format, Headers, seen_format, stated_format
from workers.errors import Failure
from workers.ranking.feed import Feed
from workers.ranking.refusal import EventRefused


class FeedUnreadable(Failure):
    """The record is not a ranked feed: something else writes to this topic."""


class FeedIdentity(NamedTuple):
    """What a restore must know of a published feed. `requested_at` is in ms since the epoch."""

    requested_at: int
    surface: str
    request_id: str


class EncodedFeed(NamedTuple):
    """A feed as it is published, and its bytes."""

    feed: Feed
    value: bytes


def encode_feed(feed: Feed, form: Format, limit_bytes: int) -> bytes:
    """Encode a feed into at most `limit_bytes`, as `fit_feed` does. Raises ValueError."""
    return fit_feed(feed, form, limit_bytes).value


def fit_feed(feed: Feed, form: Format, limit_bytes: int) -> EncodedFeed:
    """Encode a feed into at most `limit_bytes`. The first of these that fits:

    1. The whole feed.
    2. The feed with fewer items: the longest beginning that fits. `truncated` counts the others.
    3. The same without the lists `removed` and `defaulted`. `unlisted` counts the removed.

    An id that is too long for a record is too long for it as an item, too. So if `defaulted` is
    left out, at least one of `truncated`, `unlisted` and `below_top_k` is not 0.

    Raises ValueError if nothing fits: the limit is far too small.
    """
    value = _encode(feed, form)
    if len(value) <= limit_bytes:
        return EncodedFeed(feed, value)

    without_lists = feed._replace(
        removed=[], defaulted=[], unlisted=feed.unlisted + len(feed.removed)
    )
    cut = _cut_items(feed, form, limit_bytes) or _cut_items(without_lists, form, limit_bytes)
    if cut is None:
        raise ValueError(f"limit_bytes: got {limit_bytes}, expected room for a feed without items")
    return cut


def _encode(feed: Feed, form: Format) -> bytes:
    return json_feeds.encode(feed) if form is Format.JSON else protobuf_feeds.encode(feed)


def _cut_items(feed: Feed, form: Format, limit_bytes: int) -> EncodedFeed | None:
    """The feed with as many items as fit. None if it does not even fit without items."""

    def first(count: int) -> Feed:
        truncated = feed.truncated + len(feed.items) - count
        return feed._replace(items=feed.items[:count], truncated=truncated)

    counts = range(len(feed.items) + 1)
    fitting = bisect_right(counts, limit_bytes, key=lambda count: len(_encode(first(count), form)))
    if not fitting:
        return None
    cut = first(fitting - 1)
    return EncodedFeed(cut, _encode(cut, form))


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
    """Read which request a record is the feed of, and no more. None if it is not a feed."""
    try:
        form, payload = _format_of(value, headers)
        codec = json_feeds if form is Format.JSON else protobuf_feeds
        return FeedIdentity(*codec.identity(payload))
    except (FeedUnreadable, ValueError, RecursionError):
        return None


def _format_of(value: bytes | None, headers: Headers | None) -> tuple[Format, bytes]:
    """The format that the headers state, or else the one that the bytes show. Also the value."""
    if value is None:
        raise FeedUnreadable("feed: got null, expected a ranked feed")
    try:
        stated = stated_format(headers)
    except EventRefused as refusal:
        raise FeedUnreadable(f"feed: {refusal.message}") from None
    return stated or seen_format(value), value
