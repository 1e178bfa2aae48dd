"""What a benchmark sends, and the feeds that it reads."""

from collections.abc import Iterable, Sequence

from tests.rig.environment import Environment
from tests.rig.judge import count
from tests.rig.topics import read_to_end
from tests.rig.traffic import JSON, Message
from workers.streaming.records import Fetched, Headers


def send(env: Environment, messages: Iterable[Message], headers: Headers = JSON) -> None:
    """Send all of them, and wait until the broker has them."""
    sender = env.sender()
    for key, value in messages:
        sender.send(key, value, headers)
    sender.finish()


def read_all_feeds(env: Environment, requests: int) -> list[Fetched]:
    """Every feed. Fails if they are not one for each of `requests` requests."""
    feeds = read_to_end(env.kafka, env.feeds)
    check_keys([feed.key() for feed in feeds], requests)
    return feeds


def check_keys(keys: Sequence[bytes | None], requests: int) -> None:
    """If a feed is lost or doubled, what was measured means nothing."""
    doubled = count([], keys).doubled
    assert len(keys) == requests, f"{requests} requests, {len(keys)} feeds"
    assert not doubled, f"doubled: {doubled[:3]}"
