"""Rules that change between two lives of a worker, and offsets that are lost: no event vanishes,
none is doubled.

Like test_exactly_once.py, with the two things that a restore must find out from the output topics:
what was refused before, and what is published. An event is refused here if the rules of the day do
not know its request's name.
"""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import event
from tests.laws.test_exactly_once import HOME, record_logs
from workers.assembly.assembler import NO_TIME, Assembler, Mark
from workers.assembly.replay import PastLetter, Replay
from workers.ranking.refusal import EventRefused, Reason
from workers.ranking.request import Event

RULES = ("abcd", "abc", "cd", "")


@dataclass
class Logs:
    """The topics, and what is committed: a mark, and the rules that it names (None: several, or
    unknown ones).

    `ranked` are the offsets of the events that feeds were made of.
    """

    records: list[tuple[Event, int]]
    feeds: list[tuple[str, int, tuple[str, ...]]] = field(default_factory=list)
    letters: list[tuple[int, Reason]] = field(default_factory=list)
    ranked: list[int] = field(default_factory=list)
    mark: Mark | None = None
    rules: str | None = None


class Run:
    """One life of a worker under some rules, from a restore to a crash."""

    def __init__(self, logs: Logs, rules: str) -> None:
        self.logs = logs
        self.rules = rules
        start = logs.mark or Mark(0, 0, NO_TIME, len(logs.records))
        published = logs.feeds[start.scan :]
        letters: dict[int, list[PastLetter]] | None = None
        if rules != logs.rules and start.low_water < start.next:
            letters = {}
            for offset, reason in logs.letters:
                is_partial = reason is Reason.CANDIDATES
                letter = PastLetter(
                    is_partial, "", has_key=True, key=self._key(offset), value_bytes=-1
                )
                letters.setdefault(offset, []).append(letter)
        self.replay = Replay(start.next, letters, [request_id for request_id, _, _ in published])
        self.assembler = Assembler(start)
        for place, (request_id, requested_at, _) in enumerate(published, start.scan):
            self.assembler.remember(request_id, requested_at + HOME.horizon_ms, place)
        self.assembler.ledger_end = len(logs.feeds)
        self.letters: list[tuple[int, Reason]] = []
        self.taken: dict[str, list[int]] = {}

    def take(self) -> bool:
        offset = self.assembler.next
        if offset >= len(self.logs.records):
            return False
        taken, at = self.logs.records[offset]
        self.assembler.observe(offset, at)
        if self.replay.is_settled(offset, self._key(offset), None):
            return True
        if taken.request_id not in self.rules:
            self._letter(offset, Reason.SURFACE)
            return True
        try:
            refused = self.assembler.take(taken, offset, at)
        except EventRefused as refusal:
            self._letter(offset, refusal.reason)
            return True
        self.taken.setdefault(taken.request_id, []).append(offset)
        if refused:
            self._letter(offset, Reason.CANDIDATES)
        return True

    def _key(self, offset: int) -> bytes:
        return self.logs.records[offset][0].request_id.encode()

    def _letter(self, offset: int, reason: Reason) -> None:
        is_partial = reason is Reason.CANDIDATES
        if not self.replay.is_out(
            offset, self._key(offset), None, is_partial=is_partial, message=""
        ):
            self.letters.append((offset, reason))

    def commit(self) -> None:
        closed = self.assembler.take_closed()
        self.assembler.publish(closed)
        self.logs.mark = self.assembler.mark()
        self.logs.rules = (
            None if self.replay.is_mixed_from(self.logs.mark.low_water) else self.rules
        )
        self.logs.feeds += [
            (request.request_id, request.requested_at, request.item_ids) for request in closed
        ]
        self.logs.letters += self.letters
        self.letters = []
        for request in closed:
            self.logs.ranked += self.taken.pop(request.request_id)
        self.assembler.ledger_end = len(self.logs.feeds)

    def finish(self) -> None:
        """Take what is left, close what is open, and commit."""
        while self.take():
            pass
        self.assembler.close_all()
        self.commit()


def lost_events(logs: Logs) -> list[int]:
    """The offsets of events that are in no feed and are no dead letter."""
    refused = {offset for offset, reason in logs.letters if reason is not Reason.CANDIDATES}
    published = {request_id for request_id, _, _ in logs.feeds}
    return [
        offset
        for offset, (taken, _) in enumerate(logs.records)
        if offset not in refused and taken.request_id not in published
    ]


@settings(max_examples=600, deadline=None)
@given(
    records=record_logs(),
    acts=st.lists(
        st.one_of(
            st.sampled_from(
                ["take", "take", "take many", "commit", "commit", "crash", "lose offsets"]
            ),
            st.sampled_from(RULES).map(lambda rules: f"rules {rules}"),
        ),
        min_size=30,
        max_size=60,
    ),
)
def test_rules_that_change_and_offsets_that_are_lost_lose_no_event_and_double_nothing(
    records: list[tuple[Event, int]], acts: list[str]
) -> None:
    logs = Logs(records)
    run = Run(logs, RULES[0])
    for act in acts:
        if act == "take":
            run.take()
        elif act == "take many":
            for _ in range(10):
                run.take()
        elif act == "commit":
            run.commit()
        elif act == "crash":
            run = Run(logs, run.rules)
        elif act == "lose offsets":
            logs.mark = logs.rules = None
            run = Run(logs, run.rules)
        else:
            run = Run(logs, act.removeprefix("rules "))
    run.finish()

    names = [request_id for request_id, _, _ in logs.feeds]
    assert len(names) == len(set(names)), "a request has two feeds"
    whole = [offset for offset, reason in logs.letters if reason is not Reason.CANDIDATES]
    assert len(whole) == len(set(whole)), "an event is refused twice"
    assert not set(whole) & set(logs.ranked), "an event is refused, and ranked as well"
    assert lost_events(logs) == []


def test_an_event_that_was_accepted_and_is_refused_in_its_replay_is_not_lost_silently() -> None:
    logs = Logs(
        [
            (event("a", "p", surface=HOME, expected=2), 1000),
            (event("c", "q", surface=HOME, expected=2), 1001),
        ]
    )
    run = Run(logs, "abcd")
    run.take()
    run.take()
    run.commit()
    run = Run(logs, "cd")
    run.take()
    run.take()
    run.commit()
    assert logs.letters == [(0, Reason.SURFACE)]


def test_an_event_that_was_refused_is_not_ranked_in_a_later_replay_whose_rules_would_accept_it() -> (
    None
):
    requests = [
        event("c", "p", surface=HOME, expected=2),
        event("d", "q", surface=HOME, expected=1),
    ]
    logs = Logs([(request, 1000 + offset) for offset, request in enumerate(requests)])
    # The request of the first event stays open all the time, so every replay begins there.
    for rules in ("abc", "abcd", "abcd"):
        run = Run(logs, rules)
        run.take()
        run.take()
        run.commit()
    assert logs.letters == [(1, Reason.SURFACE)]
    assert logs.feeds == []


@settings(max_examples=400, deadline=None)
@given(
    records=record_logs(),
    acts=st.lists(
        st.sampled_from(["take", "take", "take", "take", "commit", "crash", "lose offsets"]),
        min_size=60,
        max_size=120,
    ),
)
def test_offsets_that_are_lost_change_no_feed_and_add_no_dead_letter(
    records: list[tuple[Event, int]], acts: list[str]
) -> None:
    logs = Logs(records)
    run = Run(logs, RULES[0])
    for act in acts:
        if act == "take":
            run.take()
        elif act == "commit":
            run.commit()
        else:
            if act == "lose offsets":
                logs.mark = logs.rules = None
            run = Run(logs, run.rules)
    run.finish()

    reference = Logs(records)
    undisturbed = Run(reference, RULES[0])
    undisturbed.finish()
    assert sorted(logs.feeds) == sorted(reference.feeds)
    assert len(logs.letters) == len(set(logs.letters))
    assert set(logs.letters) <= set(reference.letters)
    # Of what was not read yet when the offsets were lost, an event of a published request is only
    # counted.
    assert {reason for _, reason in set(reference.letters) - set(logs.letters)} <= {Reason.LATE}
