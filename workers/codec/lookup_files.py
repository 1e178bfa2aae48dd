"""Files of look-ups, for tools: JSON lines of sets and features by their keys in Redis, without the
prefix of the keys.

A line is `{"key": "seen:u-1", "members": ["a", "b"]}` or `{"key": "features:posts:a", "features":
[1.5, 8.0]}`. A key that is not in the file is as it would be in Redis without that key: an empty
set, or an item without features.
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
    """A line of the file is wrong. The message names the line and the field."""


class _InvalidLine(ValueError):
    """A field of the line is wrong."""


@dataclass(frozen=True, slots=True)
class LookupFile:
    """The content of a file. It is a look-up that skips nothing."""

    sets: Mapping[SetKey, frozenset[str]]
    features: Mapping[str, Mapping[str, bytes]]

    def __call__(self, query: LookupQuery) -> LookupResult:
        empty: frozenset[str] = frozenset()
        return LookupResult(
            members={key: self.sets.get(key, empty) for key in query.sets},
            features={name: self.features.get(name, {}) for name in query.features},
        )


def read_lookups(lines: Iterable[bytes], surfaces: Surfaces) -> LookupFile:
    """Read a file for these surfaces. Blank lines are ignored. Raises LookupFileBroken, naming the
    line.
    """
    reader = _LookupReader(surfaces)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            if number == 1:
                check_encoding(line)
                reader.add_line(without_mark(line))
            else:
                reader.add_line(line)
        except (_InvalidLine, CandidateRefused, EventRefused, NotUtf8) as error:
            raise LookupFileBroken(f"line {number}: {error}") from None
    return LookupFile(reader.sets, reader.features)


class _LookupReader:
    """Reads a file line by line."""

    def __init__(self, surfaces: Surfaces) -> None:
        set_names = set[str]()
        self._feature_sets = {}
        for surface in surfaces.values():
            set_names.update(drop_set.name for drop_set in surface.drop)
            if surface.lookup_features:
                self._feature_sets[surface.feature_set.name] = surface.feature_set
        self._set_names = sorted(set_names)

        self.sets: dict[SetKey, frozenset[str]] = {}
        self.features: dict[str, dict[str, bytes]] = {name: {} for name in self._feature_sets}

    def add_line(self, line: bytes) -> None:
        fields = parse(line)
        if not isinstance(fields, dict):
            raise _InvalidLine(f"got {shown(fields)}, expected an object")
        key = fields.get("key")
        if not isinstance(key, str):
            raise _InvalidLine(f"key: got {shown(key)}, expected a string")

        name, _, rest = key.partition(":")
        if name == FEATURES:
            self._add_features(key, rest, fields.get("features"))
        else:
            self._add_set(key, SetKey(name, rest), fields.get("members"))

    def _add_set(self, key: str, set_key: SetKey, members: object) -> None:
        if set_key.name not in self._set_names:
            known = [f"{name}:..." for name in self._set_names]
            known += [f"{FEATURES}:{name}:..." for name in self.features]
            expected = f"expected one that a surface looks up: {', '.join(known) or 'none'}"
            raise _InvalidLine(f"key: got {shown(key)}, {expected}")
        if set_key in self.sets:
            raise _InvalidLine(f"key: got {shown(key)} for the second time, expected each key once")

        if not isinstance(members, list):
            raise _InvalidLine(f"members: got {shown(members)}, expected a list of item ids")
        for index, member in enumerate(members):
            if not is_id(member):
                raise _InvalidLine(f"members[{index}]: got {shown(member)}, expected {AN_ID}")
        self.sets[set_key] = frozenset(members)

    def _add_features(self, key: str, rest: str, values: object) -> None:
        name, _, item_id = rest.partition(":")
        if name not in self.features or not is_id(item_id):
            known = [f"{FEATURES}:{known_name}:{{item_id}}" for known_name in self.features]
            expected = " or ".join(known) or "no features here"
            raise _InvalidLine(f"key: got {shown(key)}, expected {expected}")
        if item_id in self.features[name]:
            raise _InvalidLine(f"key: got {shown(key)} for the second time, expected each key once")

        if not isinstance(values, list):
            raise _InvalidLine(f"features: got {shown(values)}, expected a list of numbers")
        self.features[name][item_id] = self._feature_sets[name].pack_positional(numbers(values))
