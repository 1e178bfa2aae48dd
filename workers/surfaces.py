"""surfaces.toml: read once and validated whole; a mistake is named with file, key, value and what
was expected.
"""

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from workers.ranking.diversify import Diversity
from workers.ranking.features import FeatureSet
from workers.ranking.surface import DropSet, SetOwner, Surface, Surfaces, check_drop_sets
from workers.ranking.weights import WeightRules
from workers.settings import ConfigurationError, read_text

T = TypeVar("T")


def load_surfaces(path: Path) -> Surfaces:
    """Read and validate surfaces.toml whole. Raises ConfigurationError."""
    try:
        root = _Table(path, "", tomllib.loads(read_text(path)))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: {error}, expected TOML") from None
    sets = root.table("feature_sets").each(_feature_set)
    surfaces = root.table("surfaces").each(lambda name, table: _surface(name, table, sets))
    root.build(lambda: check_drop_sets(surfaces))
    if not surfaces:
        raise ConfigurationError(f"{path}: surfaces: none is described, expected at least one")
    return surfaces


def _feature_set(name: str, table: "_Table") -> FeatureSet:
    values = table.strings("names"), table.numbers("defaults"), table.ranges("bounds")
    return table.build(lambda: FeatureSet(name, *values))


_WHOLE_NUMBERS = ("deadline_ms", "horizon_ms", "max_candidates", "top_k", "max_per_source")


def _surface(name: str, table: "_Table", sets: Mapping[str, FeatureSet]) -> Surface:
    wanted = table.string("feature_set")
    if wanted not in sets:
        raise table.wrong("feature_set", wanted, f"one of: {', '.join(sets)}")
    objectives = table.strings("objectives")
    given = table.numbers("weights")
    unknown = sorted(set(given) - set(objectives))
    if unknown:
        raise table.wrong(
            f"weights.{unknown[0]}", given[unknown[0]], f"one of: {', '.join(objectives)}"
        )
    missing = [o for o in objectives if o not in given]
    if missing:
        raise table.wrong(f"weights.{missing[0]}", None, "a weight for every objective")
    bounds = table.ranges("weight_bounds")
    defaults = {objective: given[objective] for objective in objectives}
    numbers = {key: value for key in _WHOLE_NUMBERS if (value := table.integer(key)) is not None}
    diversity, drop, looked_up = (
        table.part("diversity", _diversity),
        table.whose("drop"),
        table.flag("lookup_features"),
    )
    return table.build(
        lambda: Surface(
            name,
            sets[wanted],
            objectives,
            WeightRules(defaults, bounds),
            diversity=diversity,
            drop=tuple(DropSet(*one) for one in drop.items()),
            lookup_features=looked_up,
            **numbers,
        )
    )


def _diversity(table: "_Table") -> Diversity:
    decay, floor = table.number("decay"), table.number("floor", 0.0)
    return table.build(lambda: Diversity(decay, floor))


class _Table:
    """One table of the file; every key that is read is ticked off, and one left over is a mistake."""

    def __init__(self, path: Path, at: str, values: Mapping[str, object]) -> None:
        self._path, self._at, self._values = path, at, values
        self._read: set[str] = set()

    def wrong(self, key: str, value: object, expected: str) -> ConfigurationError:
        got = "nothing" if value is None else repr(value)
        return ConfigurationError(f"{self._path}: {self._at}{key}: got {got}, expected {expected}")

    def _get(self, key: str) -> object:
        self._read.add(key)
        return self._values.get(key)

    def table(self, key: str) -> "_Table":
        value = self._get(key)
        if not isinstance(value, dict):
            raise self.wrong(key, value, "a table")
        return _Table(self._path, f"{self._at}{key}.", value)

    def each(self, build: Callable[[str, "_Table"], T]) -> dict[str, T]:
        return {key: build(key, self.table(key)) for key in self._values}

    def part(self, key: str, build: Callable[["_Table"], T]) -> T | None:
        """Build of a table that need not be there."""
        return None if self._get(key) is None else build(self.table(key))

    def build(self, construct: Callable[[], T]) -> T:
        """Construct a frozen value once every key is read, and say where its complaint belongs."""
        self.done()
        try:
            return construct()
        except ValueError as error:
            raise ConfigurationError(f"{self._path}: {self._at}{error}") from None

    def done(self) -> None:
        unknown = sorted(set(self._values) - self._read)
        if unknown:
            known = ", ".join(sorted(self._read))
            raise self.wrong(unknown[0], self._values[unknown[0]], f"one of the keys: {known}")

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
        number = default if value is None else _number(value)
        if number is None:
            raise self.wrong(key, value, "a number")
        return number

    def flag(self, key: str) -> bool:
        value = self._get(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, value, "true or false")
        return value is True

    def whose(self, key: str) -> dict[str, SetOwner]:
        return self._mapping(
            key,
            lambda value: next((w for w in SetOwner if w == value), None),
            "'user' or 'surface'",
        )

    def numbers(self, key: str) -> dict[str, float]:
        return self._mapping(key, _number, "a number")

    def ranges(self, key: str) -> dict[str, tuple[float, float]]:
        return self._mapping(key, _range, "[low, high]")

    def _mapping(self, key: str, read: Callable[[object], T | None], expected: str) -> dict[str, T]:
        if self._get(key) is None:
            return {}
        table = self.table(key)
        found = {}
        for name, value in table._values.items():
            parsed = read(value)
            if parsed is None:
                raise table.wrong(name, value, expected)
            found[name] = parsed
        return found


def _number(value: object) -> float | None:
    try:
        return (
            float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
        )
    except OverflowError:
        return None


def _range(value: object) -> tuple[float, float] | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    low, high = (_number(item) for item in value)
    return None if low is None or high is None else (low, high)
