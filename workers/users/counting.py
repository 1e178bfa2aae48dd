"""What the users stage counts, as a function of one partition of `request-outcomes`. Pure.

Rules:
1. Every entry is a function of the partition up to the entry's own `last_offset`. So any process
   computes the same entry, and of two states of an entry the one that is further on is right.
2. A feed changes an entry only if its offset is greater than the entry's `last_offset`. So a replay
   from any earlier offset counts nothing twice, also if a crash kept some entries and lost the
   newest state of others.
3. A sum asks whether a feed is the first of its user by comparing offsets, never by whether the
   user was there before. Otherwise rule 2 would not hold if the user was kept and the sum was lost.
4. Feeds without a phase change sums only.
5. A process that was stopped past its session may write an older state behind a newer one. Whoever
   reads both back writes the newer one again, before the changelog is compacted to the older one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from workers.codec.outcomes import RequestOutcomes
from workers.outcomes.records import HOUR_MS
from workers.outcomes.user_sums import UserSums, UserSumsKey
from workers.ranking.experiment import Experiment

DAY_MS = 24 * HOUR_MS

_Group = TypeVar("_Group")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class UserKey:
    """A user in a phase of an experiment on a surface."""

    surface: str
    phase: str
    user_id: str


class User(NamedTuple):
    """What is known of a user in a phase. `arm` is that of the first feed.

    `first_at` and `last_at` (ms) are when the first and the last counted feed were published.
    """

    last_offset: int
    first_offset: int
    first_at: int
    last_at: int
    arm: str
    feeds: int
    seen: int
    takes: int


@dataclass(frozen=True, slots=True)
class NewcomerKey:
    """A user in an experiment on a surface, which is one salt with all of its phases."""

    surface: str
    salt: str
    user_id: str


class Newcomer(NamedTuple):
    """The first feed of a user in an experiment."""

    first_offset: int
    first_at: int


@dataclass(frozen=True, slots=True)
class PhaseKey:
    """A phase of an experiment on a surface."""

    surface: str
    phase: str


class Phase(NamedTuple):
    """When feeds of a phase were last seen (ms), and its salt. None: its document was not found."""

    last_offset: int
    last_at: int
    salt: str | None


Key = UserKey | NewcomerKey | PhaseKey | UserSumsKey
Entry = User | Newcomer | Phase | UserSums


def is_further(entry: Entry, known: Entry) -> bool:
    """Whether `entry` is a later state than `known`, which has the same key, or the same state."""
    return _reach(entry) >= _reach(known)


def _reach(entry: Entry) -> int:
    # Of a user's first feed, the earlier one is right: it is written once, and a later one would
    # come from a process that did not have the earlier one.
    return -entry.first_offset if isinstance(entry, Newcomer) else entry.last_offset


class Books:
    """All entries of one partition.

    `next_offset`: every feed below it is counted. None until the first one. `changes` has the
    entries that were changed since `take_changes`, None if one was deleted.
    """

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.next_offset: int | None = None
        self.stream_time = -1
        self._changes: dict[Key, Entry | None] = {}
        self._phases: dict[PhaseKey, Phase] = {}
        self._sums: dict[UserSumsKey, UserSums] = {}
        # By phase and by experiment, so that one that is over is deleted as a whole.
        self._users: dict[PhaseKey, dict[str, User]] = {}
        self._newcomers: dict[tuple[str, str], dict[str, Newcomer]] = {}

    # Restoring

    def restore(self, key: Key, entry: Entry | None) -> None:
        """Take over a state that was read back. None: the entry was deleted."""
        if entry is None:
            self._delete(key)
            self._changes.pop(key, None)
            return

        known = self.get(key)
        if known is None or is_further(entry, known):
            self._put(key, entry)
            self._changes.pop(key, None)
        else:
            self._changes[key] = known  # rule 5

    # Counting

    def count(self, feed: RequestOutcomes, offset: int, experiment: Experiment | None) -> None:
        """Count a feed. `experiment` is what its phase was under, None if that is not known."""
        if self.next_offset is None or self.next_offset <= offset:
            self.next_offset = offset + 1
        self.stream_time = max(self.stream_time, feed.closed_at)

        is_new_in_phase = False
        is_new = False
        is_misassigned = False
        if feed.experiment is not None:
            is_new_in_phase = self._count_user(feed, feed.experiment, offset)
            if experiment is not None:
                is_new = self._note_newcomer(feed, experiment.salt, offset)
                is_misassigned = experiment.assign(feed.user_id) != feed.arm

            salt = None if experiment is None else experiment.salt
            self._note_phase(PhaseKey(feed.surface, feed.experiment), feed, offset, salt)

        key = UserSumsKey(
            hour=feed.published_at // HOUR_MS,
            surface=feed.surface,
            arm=feed.arm,
            experiment=feed.experiment,
        )
        sums = self._sums.get(key, UserSums())
        if offset <= sums.last_offset:
            return

        is_unchecked = feed.experiment is not None and experiment is None
        self._change(
            key,
            UserSums(
                feeds=sums.feeds + 1,
                seen=sums.seen + feed.seen,
                takes=sums.takes + feed.takes,
                users=sums.users + is_new_in_phase,
                new_users=sums.new_users + is_new,
                misassigned=sums.misassigned + is_misassigned,
                unchecked=sums.unchecked + is_unchecked,
                last_offset=offset,
            ),
        )

    def _count_user(self, feed: RequestOutcomes, phase: str, offset: int) -> bool:
        """Count the feed of a user. True if it is the user's first one in the phase."""
        key = UserKey(feed.surface, phase, feed.user_id)
        user = self._users.get(PhaseKey(feed.surface, phase), {}).get(feed.user_id)
        if user is None:
            user = User(
                last_offset=-1,
                first_offset=offset,
                first_at=feed.published_at,
                last_at=feed.published_at,
                arm=feed.arm,
                feeds=0,
                seen=0,
                takes=0,
            )

        if offset > user.last_offset:
            user = User(
                last_offset=offset,
                first_offset=user.first_offset,
                first_at=user.first_at,
                last_at=max(user.last_at, feed.published_at),
                arm=user.arm,
                feeds=user.feeds + 1,
                seen=user.seen + feed.seen,
                takes=user.takes + feed.takes,
            )
            self._change(key, user)

        return offset == user.first_offset

    def _note_newcomer(self, feed: RequestOutcomes, salt: str, offset: int) -> bool:
        """Note a user of an experiment. True if this is the user's first feed in it."""
        newcomer = self._newcomers.get((feed.surface, salt), {}).get(feed.user_id)
        if newcomer is None:
            newcomer = Newcomer(first_offset=offset, first_at=feed.published_at)
            self._change(NewcomerKey(feed.surface, salt, feed.user_id), newcomer)

        return offset == newcomer.first_offset

    def _note_phase(
        self, key: PhaseKey, feed: RequestOutcomes, offset: int, salt: str | None
    ) -> None:
        """Note that a phase was seen, so that its users are kept."""
        phase = self._phases.get(key, Phase(last_offset=-1, last_at=-1, salt=None))
        if offset > phase.last_offset:
            last_at = max(phase.last_at, feed.closed_at)
            self._change(key, Phase(offset, last_at, salt or phase.salt))

    # Deleting what is over

    def delete_before(self, time: int) -> int:
        """Delete the phases that were last seen before `time` (ms) with all of their users, and the
        sums of hours that ended before it. Return how many entries were deleted.
        """
        over: list[Key] = []
        for sums_key in self._sums:
            if (sums_key.hour + 1) * HOUR_MS <= time:
                over.append(sums_key)

        salts: set[tuple[str, str]] = set()
        for phase_key, phase in self._phases.items():
            if phase.last_at < time:
                over.append(phase_key)
                for user_id in self._users.get(phase_key, ()):
                    over.append(UserKey(phase_key.surface, phase_key.phase, user_id))
            elif phase.salt is not None:
                salts.add((phase_key.surface, phase.salt))

        for (surface, salt), newcomers in self._newcomers.items():
            if (surface, salt) not in salts:
                for user_id in newcomers:
                    over.append(NewcomerKey(surface, salt, user_id))

        for key in over:
            self._delete(key)
            self._changes[key] = None
        return len(over)

    # Reading

    def get(self, key: Key) -> Entry | None:
        """An entry, None if there is none."""
        if isinstance(key, UserSumsKey):
            return self._sums.get(key)
        if isinstance(key, PhaseKey):
            return self._phases.get(key)
        if isinstance(key, UserKey):
            return self._users.get(PhaseKey(key.surface, key.phase), {}).get(key.user_id)
        return self._newcomers.get((key.surface, key.salt), {}).get(key.user_id)

    @property
    def sums(self) -> Mapping[UserSumsKey, UserSums]:
        """The sums of every key."""
        return self._sums

    @property
    def phases(self) -> Mapping[PhaseKey, Phase]:
        """Every phase with users."""
        return self._phases

    @property
    def users(self) -> int:
        """How many users of phases are held."""
        return sum(len(users) for users in self._users.values())

    @property
    def has_changes(self) -> bool:
        """Whether anything was changed since `take_changes`."""
        return bool(self._changes)

    def take_changes(self) -> dict[Key, Entry | None]:
        """The entries that were changed since the last call. None: deleted."""
        changes = self._changes
        self._changes = {}
        return changes

    def entries(self) -> Iterator[tuple[Key, Entry]]:
        """Every entry."""
        yield from self._phases.items()
        yield from self._sums.items()
        for phase, users in self._users.items():
            for user_id, user in users.items():
                yield UserKey(phase.surface, phase.phase, user_id), user
        for (surface, salt), newcomers in self._newcomers.items():
            for user_id, newcomer in newcomers.items():
                yield NewcomerKey(surface, salt, user_id), newcomer

    # Writing

    def _change(self, key: Key, entry: Entry) -> None:
        self._put(key, entry)
        self._changes[key] = entry

    def _put(self, key: Key, entry: Entry) -> None:
        if isinstance(key, UserKey) and isinstance(entry, User):
            self._users.setdefault(PhaseKey(key.surface, key.phase), {})[key.user_id] = entry
        elif isinstance(key, UserSumsKey) and isinstance(entry, UserSums):
            self._sums[key] = entry
        elif isinstance(key, NewcomerKey) and isinstance(entry, Newcomer):
            self._newcomers.setdefault((key.surface, key.salt), {})[key.user_id] = entry
        elif isinstance(key, PhaseKey) and isinstance(entry, Phase):
            self._phases[key] = entry
            self.stream_time = max(self.stream_time, entry.last_at)
        else:
            raise TypeError(f"entry of {key}: got {entry}, expected one of its kind")

    def _delete(self, key: Key) -> None:
        if isinstance(key, UserSumsKey):
            self._sums.pop(key, None)
        elif isinstance(key, PhaseKey):
            self._phases.pop(key, None)
        elif isinstance(key, UserKey):
            phase = PhaseKey(key.surface, key.phase)
            _pop(self._users, phase, key.user_id)
        else:
            _pop(self._newcomers, (key.surface, key.salt), key.user_id)


def _pop(groups: dict[_Group, dict[str, _Value]], group: _Group, user_id: str) -> None:
    """Delete a user from a group, and the group with its last user."""
    users = groups.get(group)
    if users is not None:
        users.pop(user_id, None)
        if not users:
            del groups[group]
