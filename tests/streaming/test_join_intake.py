"""What becomes of each record of interactions, by the table of join_intake.py."""

from typing import Any

import pytest

from tests.streaming.join_building import (
    JOIN_TOPICS,
    RULES_BY_SURFACE,
    SENT_AT,
    SURFACES,
    feed_message,
    feed_record,
    interaction,
    interaction_message,
    join_limits,
    join_partition,
    message,
)
from workers.codec.dead_letters import DeadLetter, read_dead_letter
from workers.codec.feed_records import encode_feed_record, feed_record_headers
from workers.codec.formats import Format, Headers
from workers.codec.interactions import InteractionDecoder
from workers.codec.partitioner import partition_of
from workers.codec.pointer import Span
from workers.counts import JoinCounts
from workers.outcomes.join import JoinMark, OpenFeeds
from workers.outcomes.records import Interaction
from workers.ranking.outcome_rules import SEEN_BIT, TAKE_BIT
from workers.streaming.dead_letters import DeadLetters
from workers.streaming.join_intake import JoinIntake, TooManyOpenFeeds
from workers.streaming.join_partition import JoinPartition
from workers.streaming.placement import Placement
from workers.streaming.records import Fetched
from workers.worker_errors import WorkerErrors


class UnreadableHeaders:
    """A message whose headers cannot be read, because a name is not UTF-8. Anything else is that
    of another message.
    """

    def __init__(self, readable: Fetched) -> None:
        self._readable = readable

    def __getattr__(self, name: str) -> Any:
        return getattr(self._readable, name)

    def headers(self) -> Headers:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


class FailingDecoder(InteractionDecoder):
    """Fails as no decoder should."""

    def __init__(self, error: Exception) -> None:
        super().__init__(SURFACES)
        self._error = error

    def decode(self, *_: object) -> Interaction:
        raise self._error


class Setup:
    """An intake, and a partition whose feed `r` of the items `a` and `b` is open."""

    def __init__(
        self,
        decoder: InteractionDecoder | None = None,
        partition: JoinPartition | None = None,
        max_bytes: int = 10_000_000,
    ) -> None:
        self.open_feeds = OpenFeeds()
        self.partition = partition or join_partition(open_feeds=self.open_feeds)
        self.counts = JoinCounts()
        self.intake = JoinIntake(
            decoder=decoder or InteractionDecoder(SURFACES),
            rules=RULES_BY_SURFACE,
            open_feeds=self.open_feeds,
            max_bytes=max_bytes,
            placement=Placement(4, False, self.counts, lambda: None),
            counts=self.counts,
            dead_letters=DeadLetters(
                JOIN_TOPICS.interactions, JOIN_TOPICS.dead_letters, join_limits()
            ),
            errors=WorkerErrors(self.counts),
        )
        self.take(feed_message(feed_record("r", "a", "b")))

    def take(self, taken: Fetched, timestamp: int = SENT_AT) -> bool:
        return self.intake.take(self.partition, taken, taken.offset(), timestamp)

    def take_next(self, given: Interaction, timestamp: int = SENT_AT) -> None:
        self.take(interaction_message(given, self.partition.next), timestamp)

    def letters(self) -> list[DeadLetter]:
        letters = []
        for output in self.partition.outbox:
            assert (output.topic, output.partition) == (JOIN_TOPICS.dead_letters, 0)
            letter = read_dead_letter(output.key, output.value, output.headers)
            assert letter is not None
            letters.append(letter)
        return letters

    def marks(self) -> bytes:
        """The outcome bits of the items of the first feed, once its window has closed."""
        self.partition.join.close_due(SENT_AT + 1_000_000)
        (closed,) = self.partition.join.take_due(1)
        return closed.marks


def test_a_feed_record_opens_its_request_and_a_further_one_is_only_counted() -> None:
    setup = Setup()
    setup.take(feed_message(feed_record("r", "other"), offset=1))
    assert (setup.counts.feeds, setup.counts.duplicate_feeds) == (1, 1)
    assert setup.partition.join.open_feeds == 1
    setup.take_next(interaction(item_id="b"))
    assert setup.marks() == bytes([0, SEEN_BIT])
    assert setup.letters() == []


@pytest.mark.parametrize("form", list(Format))
def test_a_feed_record_is_read_in_both_formats(form: Format) -> None:
    setup = Setup()
    value = encode_feed_record(feed_record("s"), form)
    setup.take(message(b"s", value, feed_record_headers(form), offset=1))
    assert setup.partition.join.open_feeds == 2


def test_an_interaction_of_a_surface_without_outcomes_is_counted_and_skipped() -> None:
    setup = Setup()
    setup.take_next(interaction(surface="plain", request_id="never-published"))
    assert (setup.counts.skipped, setup.counts.joined) == (1, 0)
    assert setup.letters() == []


def test_an_interaction_of_a_kind_that_its_surface_does_not_name_is_counted_and_ignored() -> None:
    setup = Setup()
    setup.take_next(interaction(kind="share", request_id="never-published"))
    assert (setup.counts.ignored, setup.counts.joined) == (1, 0)
    assert setup.letters() == []


def test_an_interaction_with_an_item_of_an_open_feed_is_joined_and_a_second_one_changes_nothing() -> (
    None
):
    setup = Setup()
    for _ in range(2):
        setup.take_next(interaction(kind="dwell", value=31.0))
    setup.take_next(interaction(kind="dwell", value=3.0))
    assert (setup.counts.records, setup.counts.joined) == (4, 3)
    assert setup.marks() == bytes([SEEN_BIT | TAKE_BIT, 0])
    assert setup.letters() == []


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (interaction(request_id="unknown"), "no-feed"),
        (interaction(item_id="unknown"), "no-item"),
        (interaction(user_id="another"), "conflict"),
        (interaction(at=SENT_AT + 60_001), "future"),
        (interaction(surface="nowhere"), "unknown-surface"),
        (interaction(kind=""), "invalid-event"),
    ],
)
def test_any_other_interaction_is_a_dead_letter_with_its_bytes(
    given: Interaction, reason: str
) -> None:
    setup = Setup()
    taken = interaction_message(given)
    setup.take(taken)
    (letter,) = setup.letters()
    assert letter.reason == reason
    assert (letter.topic, letter.partition, letter.offset) == (JOIN_TOPICS.interactions, 0, 1)
    assert (letter.key, letter.value) == (taken.key(), taken.value())
    assert letter.headers == taken.headers()
    assert setup.counts.joined == 0
    assert setup.partition.next == 2


def test_an_interaction_at_the_end_of_the_window_counts_and_a_millisecond_later_it_does_not() -> (
    None
):
    setup = Setup()
    setup.take_next(interaction(item_id="a"), SENT_AT + 10_000)
    setup.take_next(interaction(item_id="b"), SENT_AT + 10_001)
    (letter,) = setup.letters()
    assert (letter.reason, letter.offset) == ("no-feed", 2)
    assert setup.marks() == bytes([SEEN_BIT, 0])


def test_a_feed_record_that_cannot_be_read_is_a_dead_letter() -> None:
    setup = Setup()
    setup.take(message(b"s", b"{}", feed_record_headers(Format.JSON), offset=1))
    (letter,) = setup.letters()
    assert letter.reason == "invalid-event"
    assert setup.counts.feeds == 1


def test_in_a_replay_everything_is_joined_again_and_no_dead_letter_is_written_again() -> None:
    mark = JoinMark(low_water=0, scan=0, time=SENT_AT - 1, next=3)
    setup = Setup(partition=join_partition(mark))
    setup.take_next(interaction(request_id="unknown"))
    setup.take_next(interaction())
    assert setup.letters() == []
    setup.take_next(interaction(request_id="unknown"))
    assert [letter.offset for letter in setup.letters()] == [3], "this one was not taken before"
    assert setup.marks() == bytes([SEEN_BIT, 0])


@pytest.mark.parametrize("offset", [1, 2])
def test_an_interaction_whose_headers_cannot_be_read_is_read_by_its_bytes(offset: int) -> None:
    setup = Setup()
    for place in range(offset):
        unreadable: Any = UnreadableHeaders(interaction_message(interaction(), place + 1))
        setup.take(unreadable)
    assert (setup.counts.unreadable_headers, setup.counts.joined) == (offset, offset)
    assert setup.letters() == []


def test_the_letter_of_an_interaction_whose_headers_cannot_be_read_says_that_it_has_none() -> None:
    setup = Setup()
    unreadable: Any = UnreadableHeaders(interaction_message(interaction(item_id="unknown")))
    setup.take(unreadable)
    (letter,) = setup.letters()
    assert (letter.reason, letter.headers) == ("no-item", [])
    assert letter.message.startswith("headers: a name is not UTF-8")


def test_a_record_that_the_decoder_fails_on_is_a_dead_letter_and_a_fault_of_ours() -> None:
    setup = Setup(FailingDecoder(SystemError("returned a result with an exception set")))
    setup.take_next(interaction())
    (letter,) = setup.letters()
    assert letter.reason == "worker-error"
    assert "SystemError" in letter.message
    assert setup.counts.worker_errors == 1
    assert setup.partition.next == 2


def test_a_lack_of_memory_is_not_held_against_a_record() -> None:
    setup = Setup(FailingDecoder(MemoryError()))
    with pytest.raises(MemoryError):
        setup.take_next(interaction())
    assert setup.letters() == []


def test_if_the_join_itself_fails_its_partition_is_not_to_be_trusted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setup = Setup()

    def fail(*_: object) -> int:
        raise IndexError("what nobody thought of")

    monkeypatch.setattr(setup.partition.join, "take_interaction", fail)
    with pytest.raises(IndexError):
        setup.take_next(interaction())
    assert setup.letters() == []


def test_an_interaction_in_another_partition_than_murmur2_gives_is_counted_as_misplaced() -> None:
    setup = Setup()
    assert partition_of(b"unknown", 4) != setup.partition.number
    setup.take_next(interaction(request_id="unknown"))
    assert setup.counts.misplaced == 1


def test_past_the_memory_bound_the_join_stops_and_names_the_setting() -> None:
    setup = Setup(max_bytes=2000)
    exceeds = [
        setup.take(feed_message(feed_record(f"r{offset}"), offset)) for offset in range(1, 6)
    ]
    assert exceeds[0] is False
    assert exceeds[-1] is True
    with pytest.raises(
        TooManyOpenFeeds, match=r"max_outcomes_mb: 6 open feeds .*--max-outcomes-mb"
    ):
        setup.intake.keep_limits([setup.partition])


def test_a_partition_that_is_lost_gives_its_memory_back() -> None:
    setup = Setup(max_bytes=2000)
    for offset in range(1, 6):
        setup.take(feed_message(feed_record(f"r{offset}"), offset))
    setup.partition.abandon()
    assert (setup.open_feeds.feeds, setup.open_feeds.bytes_held) == (0, 0)


def test_skipped_records_get_one_dead_letter_together() -> None:
    setup = Setup()
    span = Span(1, 4)
    setup.partition.skip.append(span)
    setup.intake.pass_over(setup.partition, span)
    (letter,) = setup.letters()
    assert (letter.reason, letter.offset) == ("unreadable-record", 1)
    assert setup.partition.next == 4
