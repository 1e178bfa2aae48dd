"""Small, valid values for tests of the join stage."""

from collections.abc import Mapping
from typing import Any, cast

from tests.builders import surface
from tests.streaming.standins import StandInCluster
from workers.codec.feed_records import encode_feed_record, feed_record_headers
from workers.codec.formats import Format, Headers
from workers.codec.interactions import encode_interaction
from workers.outcomes.join import NO_TIME, Join, JoinMark, OpenFeeds
from workers.outcomes.records import FeedRecord, Interaction
from workers.outcomes.sums import SumsLedger
from workers.ranking.outcome_rules import OutcomeRule, OutcomeRules
from workers.ranking.request import Completion
from workers.streaming.join_partition import JoinPartition
from workers.streaming.limits import OutputLimits, RecordLimits
from workers.streaming.records import Fetched
from workers.streaming.topics import JoinTopics

JOIN_TOPICS = JoinTopics("interactions", "letters", "request-outcomes", "feed-outcomes")
RULES = OutcomeRules(
    window_s=10,
    seen=OutcomeRule("view"),
    take=OutcomeRule("dwell", at_least=30.0),
    others={"hide": OutcomeRule("hide")},
)
SURFACES = {"home": surface("home", outcomes=RULES), "plain": surface("plain")}
RULES_BY_SURFACE = {"home": RULES}
NEW = JoinMark(low_water=0, scan=0, time=NO_TIME, next=0)
SENT_AT = 1_000_000
"""ms; also the timestamp of records, if a test names no other."""


class Message:
    """One record of interactions as a consumer returns it."""

    def __init__(
        self, key: bytes | None, value: bytes | None, headers: Headers, offset: int, partition: int
    ) -> None:
        self._key = key
        self._value = value
        self._headers = headers
        self._offset = offset
        self._partition = partition

    def topic(self) -> str:
        return JOIN_TOPICS.interactions

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 2, SENT_AT

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> Headers:
        return self._headers

    def error(self) -> None:
        return None


def message(
    key: bytes | None,
    value: bytes | None,
    headers: Headers | None = None,
    *,
    offset: int = 0,
    partition: int = 0,
) -> Fetched:
    return cast(Fetched, Message(key, value, headers or [], offset, partition))


def feed_record(request_id: str = "r", *item_ids: str, **changes: Any) -> FeedRecord:
    values: dict[str, Any] = {
        "surface": "home",
        "user_id": "u",
        "arm": "control",
        "experiment": None,
        "weights": "w",
        "models": {"quality": 1},
        "completion": Completion.FULL,
        "window_s": 10,
        "item_ids": item_ids or ("a", "b"),
        "score_sums": {"quality": 0.5},
    }
    return FeedRecord(request_id, **(values | changes))


def feed_message(record: FeedRecord, offset: int = 0) -> Fetched:
    value = encode_feed_record(record, Format.JSON)
    return message(
        record.request_id.encode(), value, feed_record_headers(Format.JSON), offset=offset
    )


def interaction(**changes: Any) -> Interaction:
    values: dict[str, Any] = {
        "request_id": "r",
        "surface": "home",
        "user_id": "u",
        "item_id": "a",
        "kind": "view",
        "value": None,
        "at": SENT_AT,
    }
    return Interaction(**(values | changes))


def interaction_message(of: Interaction, offset: int = 1, partition: int = 0) -> Fetched:
    headers: Headers = [("content-type", Format.JSON.content_type)]
    return message(
        of.request_id.encode(), encode_interaction(of), headers, offset=offset, partition=partition
    )


def join_partition(
    mark: JoinMark = NEW,
    number: int = 0,
    ledger: SumsLedger | None = None,
    open_feeds: OpenFeeds | None = None,
    rules: Mapping[str, OutcomeRules] = RULES_BY_SURFACE,
) -> JoinPartition:
    return JoinPartition(number, Join(mark, rules, open_feeds), ledger or SumsLedger())


def join_limits(request_outcomes: int = 100_000) -> OutputLimits:
    sizes = {
        JOIN_TOPICS.request_outcomes: request_outcomes,
        JOIN_TOPICS.feed_outcomes: 100_000,
        JOIN_TOPICS.dead_letters: 200_000,
    }
    limits = RecordLimits(sizes, batch_bytes=50_000, message_bytes=250_000)
    return OutputLimits(StandInCluster("127.0.0.1:1"), JOIN_TOPICS, limits)
