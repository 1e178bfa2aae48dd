"""Which experiment each phase of a surface was under, from the history of its documents. Pure.

The id of a phase (`Mix.phase`) is a digest over the experiment and over the weights and pins of
control and every arm. It cannot be read backwards. So every mix that workers may have had is built
again from the history, and its phase is computed.

Rules:
- A phase is never given a wrong experiment: its id covers the salt and the shares. To build a mix
  that no worker had is harmless. To miss one leaves its feeds without a verdict.
- An entry says what a document held. What workers apply by it is usually that and nothing else. In
  four cases they may differ, and then several values are tried (`_track` has the table):
  a content is missing, it was refused, some workers may lack the model that it names, or it was made
  by hand and recorded after a later change to another document.
- The content of every document before the oldest entry is in that entry. So a history that was cut
  short knows all states since then, and none before.
- Versions of weights are taken from the entries. The defaults are those of today.
- What the history does not hold cannot be found: a content that was changed by hand again before
  any worker had recorded it, and one of more than 4,096 characters once it is replaced.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice, product
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from workers.ranking.experiment import Experiment, ExperimentRefused
from workers.ranking.mix import Mix
from workers.ranking.pins import LATEST
from workers.ranking.surface import Surface
from workers.ranking.version import read_version
from workers.ranking.weights import Weights, WeightsRefused
from workers.steering.content import NO_FIELDS, RawFields, canonical_text, printable
from workers.steering.documents import EXPERIMENT, MODELS, WEIGHTS, DocumentId
from workers.steering.history import UNKNOWN_ACTOR, HistoryEntry

T = TypeVar("T")

_PinnedItems = tuple[tuple[str, int], ...]
"""Pinned objectives with their versions, sorted."""

_EARLIER_VALUES: Final = 4  # of a document, tried if what it holds may not be applied
_STEPS_BACK: Final = 100  # entries between a change by hand and its record, at most
_MIXES: Final = 64  # tried for one experiment between two entries
_MIXES_IN_ALL: Final = 20_000  # less than a second


@dataclass(frozen=True)
class Phases:
    """What the history of a surface knows about its experiments.

    - `experiments`: the id of each phase, and the experiment that it was under.
    - `current`: the experiment that is in force, also if it is stopped. None if there never was
      one.
    - `since`: when its salt got its first users, in milliseconds since the epoch. None if there is
      no experiment, if it never had users, or if that was before the oldest entry.
    """

    experiments: Mapping[str, Experiment]
    current: Experiment | None
    since: int | None

    @property
    def salt(self) -> str | None:
        """The salt of the experiment that runs, or that ran last."""
        return None if self.current is None else self.current.salt

    def of_salt(self, salt: str) -> dict[str, Experiment]:
        """The phases of the experiment with this salt."""
        phases: dict[str, Experiment] = {}
        for phase, experiment in self.experiments.items():
            if experiment.salt == salt:
                phases[phase] = experiment
        return phases


@dataclass(frozen=True)
class _Change:
    """What a document held from a position on. Position 0 is before the oldest entry, position n
    after the n-th.

    `version` and `refused` are what was recorded with it.
    """

    position: int
    fields: Mapping[str, str]
    version: str | None = None
    refused: str | None = None
    is_by_hand: bool = False


_Track = list[tuple[T, ...]]
"""The values that a document may have had, at each position. The likeliest is first."""


def phases_of(
    surface: Surface,
    entries: Sequence[HistoryEntry],
    contents: Mapping[DocumentId, RawFields | None],
) -> Phases:
    """Every phase that workers may have ranked under.

    `entries` are the history, oldest first. `contents` are what Redis holds now, as far as it was
    read: None for a key that holds something other than a hash.
    """
    length, changes = _changes_by_document(entries, contents)
    reader = _experiment_reader()
    experiment_changes = changes.get(EXPERIMENT.name, [])
    experiments = _track(reader, experiment_changes, length)
    mixes = _Mixes(surface, changes, length)

    # First the likeliest mix at each position, so that the limit leaves out unlikely ones only.
    phases: dict[str, Experiment] = {}
    for most in (1, _MIXES):
        for position in reversed(range(length)):
            for experiment in experiments[position]:
                if experiment is not None and experiment.running:
                    for phase in mixes.new_phases(experiment, position, most):
                        phases[phase] = experiment

    current = experiments[-1][0]
    held = contents.get(DocumentId(EXPERIMENT))
    if held:
        # Also one that was refused when it was recorded: its arms may have weights by now.
        current, *_ = (*reader.values(_Change(length, printable(held))), current)

    since = None
    if current is not None:
        position = _first_users(current.salt, reader, experiment_changes)
        since = entries[position - 1].at if 1 <= position <= len(entries) else None
    return Phases(phases, current, since)


def _changes_by_document(
    entries: Sequence[HistoryEntry], contents: Mapping[DocumentId, RawFields | None]
) -> tuple[int, dict[str, list[_Change]]]:
    """The number of positions, and the changes to each document by its name.

    What Redis holds and no entry has is a change by hand after the newest entry.
    """
    held: dict[str, _Held] = {}
    for document, raw in contents.items():
        held[document.name] = _Held.of(raw or {})

    changes: dict[str, list[_Change]] = {name: [] for name in held}
    recorded: dict[str, Mapping[str, str]] = {}
    if entries:
        recorded.update(entries[0].contents_before)
        for name, fields in recorded.items():
            changes.setdefault(name, []).append(_Change(0, fields))

    for position, entry in enumerate(entries, 1):
        fields = entry.after
        # The history replaces a long content by its digest. Redis may still have it.
        if entry.document in held and held[entry.document].recorded_as == fields:
            fields = held[entry.document].fields

        change = _Change(
            position=position,
            fields=fields,
            version=entry.version,
            refused=entry.refused,
            is_by_hand=entry.actor == UNKNOWN_ACTOR,
        )
        changes.setdefault(entry.document, []).append(change)
        recorded[entry.document] = entry.after

    last = len(entries) + 1
    for name, content in held.items():
        if content.recorded_as != recorded.get(name, {}):
            changes[name].append(_Change(last, content.fields, is_by_hand=True))
    return last + 1, changes


class _Held(NamedTuple):
    """What Redis holds: its fields, and the content that the history has in their place."""

    fields: Mapping[str, str]
    recorded_as: Mapping[str, str]

    @classmethod
    def of(cls, raw: RawFields) -> "_Held":
        text = canonical_text(raw) or NO_FIELDS
        return cls(printable(raw), msgspec.json.decode(text, type=dict[str, str]))


def _first_users(
    salt: str, reader: "_Reader[Experiment | None]", changes: Sequence[_Change]
) -> int:
    """The first position at which this salt had users; 0 if it had them before, or never."""
    for change in changes:
        for experiment in reader.values(change):
            if experiment is not None and experiment.salt == salt and experiment.running:
                return change.position
    return 0


# The values that a document may have had


class _Reader(NamedTuple, Generic[T]):
    """How the values of one kind of document are read for phases, leniently.

    `values` are those that workers may make of a content, the likeliest first. None if they can
    make nothing of it. `may_be_refused`: whether some workers may refuse what others apply.
    """

    values: Callable[[_Change], tuple[T, ...]]
    may_be_refused: Callable[[_Change], bool]
    default: T


def _track(reader: _Reader[T], changes: Iterable[_Change], length: int) -> _Track[T]:
    """The values at each position.

    | what the document holds               | values, the likeliest first                      |
    |---------------------------------------|--------------------------------------------------|
    | valid                                 | the value                                        |
    | valid, but some workers may refuse it | the value, up to 4 earlier ones, the default     |
    | refused when it was recorded          | the latest before, the value (what refused it    |
    |                                       | may be mended), up to 4 earlier ones, the default |
    | missing, or never valid               | up to 4 earlier ones, the default                |

    The earlier ones are those of workers that refuse it, or that began with an old last-good file.
    A change by hand may have been made at any time since the entry before it of this document. So
    its value is also tried at the positions between.
    """
    track: _Track[T] = [(reader.default,)] * length
    earlier: tuple[T, ...] = ()
    previous = 0
    for change in changes:
        values = reader.values(change)
        others = (*earlier, reader.default)

        if values and change.refused is None:
            options = (*values, *others) if reader.may_be_refused(change) else values
        else:
            options = (others[0], *values, *others)

        options = _distinct(options)
        track[change.position :] = [options] * (length - change.position)

        if change.is_by_hand:
            for position in range(max(previous, change.position - _STEPS_BACK), change.position):
                track[position] = _distinct((*track[position], *values))
        in_order = (
            (*values, *earlier) if change.refused is None else (*others[:1], *values, *earlier)
        )
        earlier = _distinct(in_order)[:_EARLIER_VALUES]
        previous = change.position
    return track


def _weights_reader(surface: Surface, arm: str | None) -> _Reader[str | None]:
    """The values are versions of weights. None: an arm without weights."""
    rules = surface.weight_rules

    def values(change: _Change) -> tuple[str, ...]:
        versions = list[str]()
        if change.version is not None:
            versions.append(change.version)
        # The rules of the surface may have changed, and with them what workers make of it.
        if change.fields:
            with suppress(WeightsRefused):
                added = _added_objectives(surface, change.fields)
                valid = rules.with_added(added).validate(change.fields)
                versions.append(valid.version)
        return _distinct(versions)

    return _Reader(
        values=values,
        may_be_refused=lambda change: bool(_added_objectives(surface, change.fields)),
        default=rules.default().version if arm is None else None,
    )


def _added_objectives(surface: Surface, fields: Mapping[str, str]) -> tuple[str, ...]:
    """What weights name beside the objectives of the surface: workers need a model of each."""
    return tuple(name for name in fields if name not in surface.weight_rules.defaults)


def _read_pins(change: _Change) -> tuple[_PinnedItems, ...]:
    """What is pinned, whatever the objectives are. Nothing if a version is not one."""
    if not change.fields:
        return ()

    pinned = list[tuple[str, int]]()
    for objective, text in sorted(change.fields.items()):
        if text == LATEST:
            continue
        version = read_version(text)
        if version is None:
            return ()
        pinned.append((objective, version))
    return (tuple(pinned),)


_PINS_READER: Final = _Reader[_PinnedItems](
    values=_read_pins,
    may_be_refused=lambda change: bool(change.fields),
    default=(),
)


def _experiment_reader() -> _Reader[Experiment | None]:
    """Each content is read once: to build an experiment costs as much as ten phases.

    Any may be refused: by a worker that refuses the weights of one of its arms.
    """
    known: dict[frozenset[tuple[str, str]], tuple[Experiment, ...]] = {}

    def values(change: _Change) -> tuple[Experiment, ...]:
        key = frozenset(change.fields.items())
        if key not in known:
            known[key] = ()
            with suppress(ExperimentRefused):
                known[key] = (Experiment.read(change.fields),)
        return known[key]

    return _Reader(values=values, may_be_refused=lambda change: True, default=None)


def _distinct(values: Iterable[T]) -> tuple[T, ...]:
    """Each value once, in the order in which they come. They need no hash."""
    distinct = list[T]()
    for value in values:
        if value not in distinct:
            distinct.append(value)
    return tuple(distinct)


# The mixes of an experiment


class _Mixes:
    """The mixes that workers may have had, from the values of the documents of control and arms."""

    def __init__(
        self, surface: Surface, changes: Mapping[str, Sequence[_Change]], length: int
    ) -> None:
        self._surface = surface
        self._changes = changes
        self._length = length
        self._weights: dict[str | None, _Track[str | None]] = {}
        self._pins: dict[str | None, _Track[_PinnedItems]] = {}
        self._tried = set[tuple[object, ...]]()

    def new_phases(self, experiment: Experiment, position: int, most: int) -> Iterator[str]:
        """The phases under this experiment at this position, without those of earlier calls: of
        the `most` likeliest mixes.
        """
        owners = (None, *experiment.shares)
        weights = [self._weights_of(owner)[position] for owner in owners]
        pins = [self._pins_of(owner)[position] for owner in owners]

        for chosen in islice(_combinations([*weights, *pins]), most):
            if len(self._tried) >= _MIXES_IN_ALL:
                return
            key = (id(experiment), *chosen)
            if key not in self._tried:
                self._tried.add(key)
                mix = _mix(experiment, owners, chosen[: len(owners)], chosen[len(owners) :])
                assert mix.phase is not None
                yield mix.phase

    def _weights_of(self, owner: str | None) -> _Track[str | None]:
        if owner not in self._weights:
            changes = self._changes.get(DocumentId(WEIGHTS, owner).name, ())
            reader = _weights_reader(self._surface, owner)
            self._weights[owner] = _track(reader, changes, self._length)
        return self._weights[owner]

    def _pins_of(self, owner: str | None) -> _Track[_PinnedItems]:
        if owner not in self._pins:
            changes = self._changes.get(DocumentId(MODELS, owner).name, ())
            self._pins[owner] = _track(_PINS_READER, changes, self._length)
        return self._pins[owner]


def _combinations(options: Sequence[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """One value for each document, the likeliest combinations first.

    First the likeliest of all, then the last of all (those of a worker that has nothing but
    defaults), then all others that differ from the first in one document, then the rest.
    """
    likeliest = tuple(values[0] for values in options)
    if all(len(values) == 1 for values in options):
        return iter([likeliest])

    last = tuple(values[-1] for values in options)
    with_one_other = (
        (*likeliest[:place], value, *likeliest[place + 1 :])
        for place, values in enumerate(options)
        for value in values[1:]
    )
    return chain([likeliest, last], with_one_other, product(*options))


def _mix(
    experiment: Experiment,
    owners: Sequence[str | None],
    weights: Sequence[str | None],
    pins: Sequence[_PinnedItems],
) -> Mix:
    """The mix of these versions, which are in the order of the owners: the surface, then its
    arms. The weights have no values: a phase does not depend on them.
    """
    versions: dict[str, Weights] = {}
    for arm, version in zip(owners, weights, strict=True):
        if arm is not None and version is not None:
            versions[arm] = Weights({}, version)
    arm_pins = {arm: dict(items) for arm, items in zip(owners, pins, strict=True) if arm}

    assert weights[0] is not None  # a surface's own weights have a default
    return Mix(
        weights=Weights({}, weights[0]),
        experiment=experiment,
        arms=versions,
        pins=dict(pins[0]),
        arm_pins=arm_pins,
    )
