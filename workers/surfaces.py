"""surfaces.toml: read once, and validated as a whole.

A mistake is a ConfigurationError that names file, key, value and what was expected.
"""

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from workers.ranking.diversify import Diversity
from workers.ranking.features import FeatureSet
from workers.ranking.outcome_rules import OutcomeRule, OutcomeRules
from workers.ranking.surface import DropSet, SetOwner, Surface, Surfaces, check_drop_sets
from workers.ranking.weights import WeightRules
from workers.settings import ConfigurationError, read_text

T = TypeVar("T")

_WHOLE_NUMBERS = ("deadline_ms", "horizon_ms", "max_candidates", "top_k", "max_per_source")


def load_surfaces(path: Path) -> Surfaces:
    """Read and validate surfaces.toml. Raises ConfigurationError."""
    try:
        root = _Table(path, "", tomllib.loads(read_text(path)))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: {error}, expected TOML") from None

    feature_sets = root.table("feature_sets").each(_feature_set)
    surfaces = root.table("surfaces").each(lambda name, table: _surface(name, table, feature_sets))
    root.build(lambda: check_drop_sets(surfaces))
    if not surfaces:
        raise ConfigurationError(f"{path}: surfaces: none is described, expected at least one")
    return surfaces


def _feature_set(name: str, table: "_Table") -> FeatureSet:
    names = table.strings("names")
    defaults = table.numbers("defaults")
    bounds = table.ranges("bounds")
    return table.build(lambda: FeatureSet(name, names, defaults, bounds))


def _surface(name: str, table: "_Table", feature_sets: Mapping[str, FeatureSet]) -> Surface:
    feature_set = table.string("feature_set")
    if feature_set not in feature_sets:
        raise table.wrong("feature_set", feature_set, f"one of: {', '.join(feature_sets)}")

    objectives = table.strings("objectives")
    default_weights = _default_weights(table, objectives)
    weight_bounds = table.ranges("weight_bounds")

    whole_numbers = {}
    for key in _WHOLE_NUMBERS:
        number = table.integer(key)
        if number is not None:
            whole_numbers[key] = number

    diversity = table.optional_table("diversity", _diversity)
    set_owners = table.set_owners("drop")
    lookup_features = table.flag("lookup_features")
    outcomes = table.optional_table("outcomes", _outcomes)

    def construct() -> Surface:
        return Surface(
            name,
            feature_sets[feature_set],
            objectives,
            WeightRules(default_weights, weight_bounds),
            diversity=diversity,
            drop=tuple(DropSet(set_name, owner) for set_name, owner in set_owners.items()),
            lookup_features=lookup_features,
            outcomes=outcomes,
            **whole_numbers,
        )

    return table.build(construct)


def _default_weights(table: "_Table", objectives: tuple[str, ...]) -> dict[str, float]:
    """A weight for each objective, in the order of the objectives."""
    given = table.numbers("weights")
    for objective in sorted(given):
        if objective not in objectives:
            expected = f"one of: {', '.join(objectives)}"
            raise table.wrong(f"weights.{objective}", given[objective], expected)

    weights = {}
    for objective in objectives:
        if objective not in given:
            raise table.wrong(f"weights.{objective}", None, "a weight for every objective")
        weights[objective] = given[objective]
    return weights


def _diversity(table: "_Table") -> Diversity:
    decay = table.number("decay")
    floor = table.number("floor", 0.0)
    return table.build(lambda: Diversity(decay, floor))


def _outcomes(table: "_Table") -> OutcomeRules:
    window_s = table.integer("window_s")
    if window_s is None:
        raise table.wrong("window_s", None, "a whole number of seconds")
    seen = None
    if not table.is_word("seen", "above"):
        seen = _outcome("seen", table.table("seen"))
    take = _outcome("take", table.table("take"))
    others = table.optional_table("others", lambda others: others.each(_outcome)) or {}
    return table.build(lambda: OutcomeRules(window_s, seen, take, others))


def _outcome(_name: str, table: "_Table") -> OutcomeRule:
    kind = table.string("kind")
    at_least = table.optional_number("at_least")
    return table.build(lambda: OutcomeRule(kind, at_least))


class _Table:
    """One table of the file.

    Each key that is read is remembered, because a key that was not read is a mistake: `done`
    reports it. `prefix` is the path of the table, such as `surfaces.home.`.
    """

    def __init__(self, path: Path, prefix: str, values: Mapping[str, object]) -> None:
        self._path = path
        self._prefix = prefix
        self._values = values
        self._read: set[str] = set()

    def wrong(self, key: str, value: object, expected: str) -> ConfigurationError:
        """The error of a value that is not what was expected. None: there is no value."""
        got = "nothing" if value is None else repr(value)
        return ConfigurationError(
            f"{self._path}: {self._prefix}{key}: got {got}, expected {expected}"
        )

    def build(self, construct: Callable[[], T]) -> T:
        """Construct a frozen value once every key is read. A ValueError is a mistake in this table."""
        self.done()
        try:
            return construct()
        except ValueError as error:
            raise ConfigurationError(f"{self._path}: {self._prefix}{error}") from None

    def done(self) -> None:
        """Raise ConfigurationError if the table has a key that was not read."""
        unknown = sorted(set(self._values) - self._read)
        if unknown:
            known = ", ".join(sorted(self._read))
            raise self.wrong(unknown[0], self._values[unknown[0]], f"one of the keys: {known}")

    # Tables in this one

    def table(self, key: str) -> "_Table":
        value = self._get(key)
        if not isinstance(value, dict):
            raise self.wrong(key, value, "a table")
        return _Table(self._path, f"{self._prefix}{key}.", value)

    def each(self, build: Callable[[str, "_Table"], T]) -> dict[str, T]:
        """Build a value of each key of this table. All are tables."""
        return {key: build(key, self.table(key)) for key in self._values}

    def optional_table(self, key: str, build: Callable[["_Table"], T]) -> T | None:
        return None if self._get(key) is None else build(self.table(key))

    # Values

    def string(self, key: str) -> str:
        value = self._get(key)
        if not isinstance(value, str):
            raise self.wrong(key, value, "a string")
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        value = self._get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self.wrong(key, value, "a list of strings")
        return tuple(value)

    def integer(self, key: str) -> int | None:
        value = self._get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise self.wrong(key, value, "a whole number")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self._get(key)
        number = default if value is None else _parse_number(value)
        if number is None:
            raise self.wrong(key, value, "a number")
        return number

    def optional_number(self, key: str) -> float | None:
        return None if self._get(key) is None else self.number(key)

    def is_word(self, key: str, word: str) -> bool:
        """Whether the value is this word, where a table may be given instead."""
        value = self._get(key)
        if value is None or (isinstance(value, str) and value != word):
            raise self.wrong(key, value, f"a table or {word!r}")
        return value == word

    def flag(self, key: str) -> bool:
        value = self._get(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, value, "true or false")
        return value is True

    # Tables of one kind of value, by their keys

    def set_owners(self, key: str) -> dict[str, SetOwner]:
        return self._mapping(key, _parse_set_owner, "'user' or 'surface'")

    def numbers(self, key: str) -> dict[str, float]:
        return self._mapping(key, _parse_number, "a number")

    def ranges(self, key: str) -> dict[str, tuple[float, float]]:
        return self._mapping(key, _parse_range, "[low, high]")

    def _mapping(
        self, key: str, parse: Callable[[object], T | None], expected: str
    ) -> dict[str, T]:
        """Parse each value of a table; empty if it is missing. `parse` returns None for a mistake."""
        if self._get(key) is None:
            return {}
        table = self.table(key)
        mapping = {}
        for name, value in table._values.items():
            parsed = parse(value)
            if parsed is None:
                raise table.wrong(name, value, expected)
            mapping[name] = parsed
        return mapping

    def _get(self, key: str) -> object:
        self._read.add(key)
        return self._values.get(key)


def _parse_set_owner(value: object) -> SetOwner | None:
    for owner in SetOwner:
        if owner == value:
            return owner
    return None


def _parse_number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _parse_range(value: object) -> tuple[float, float] | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    low = _parse_number(value[0])
    high = _parse_number(value[1])
    return None if low is None or high is None else (low, high)
