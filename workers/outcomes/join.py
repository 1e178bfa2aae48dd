"""The join of one partition: feed records and interactions in offset order become closed feeds.

The rules that make the counts exact:
1. The time of a record is the greatest timestamp of its partition up to and including it: the
   stream time.
2. A feed record opens its request until its time plus its window. If there are several feed records
   for an open request, the first counts.
3. An interaction counts if its request is open, its surface and user are the feed's, and its item
   is in the feed. Counting it twice changes nothing.
4. Closed feeds go out in the order of (due, offset), and the mark holds the pair of the last one
   that is out. In a replay nothing with a smaller pair goes out again.
5. The low-water mark is the offset of the oldest feed that is not out yet. A replay starts there
   with the time of then, and so gives every record the time that it had the first time.
6. Whether an interaction counts depends on the time of its record alone, until its feed is out.
   Closing a feed early, because its partition is idle, therefore changes nothing for others.
7. Nothing is evicted: the counts would then depend on the process. Past the memory bound the join
   stops with an error.

State: an open feed is one object that holds bytes (see `_OpenFeed`), because hundreds of thousands
of feeds are open at a time.
"""

import struct
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from workers.outcomes.records import HOUR_MS, ClosedFeed, FeedRecord, Interaction, SumsKey
from workers.outcomes.sums import SumsLedger
from workers.ranking.outcome_rules import SEEN_BIT, OutcomeRules
from workers.ranking.refusal import EventRefused, Reason
from workers.ranking.request import Completion

NO_TIME = -1
"""Time of a partition before its first record."""
FUTURE_MS = 60_000
"""How far `at` may lie ahead of the timestamp of its record."""

_SEPARATOR = b"\xff"
"""Stands between the texts of an open feed: this byte is in no UTF-8 text."""

_FEED_BYTES = 360
"""What an open feed takes beside its own bytes: objects, its place in two tables, and gaps between
allocations. Measured: 220 in a process that reads Kafka, 350 in one that makes the records itself."""

_FIELDS = struct.Struct("<qqqIB")
_COMPLETIONS = tuple(Completion)


class Due(NamedTuple):
    """The place of a closed feed in the order of going out. `due` in ms, `offset` of its record."""

    due: int
    offset: int


NOTHING_OUT = Due(-1, -1)


class JoinMark(NamedTuple):
    """What a commit writes down: enough to restore the partition from its logs.

    `low_water` is the first input offset that a restore replays and `time` the partition's time
    (ms) before it. `next` is the first input offset not yet taken. `out` is the pair of the last
    feed that is out. `scan` is the first offset of the sums that a restore must read.
    """

    low_water: int
    scan: int
    time: int
    next: int
    out: Due = NOTHING_OUT


class _Duplicates(NamedTuple):
    """Further records of a request within its window, which count for nothing.

    A replay must not begin between the first record at `first_offset`, with the partition's time
    `time_before` (ms) it, and the last of them at `last_offset`: that one would seem to be new.
    """

    first_offset: int
    time_before: int
    last_offset: int


class _FeedOut(NamedTuple):
    """In a replay: a feed that is out. `due` in ms, `time_before` as in `_Duplicates`."""

    due: int
    offset: int
    time_before: int


class _Fields(NamedTuple):
    """What is known of an open feed beside its texts and marks. `offset` of its record, `time` (ms)
    when it was published, `time_before` as in `_Duplicates`, the number of its items, and the place
    of its completion in `_COMPLETIONS`.
    """

    offset: int
    time: int
    time_before: int
    items: int
    completion: int


class _FeedGroup(NamedTuple):
    """What feeds of one hour have in common: one object is shared by all of them."""

    key: SumsKey
    window_ms: int
    first_position: int
    objectives: tuple[str, ...]


class _OpenFeed(bytearray):
    """A feed whose window is open: one object that holds bytes, so that it takes little memory.

    The bytes are, one after the other: its `_Fields`; a byte of outcome bits for each item; the sum
    of each objective's scores as float64; then the user id and the item ids as UTF-8, each followed
    by the separator. Finding an item is one search for bytes, and its position is the number of
    separators before it.
    """

    __slots__ = ("group",)

    group: _FeedGroup

    @classmethod
    def opened(
        cls, record: FeedRecord, group: _FeedGroup, *, offset: int, time: int, time_before: int
    ) -> "_OpenFeed":
        """The feed of a record at `offset`. `time` in ms, `time_before` as in `_Duplicates`."""
        fields = _FIELDS.pack(
            offset, time, time_before, len(record.item_ids), _COMPLETIONS.index(record.completion)
        )
        marks = bytes(len(record.item_ids))
        sums = struct.pack(f"<{len(group.objectives)}d", *record.score_sums.values())
        texts = _SEPARATOR.join(text.encode() for text in (record.user_id, *record.item_ids))
        feed = cls(b"".join((fields, marks, sums, texts, _SEPARATOR)))
        feed.group = group
        return feed

    @property
    def fields(self) -> _Fields:
        """What was known when it was opened."""
        return _Fields._make(_FIELDS.unpack_from(self))

    @property
    def place(self) -> Due:
        """Its place in the order of going out."""
        fields = self.fields
        return Due(fields.time + self.group.window_ms, fields.offset)

    @property
    def bytes_held(self) -> int:
        """About how much memory it takes."""
        return _FEED_BYTES + len(self)


class OpenFeeds:
    """How many feeds all partitions of a process hold open, and in how many bytes."""

    def __init__(self) -> None:
        self.feeds = 0
        self.bytes_held = 0


class Join:
    """The open feeds of one partition. Not thread-safe; reads no clock.

    `rules` has the outcome rules of each surface that has some. A feed of another surface is open
    too, and closes without outcomes.
    """

    def __init__(
        self,
        start: JoinMark,
        rules: Mapping[str, OutcomeRules],
        open_feeds: OpenFeeds | None = None,
    ) -> None:
        self._start = start
        self.next = start.low_water
        self.stream_time = start.time
        self.replay_until = start.next
        self._time_before = start.time
        self._closed_until = start.time
        self._rules = rules
        self._out = start.out
        self._held = open_feeds or OpenFeeds()
        self._open: dict[str, _OpenFeed] = {}
        # Request ids of open feeds by window. Times never go back, so each list is in the order of
        # (due, offset).
        self._by_window: dict[int, deque[str]] = {}
        self._overdue: list[str] = []
        self._out_in_replay: dict[str, _FeedOut] = {}
        self._duplicates: dict[int, _Duplicates] = {}
        self._groups: dict[tuple[object, ...], _FeedGroup] = {}

    # Taking records

    def observe(self, offset: int, timestamp: int) -> None:
        """Note that the record at `offset` was read, with its timestamp in ms."""
        self.next = offset + 1
        self._time_before = self.stream_time
        if timestamp > self.stream_time:
            self.stream_time = timestamp
            self.close_due(timestamp)

    def is_replayed(self, offset: int) -> bool:
        """Whether the record at `offset` was taken before a restore: its dead letter is out."""
        return offset < self.replay_until

    def take_feed(self, record: FeedRecord, offset: int) -> bool:
        """Take an observed feed record. Return whether it opens its request.

        It does not if the request is open already, or if this is a replay and its feed is out.
        """
        opened = self._open.get(record.request_id)
        if opened is not None:
            first = opened.fields
            self._note_duplicate(first.offset, first.time_before, offset)
            return False

        due = Due(self.stream_time + 1000 * record.window_s, offset)
        is_behind = due <= self._out
        if self.is_replayed(offset):
            out = self._out_in_replay.get(record.request_id)
            if out is not None and self.stream_time <= out.due:
                self._note_duplicate(out.offset, out.time_before, offset)
                return False
            if is_behind:
                self._out_in_replay[record.request_id] = _FeedOut(
                    due.due, offset, self._time_before
                )
                return False
        else:
            self._out_in_replay.clear()

        feed = _OpenFeed.opened(
            record,
            self._group_of(record),
            offset=offset,
            time=self.stream_time,
            time_before=self._time_before,
        )
        self._open[record.request_id] = feed
        self._held.feeds += 1
        self._held.bytes_held += feed.bytes_held
        if is_behind:
            # An idle partition's time ran ahead of the broker's clock by more than this window. A
            # replay finds a pair that is out, so the feed must go out with the next mark.
            self._overdue.append(record.request_id)
        else:
            window = self._by_window.get(feed.group.window_ms)
            if window is None:
                window = self._by_window[feed.group.window_ms] = deque()
            window.append(record.request_id)
        return True

    def take_interaction(self, interaction: Interaction, timestamp: int) -> int:
        """Take an observed interaction. Return its outcomes as bits, 0 if it is no outcome.

        `timestamp` is that of its record, in ms. Raises EventRefused: future, no-feed, conflict,
        no-item; the first that holds, in this order.
        """
        if interaction.at > timestamp + FUTURE_MS:
            raise EventRefused(
                Reason.AT_FUTURE,
                f"at: got {interaction.at}, expected at most {FUTURE_MS} ms after the record's"
                f" timestamp {timestamp}",
            )
        # This runs for each interaction, so the fields are unpacked here and not by `_Fields`.
        feed = self._open.get(interaction.request_id)
        is_open = False
        if feed is not None:
            _, time, _, items, _ = _FIELDS.unpack_from(feed)
            is_open = self.stream_time <= time + feed.group.window_ms
        if feed is None or not is_open:
            raise EventRefused(
                Reason.NO_FEED,
                f"request_id: got {interaction.request_id!r}, expected a request whose feed was"
                " published and whose outcome window is open",
            )
        group = feed.group
        surface = group.key.surface
        if interaction.surface != surface:
            raise EventRefused(
                Reason.CONFLICT,
                f"surface: got {interaction.surface!r}, expected {surface!r} as the feed has",
            )

        start = _FIELDS.size + items + 8 * len(group.objectives)
        if not feed.startswith(interaction.user_id.encode() + _SEPARATOR, start):
            raise EventRefused(
                Reason.CONFLICT,
                f"user_id: got {interaction.user_id!r}, expected the user of the feed",
            )
        place = feed.find(_SEPARATOR + interaction.item_id.encode() + _SEPARATOR, start)
        if place < 0:
            raise EventRefused(
                Reason.NO_ITEM,
                f"item_id: got {interaction.item_id!r}, expected an item of the feed",
            )

        rules = self._rules.get(surface)
        bits = 0 if rules is None else rules.bits_of(interaction.kind, interaction.value)
        if bits:
            feed[_FIELDS.size + feed.count(_SEPARATOR, start, place)] |= bits
        return bits

    # Closing feeds

    def close_due(self, now: int) -> None:
        """Close every feed whose window ended before `now` (ms): `take_due` hands them over.

        `now` is the time of the partition or, if the partition is idle, a later time.
        """
        if self.next < self.replay_until:
            # A replay is never idle: feeds that it has not come to may have to go out before.
            now = min(now, self.stream_time)
        self._closed_until = max(self._closed_until, now)

    def take_due(self, limit: int) -> list[ClosedFeed]:
        """Hand over at most `limit` closed feeds, in their order.

        What is handed over must go out together with the next mark. Feeds that have to go out at
        once come beyond the limit.
        """
        closed = [self._close(request_id) for request_id in self._overdue]
        self._overdue = []
        while len(closed) < limit:
            first = self._first_due()
            if first is None or first.place.due >= self._closed_until:
                break
            self._out = first.place
            request_id = self._by_window[first.group.window_ms].popleft()
            closed.append(self._close(request_id))
        return closed

    @property
    def has_closed(self) -> bool:
        """Whether `take_due` would hand over a feed."""
        if self._overdue:
            return True
        first = self._first_due()
        return first is not None and first.place.due < self._closed_until

    def next_due(self) -> int | None:
        """When the first window of an open feed ends (ms). None if no feed is open, or if closed
        feeds wait to be handed over.
        """
        first = self._first_due()
        if first is None or first.place.due < self._closed_until:
            return None
        return first.place.due

    def abandon(self) -> None:
        """Give back what is held: the partition is lost, and its next owner replays it."""
        self._held.feeds -= len(self._open)
        self._held.bytes_held -= sum(feed.bytes_held for feed in self._open.values())
        self._open.clear()
        self._by_window.clear()
        self._overdue = []

    def mark(self, ledger: SumsLedger) -> JoinMark:
        """The mark to commit with everything that was handed over and dead-lettered so far.

        Call `take_due` first, and add what it returned to the `ledger`.
        """
        if self._overdue:
            raise RuntimeError("mark: take_due must be called first, because feeds are overdue")

        low_water, time = self._low_water()
        return JoinMark(
            low_water=low_water,
            scan=ledger.scan(time),
            time=time,
            next=max(self.next, self.replay_until),
            out=self._out,
        )

    def _low_water(self) -> tuple[int, int]:
        """Where a replay must begin, and the partition's time (ms) before it."""
        if self.next < self.replay_until:
            # Duplicates that this replay has not come to are not known yet.
            return self._start.low_water, self._start.time

        low_water = self.next
        time = self.stream_time
        for requests in self._by_window.values():
            if requests:
                oldest = self._open[requests[0]].fields
                if oldest.offset < low_water:
                    low_water = oldest.offset
                    time = oldest.time_before

        # The first record of a request stays before its duplicates. Each step back may come among
        # the duplicates of another request.
        is_settled = not self._duplicates
        while not is_settled:
            is_settled = True
            for known in self._duplicates.values():
                if known.first_offset < low_water <= known.last_offset:
                    low_water = known.first_offset
                    time = known.time_before
                    is_settled = False
        for known in list(self._duplicates.values()):
            if known.last_offset < low_water:
                del self._duplicates[known.first_offset]
        return low_water, time

    def _note_duplicate(self, first_offset: int, time_before: int, offset: int) -> None:
        self._duplicates[first_offset] = _Duplicates(first_offset, time_before, offset)

    @property
    def closed_until(self) -> int:
        """Every feed that was published before this time (ms) was handed over."""
        return self._low_water()[1]

    @property
    def open_feeds(self) -> int:
        """How many feeds are open."""
        return len(self._open)

    def _group_of(self, record: FeedRecord) -> _FeedGroup:
        hour = self.stream_time // HOUR_MS
        # By the record's own values: putting them in order costs more than finding them.
        known_by = (
            hour,
            record.surface,
            record.arm,
            record.experiment,
            record.weights,
            record.window_s,
            record.first_position,
            tuple(record.models.items()),
            tuple(record.score_sums),
        )
        group = self._groups.get(known_by)
        if group is None:
            if len(self._groups) >= 4096:
                self._groups.clear()
            key = SumsKey(
                hour=hour,
                surface=record.surface,
                arm=record.arm,
                experiment=record.experiment,
                weights=record.weights,
                models=tuple(sorted(record.models.items())),
            )
            group = _FeedGroup(
                key=key,
                window_ms=1000 * record.window_s,
                first_position=record.first_position,
                objectives=tuple(record.score_sums),
            )
            self._groups[known_by] = group
        return group

    def _first_due(self) -> _OpenFeed | None:
        """The open feed with the smallest (due, offset)."""
        first: _OpenFeed | None = None
        for requests in self._by_window.values():
            if not requests:
                continue
            feed = self._open[requests[0]]
            if first is None or feed.place < first.place:
                first = feed
        return first

    def _close(self, request_id: str) -> ClosedFeed:
        feed = self._open.pop(request_id)
        self._held.feeds -= 1
        self._held.bytes_held -= feed.bytes_held

        fields = feed.fields
        group = feed.group
        scores_start = _FIELDS.size + fields.items
        texts_start = scores_start + 8 * len(group.objectives)
        marks = bytes(feed[_FIELDS.size : scores_start])
        sums = struct.unpack_from(f"<{len(group.objectives)}d", feed, scores_start)
        user_id, *item_ids = (
            text.decode() for text in bytes(feed[texts_start:-1]).split(_SEPARATOR)
        )
        key = group.key
        rules = self._rules.get(key.surface)
        if rules is not None and rules.seen is None:
            marks = _seen_above(marks)
        return ClosedFeed(
            offset=fields.offset,
            time=fields.time,
            due=feed.place.due,
            request_id=request_id,
            user_id=user_id,
            key=key,
            completion=_COMPLETIONS[fields.completion],
            item_ids=tuple(item_ids),
            first_position=group.first_position,
            marks=marks if any(marks) else b"",
            names=() if rules is None else rules.names,
            score_sums=dict(zip(group.objectives, sums, strict=True)),
        )


def _seen_above(marks: bytes) -> bytes:
    """The marks if every item at or above the lowest one with an outcome counts as seen."""
    marked = len(marks.rstrip(b"\0"))
    return bytes(bits | SEEN_BIT for bits in marks[:marked]) + marks[marked:]
