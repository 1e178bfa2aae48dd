"""Crash anywhere, commit anywhere: the same feeds and the same dead letters, each once.

The two logs are lists here; everything else is the assembler that the worker runs.
"""

import math
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import event, surface
from workers.assembly.assembler import NO_TIME, Assembler, Mark
from workers.assembly.replay import Replay
from workers.ranking.refusal import EventRefused, Reason
from workers.ranking.request import Completion, Event

HOME = surface(deadline_ms=60, horizon_ms=50, max_candidates=3)

Feed = tuple[str, tuple[str, ...], Completion, int]
Letter = tuple[int, Reason]


@dataclass
class Logs:
    """The input topic, the output topic, the dead letters and the committed mark."""

    records: list[tuple[Event, int]]
    ledger: list[Feed] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    mark: Mark | None = None


class Run:
    """One life of a worker, from a restore to a crash."""

    def __init__(self, logs: Logs) -> None:
        self.logs = logs
        start = logs.mark or Mark(0, 0, NO_TIME, 0)
        self.assembler = Assembler(start)
        self.replay = Replay(start.next)
        for place, (request_id, _, _, requested_at) in enumerate(
            logs.ledger[start.scan :], start.scan
        ):
            self.assembler.remember(request_id, requested_at + HOME.horizon_ms, place)
        self.assembler.ledger_end = len(logs.ledger)
        self.letters: list[Letter] = []

    def take(self) -> bool:
        offset = self.assembler.next
        if offset >= len(self.logs.records):
            return False
        taken, at = self.logs.records[offset]
        self.assembler.observe(offset, at)
        try:
            refused = self.assembler.take(taken, offset, at)
        except EventRefused as refusal:
            self._letter(offset, refusal.reason)
        else:
            if refused:
                self._letter(offset, Reason.CANDIDATES)
        return True

    def _letter(self, offset: int, reason: Reason) -> None:
        is_out = self.replay.is_out(offset, key=None, value=None, is_partial=False, message="")
        if not is_out:
            self.letters.append((offset, reason))

    def commit(self, room: float = math.inf) -> None:
        closed = self.assembler.take_closed(room)
        self.assembler.publish(closed)
        mark = self.assembler.mark()
        self.logs.ledger += [
            (r.request_id, r.item_ids, r.completion, r.requested_at) for r in closed
        ]
        self.logs.letters += self.letters
        self.letters = []
        self.logs.mark = mark
        self.assembler.ledger_end = len(self.logs.ledger)


@st.composite
def record_logs(draw: st.DrawFn) -> list[tuple[Event, int]]:
    at, records = 1000, []
    monotone = draw(st.booleans())
    for _ in range(draw(st.integers(10, 40))):
        at += draw(st.integers(0, 15))
        name = draw(st.sampled_from("abcd"))
        items = draw(st.lists(st.sampled_from("pqrstu"), max_size=3))
        when = 1000 + 30 * (ord(name) - ord("a"))
        shown = at if monotone else at - draw(st.integers(0, 30))
        records.append(
            (
                event(
                    name,
                    *items,
                    surface=HOME,
                    requested_at=when,
                    expected=draw(st.sampled_from([None, None, 2, 3])),
                    last=draw(st.integers(0, 5)) == 0,
                ),
                shown,
            )
        )
    return records


def undisturbed(records: list[tuple[Event, int]]) -> Logs:
    logs = Logs(records)
    run = Run(logs)
    while run.take():
        pass
    run.assembler.close_all()
    run.commit()
    return logs


@settings(max_examples=200, deadline=None)
@given(
    records=record_logs(),
    acts=st.lists(
        st.sampled_from(["take", "take", "take", "commit", "commit one", "crash"]),
        min_size=60,
        max_size=120,
    ),
)
def test_crashes_lose_nothing_double_nothing_and_change_nothing(
    records: list[tuple[Event, int]], acts: list[str]
) -> None:
    logs = Logs(records)
    run = Run(logs)
    for act in acts:
        if act == "take":
            run.take()
        elif act == "commit":
            run.commit()
        elif act == "commit one":
            run.commit(1)
        else:
            run = Run(logs)
    while run.take():
        pass
    run.assembler.close_all()
    run.commit()
    reference = undisturbed(records)
    assert sorted(logs.ledger) == sorted(reference.ledger)
    assert logs.letters == reference.letters


@settings(max_examples=200, deadline=None)
@given(records=record_logs())
def test_every_request_that_opened_ends_in_exactly_one_feed(
    records: list[tuple[Event, int]],
) -> None:
    logs = undisturbed(records)
    published = [request_id for request_id, _, _, _ in logs.ledger]
    refused = {offset for offset, reason in logs.letters if reason is not Reason.CANDIDATES}
    opened = {
        taken.request_id for offset, (taken, _) in enumerate(records) if offset not in refused
    }
    assert len(published) == len(set(published))
    assert set(published) == opened
