"""What the users stage counts is a function of the log, whatever a crash keeps and loses."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.codec.outcomes import RequestOutcomes
from workers.outcomes.records import HOUR_MS
from workers.outcomes.user_sums import UserSums, UserSumsKey, add_user_sums
from workers.ranking.experiment import Experiment
from workers.users.counting import (
    DAY_MS,
    Books,
    Entry,
    Key,
    Newcomer,
    NewcomerKey,
    PhaseKey,
    User,
    UserKey,
)

NOW = 490_000 * HOUR_MS
EXPERIMENTS: Mapping[str, Experiment] = {
    "00000000000a": Experiment("summer", {"canary": 1000}),
    "00000000000b": Experiment("summer", {"canary": 5000}),
    "00000000000c": Experiment("autumn", {"canary": 5000}),
}
UNKNOWN_PHASE = "00000000000d"


def feed(
    user_id: str = "u-1",
    *,
    arm: str = "control",
    experiment: str | None = "00000000000a",
    at: int = NOW,
    seen: int = 3,
    takes: int = 1,
) -> RequestOutcomes:
    """A closed feed."""
    return RequestOutcomes(
        request_id="r-1",
        surface="home",
        user_id=user_id,
        arm=arm,
        weights="9f86d081884c",
        models={},
        completion="complete",
        published_at=at,
        closed_at=at + 5000,
        items=5,
        seen=seen,
        takes=takes,
        outcomes=[],
        experiment=experiment,
    )


def count(books: Books, record: RequestOutcomes, offset: int) -> None:
    """Count a feed under the experiment of its phase."""
    books.count(record, offset, EXPERIMENTS.get(record.experiment or ""))


def sums_of(books: Books, **fields: object) -> UserSums:
    """The sums of all keys with these fields."""
    parts = []
    for key, sums in books.sums.items():
        if fields.items() <= key._asdict().items():
            parts.append(sums)
    return add_user_sums(parts)


# Single rules


def test_a_user_counts_once_in_each_phase_and_is_new_once_in_an_experiment() -> None:
    books = Books(0)
    for offset, phase in enumerate(["00000000000a", "00000000000a", "00000000000b"]):
        count(books, feed(experiment=phase), offset)
    assert sums_of(books, experiment="00000000000a")[:5] == (2, 6, 2, 1, 1)
    assert sums_of(books, experiment="00000000000b")[:5] == (1, 3, 1, 1, 0)

    count(books, feed(experiment="00000000000c"), 3)
    assert sums_of(books, experiment="00000000000c").new_users == 1


def test_users_of_all_hours_add_up_to_distinct_users() -> None:
    books = Books(0)
    for offset in range(6):
        count(books, feed(f"u-{offset % 2}", at=NOW + offset * HOUR_MS), offset)
    assert len(books.sums) == 6
    assert sums_of(books).users == 2
    assert sums_of(books).feeds == 6


def test_feeds_without_a_phase_change_sums_only() -> None:
    books = Books(0)
    count(books, feed(experiment=None), 7)
    key = UserSumsKey(NOW // HOUR_MS, "home", "control", None)
    assert dict(books.entries()) == {
        key: UserSums(feeds=1, seen=3, takes=1, last_offset=7),
    }


def test_an_arm_that_is_not_that_of_the_hash_is_counted() -> None:
    experiment = EXPERIMENTS["00000000000b"]
    books = Books(0)
    for offset in range(20):
        right = experiment.assign(f"u-{offset}")
        wrong = "control" if right == "canary" else "canary"
        arm = wrong if offset == 13 else right
        count(books, feed(f"u-{offset}", arm=arm, experiment="00000000000b"), offset)
    assert sums_of(books).misassigned == 1


def test_a_phase_without_its_document_is_unchecked_and_has_no_new_users() -> None:
    books = Books(0)
    count(books, feed(experiment=UNKNOWN_PHASE), 0)
    assert sums_of(books) == UserSums(feeds=1, seen=3, takes=1, users=1, unchecked=1)


def test_a_user_is_what_a_report_by_user_needs() -> None:
    books = Books(0)
    count(books, feed(seen=3, takes=1), 4)
    count(books, feed(at=NOW + 1000, seen=2, takes=0), 9)
    user = books.get(UserKey("home", "00000000000a", "u-1"))
    assert user == User(
        last_offset=9,
        first_offset=4,
        first_at=NOW,
        last_at=NOW + 1000,
        arm="control",
        feeds=2,
        seen=5,
        takes=1,
    )
    assert books.get(NewcomerKey("home", "summer", "u-1")) == Newcomer(4, NOW)


@pytest.mark.parametrize("written", [1, 2, 3])
def test_every_choice_of_entries_that_a_crash_may_keep_gives_the_same_sums(written: int) -> None:
    """A user comes back three times. The first feeds are written, and some entries are kept."""
    whole = Books(0)
    for offset in range(3):
        count(whole, feed(), offset)

    before = Books(0)
    for offset in range(written):
        count(before, feed(), offset)
    changes = before.take_changes()

    for number in range(len(changes) + 1):
        for kept in combinations(changes.items(), number):
            after = Books(0)
            for key, entry in kept:
                after.restore(key, entry)
            for offset in range(3):
                count(after, feed(), offset)
            assert after.sums == whole.sums, kept


@pytest.mark.parametrize("offsets", [(2, 5), (5, 2)])
def test_of_two_first_feeds_of_a_user_the_earlier_one_is_right(offsets: tuple[int, int]) -> None:
    key = NewcomerKey("home", "autumn", "u-1")
    books = Books(0)
    for offset in offsets:
        books.restore(key, Newcomer(first_offset=offset, first_at=NOW))
    assert books.get(key) == Newcomer(first_offset=2, first_at=NOW)


def test_changes_are_taken_once() -> None:
    books = Books(0)
    count(books, feed(), 0)
    assert len(books.take_changes()) == 4
    assert not books.has_changes
    assert books.take_changes() == {}


# What is over is deleted


def test_a_phase_that_was_not_seen_for_long_is_deleted_with_its_users() -> None:
    books = Books(0)
    count(books, feed("u-1", experiment="00000000000a"), 0)
    count(books, feed("u-2", experiment="00000000000c", at=NOW + 20 * DAY_MS), 1)
    books.take_changes()

    deleted = books.delete_before(books.stream_time - 14 * DAY_MS)
    left = dict(books.entries())
    assert set(left) == {
        PhaseKey("home", "00000000000c"),
        UserKey("home", "00000000000c", "u-2"),
        NewcomerKey("home", "autumn", "u-2"),
        UserSumsKey((NOW + 20 * DAY_MS) // HOUR_MS, "home", "control", "00000000000c"),
    }
    changes = books.take_changes()
    assert deleted == len(changes) == 4
    assert set(changes.values()) == {None}


def test_users_of_an_experiment_are_kept_as_long_as_any_phase_of_it_is_seen() -> None:
    books = Books(0)
    count(books, feed("u-1", experiment="00000000000a"), 0)
    count(books, feed("u-2", experiment="00000000000b", at=NOW + 20 * DAY_MS), 1)
    books.delete_before(books.stream_time - 14 * DAY_MS)
    count(books, feed("u-1", experiment="00000000000b", at=NOW + 20 * DAY_MS), 2)
    assert sums_of(books, experiment="00000000000b").users == 2
    assert sums_of(books, experiment="00000000000b").new_users == 1


# The law


class Written(NamedTuple):
    """A state of an entry as it went to the changelog."""

    key: Key
    entry: Entry | None


def oracle(records: Sequence[RequestOutcomes]) -> dict[UserSumsKey, tuple[int, ...]]:
    """The sums without `last_offset`, counted over the whole log at once and in another way."""
    sums: dict[UserSumsKey, list[int]] = {}
    in_phase: set[tuple[str, str]] = set()
    in_salt: set[tuple[str, str]] = set()
    for record in records:
        phase = record.experiment
        key = UserSumsKey(record.published_at // HOUR_MS, record.surface, record.arm, phase)
        row = sums.setdefault(key, [0] * 7)
        row[0] += 1
        row[1] += record.seen
        row[2] += record.takes
        if phase is None:
            continue
        if (phase, record.user_id) not in in_phase:
            in_phase.add((phase, record.user_id))
            row[3] += 1
        experiment = EXPERIMENTS.get(phase)
        if experiment is None:
            row[6] += 1
            continue
        if (experiment.salt, record.user_id) not in in_salt:
            in_salt.add((experiment.salt, record.user_id))
            row[4] += 1
        if experiment.assign(record.user_id) != record.arm:
            row[5] += 1
    return {key: tuple(row) for key, row in sums.items()}


RECORDS = st.lists(
    st.builds(
        feed,
        st.sampled_from(["u-1", "u-2"]),
        arm=st.sampled_from(["control", "canary"]),
        experiment=st.sampled_from([None, UNKNOWN_PHASE, *EXPERIMENTS]),
        at=st.sampled_from([NOW, NOW + HOUR_MS, (NOW // HOUR_MS + 1) * HOUR_MS - 1]),
        seen=st.integers(0, 5),
        takes=st.integers(0, 2),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=300)
@given(RECORDS, st.data())
def test_the_sums_are_those_of_the_log_whatever_crashes_keep_and_lose(
    records: list[RequestOutcomes], data: st.DataObject
) -> None:
    """A crash keeps what was delivered before the last commit, and of each entry any state that was
    written since. The replay begins at the committed offset, or at any earlier one.
    """
    committed = 0
    durable: dict[Key, Entry] = {}
    books = Books(0)
    offset = 0
    crashes = data.draw(st.integers(0, 3), label="crashes")
    uncommitted: list[Written] = []
    while True:
        while offset < len(records):
            count(books, records[offset], offset)
            offset += 1
            step = data.draw(st.sampled_from(["go on", "write", "commit", "crash"]), label="step")
            if step in ("write", "commit"):
                uncommitted += [Written(*change) for change in books.take_changes().items()]
            if step == "commit":
                _apply(durable, uncommitted)
                uncommitted = []
                committed = offset
            if step == "crash" and crashes:
                break
        else:
            break

        crashes -= 1
        _apply(durable, [w for w in uncommitted if data.draw(st.booleans(), label="kept")])
        uncommitted = []
        books = Books(0)
        for key, entry in durable.items():
            books.restore(key, entry)
        offset = data.draw(st.integers(0, committed), label="replay from")

    got = {key: tuple(sums[:7]) for key, sums in books.sums.items()}
    assert got == oracle(records)


def _apply(durable: dict[Key, Entry], written: Sequence[Written]) -> None:
    """What the changelog holds. In this law nothing is deleted."""
    for key, entry in written:
        assert entry is not None
        durable[key] = entry


@settings(deadline=None)
@given(RECORDS, st.randoms())
def test_states_may_be_read_back_in_any_order(
    records: list[RequestOutcomes], random: object
) -> None:
    """A process that was cut off can write an older state behind a newer one."""
    books = Books(0)
    written: list[Written] = []
    for offset, record in enumerate(records):
        count(books, record, offset)
        written += [Written(*change) for change in books.take_changes().items()]
    random.shuffle(written)  # type: ignore[attr-defined]

    restored = Books(0)
    for key, entry in written:
        restored.restore(key, entry)
    assert dict(restored.entries()) == dict(books.entries())


@settings(deadline=None)
@given(RECORDS, st.randoms())
def test_a_newer_state_behind_which_an_older_one_was_written_survives_compaction(
    records: list[RequestOutcomes], random: object
) -> None:
    """One process reads the log back, and writes what rule 5 says. Then compaction keeps the last
    state of each entry, and another process reads these.
    """
    books = Books(0)
    log: list[Written] = []
    for offset, record in enumerate(records):
        count(books, record, offset)
        log += [Written(*change) for change in books.take_changes().items()]
    random.shuffle(log)  # type: ignore[attr-defined]

    reader = Books(0)
    for key, entry in log:
        reader.restore(key, entry)
    log += [Written(*change) for change in reader.take_changes().items()]

    last = Books(0)
    for key, entry in dict(log).items():
        last.restore(key, entry)
    assert dict(last.entries()) == dict(books.entries())
    assert not last.has_changes


def test_states_that_are_read_back_in_order_are_not_written_again() -> None:
    books = Books(0)
    restored = Books(0)
    for offset in range(3):
        count(books, feed("u-1"), offset)
        for key, entry in books.take_changes().items():
            restored.restore(key, entry)
    assert not restored.has_changes


def test_an_entry_of_another_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="expected one of its kind"):
        Books(0).restore(PhaseKey("home", "00000000000a"), Newcomer(0, 0))
