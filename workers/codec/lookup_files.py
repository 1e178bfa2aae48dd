"""Files of look-ups, for tools: JSON lines of sets and features by their keys in Redis, without a
prefix.

A line is `{"key": "seen:u-1", "members": ["a", "b"]}` or `{"key": "features:posts:a", "features":
[1.5, 8.0]}`. What no line says is as it is in Redis without that key: a set that holds nothing, an
item without features.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from workers.codec.json_events import parse
from workers.codec.judge import AN_ID, is_id, numbers, shown
from workers.codec.text_files import NotUtf8, check_encoding, without_mark
from workers.errors import Failure
from workers.ranking.lookup import LookupQuery, LookupResult, SetKey
from workers.ranking.refusal import CandidateRefused, EventRefused
from workers.ranking.surface import FEATURES, Surfaces


class LookupFileBroken(Failure):
    """A line of the file is wrong; the message names it and the field."""


@dataclass(frozen=True, slots=True)
class LookupFile:
    """What a file holds; called, it answers every question."""

    sets: Mapping[SetKey, frozenset[str]]
    features: Mapping[str, Mapping[str, bytes]]

    def __call__(self, questions: LookupQuery) -> LookupResult:
        nothing: frozenset[str] = frozenset()
        return LookupResult(
            {one: self.sets.get(one, nothing) for one in questions.sets},
            {name: self.features.get(name, {}) for name in questions.features},
        )


def read_lookups(lines: Iterable[bytes], surfaces: Surfaces) -> LookupFile:
    """Read a file for these surfaces; blank lines are passed over. Raises LookupFileBroken, naming
    the line.
    """
    reader = _Reader(surfaces)
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                if number == 1:
                    check_encoding(line)
                reader.take(without_mark(line) if number == 1 else line)
            except (_Wrong, CandidateRefused, EventRefused, NotUtf8) as wrong:
                raise LookupFileBroken(f"line {number}: {wrong}") from None
    return LookupFile(reader.sets, reader.features)


class _Wrong(ValueError):
    """A field of the line is wrong."""


class _Reader:
    def __init__(self, surfaces: Surfaces) -> None:
        self._names = sorted({one.name for surface in surfaces.values() for one in surface.drop})
        looking = [surface.feature_set for surface in surfaces.values() if surface.lookup_features]
        self._feature_sets = {feature_set.name: feature_set for feature_set in looking}
        self.sets: dict[SetKey, frozenset[str]] = {}
        self.features: dict[str, dict[str, bytes]] = {name: {} for name in self._feature_sets}

    def take(self, line: bytes) -> None:
        fields = parse(line)
        if not isinstance(fields, dict):
            raise _Wrong(f"got {shown(fields)}, expected an object")
        key = fields.get("key")
        if not isinstance(key, str):
            raise _Wrong(f"key: got {shown(key)}, expected a string")
        name, _, rest = key.partition(":")
        if name == FEATURES:
            self._take_features(key, rest, fields.get("features"))
        else:
            self._take_set(key, SetKey(name, rest), fields.get("members"))

    def _take_set(self, key: str, one: SetKey, members: object) -> None:
        if one.name not in self._names:
            known = [
                *(f"{name}:..." for name in self._names),
                *(f"{FEATURES}:{name}:..." for name in self.features),
            ]
            raise _Wrong(
                f"key: got {shown(key)}, expected one that a surface looks up: {', '.join(known) or 'none'}"
            )
        if one in self.sets:
            raise _Wrong(f"key: got {shown(key)} for the second time, expected each key once")
        if not isinstance(members, list):
            raise _Wrong(f"members: got {shown(members)}, expected a list of item ids")
        for place, member in enumerate(members):
            if not is_id(member):
                raise _Wrong(f"members[{place}]: got {shown(member)}, expected {AN_ID}")
        self.sets[one] = frozenset(members)

    def _take_features(self, key: str, rest: str, values: object) -> None:
        name, _, item_id = rest.partition(":")
        if name not in self.features or not is_id(item_id):
            expected = (
                " or ".join(f"{FEATURES}:{known}:{{item_id}}" for known in self.features)
                or "no features here"
            )
            raise _Wrong(f"key: got {shown(key)}, expected {expected}")
        if item_id in self.features[name]:
            raise _Wrong(f"key: got {shown(key)} for the second time, expected each key once")
        if not isinstance(values, list):
            raise _Wrong(f"features: got {shown(values)}, expected a list of numbers")
        self.features[name][item_id] = self._feature_sets[name].pack_positional(numbers(values))
