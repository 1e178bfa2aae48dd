"""What the tests of previews share: a change of weights, and requests that are sent again after it."""

from collections.abc import Iterable
from typing import Any

from tests.rig.environment import Environment
from workers.codec.feeds import decode_feed
from workers.ranking.feed import Feed
from workers.ranking.weights import Weights

AFTER = Weights.of({"quality": 0.1, "engagement": 0.9})
"""The weights after the change, and the words of a command that makes it."""
WORDS = ("quality=0.1", "engagement=0.9")


def read_feeds(env: Environment, count: int) -> dict[str, Feed]:
    """The feeds by request id, of which there are `count`."""
    records = env.records(env.feeds, count, settle=0.5)
    assert len(records) == count
    feeds = [decode_feed(record.value, record.headers) for record in records]
    return {feed.request_id: feed for feed in feeds}


def again(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same events, as those of another request."""
    return [event | {"request_id": again_id(event["request_id"])} for event in events]


def again_id(request_id: str) -> str:
    """The id of the request that is sent again."""
    return f"{request_id}-again"
