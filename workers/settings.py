"""The one place where configuration is read and validated: settings, librdkafka properties, surfaces.toml.

A mistake is a `ConfigurationError` that names the file, the key, the value and what was expected. The values
frozen here are valid: nothing downstream checks them again.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from workers.ranking.diversify import Diversity
from workers.ranking.drop_set import DropSet, Whose
from workers.ranking.features import FeatureSet
from workers.ranking.surface import Surface, Surfaces, check_drop_sets
from workers.ranking.weights import WeightRules

T = TypeVar("T")


class ConfigurationError(Exception):
    """Whoever runs the command is at fault: it stops with exit code 2 and this message."""


class Setting(NamedTuple):
    """One setting: a flag of the command line and a variable of the environment."""

    name: str
    default: str | int | None
    help: str
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """The flag, such as `--group-protocol`."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The variable, such as `TRIMTAB_GROUP_PROTOCOL`."""
        return "TRIMTAB_" + self.name.upper()


FORMATS = ("json", "protobuf")
PROTOCOLS = ("cooperative-sticky", "range", "consumer")

SETTINGS: Mapping[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting("kafka", None, "Kafka bootstrap servers, host:port[,host:port]."),
        Setting("kafka_config", None, "File of librdkafka properties (SASL, TLS, ...) for every Kafka client."),
        Setting("redis", None, "Redis URL: redis://, rediss:// or unix://."),
        Setting("redis_prefix", "", "Prefix of every Redis key."),
        Setting("actor", None, "Who changes weights, for the history; none: the login name."),
        Setting("surfaces", "deploy/surfaces.toml", "File that describes the surfaces."),
        Setting("models", "onnx_models", "Folder of objective models: <objective>/<version>/model.onnx."),
        Setting("models_mb", 1024, "Mebibytes of loaded models a worker holds; past it the least recently used go."),
        Setting("models_wait_s", 30, "Seconds a request waits for models that load; past it none of it is scored."),
        Setting("topic_candidates", "candidates", "Topic of candidate events."),
        Setting("topic_feeds", "ranked-feeds", "Topic of ranked feeds."),
        Setting("topic_dead_letters", "candidates.dead-letters", "Topic of refused events."),
        Setting("candidates_format", "json", "Format of events without a content-type header.", FORMATS),
        Setting("feeds_format", "json", "Format in which feeds are published.", FORMATS),
        Setting("group", "trimtab", "Consumer group of the workers."),
        Setting("group_protocol", "cooperative-sticky", "How the group shares out partitions.", PROTOCOLS),
        Setting("slot", None, "Slot of this worker on its host (a number); none: the lowest free one."),
        Setting("home", "~/.trimtab", "Folder of local state: slots, last known good weights, the local stack."),
        Setting("cache", "~/.cache/trimtab", "Folder of downloaded things: the local stack's Kafka."),
        Setting("lookup_ms", 20, "Milliseconds that a micro-batch waits for look-ups in Redis; then feeds go without."),
        Setting("max_open_requests", 100_000, "Open requests a worker holds; past it the oldest is evicted."),
        Setting("max_open_mb", 1024, "Mebibytes of open requests a worker holds; past it the oldest is evicted."),
    )
}


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker is told, by the names of SETTINGS."""

    kafka: str | None
    kafka_config: str | None
    redis: str | None
    redis_prefix: str
    surfaces: str
    models: str
    models_mb: int
    models_wait_s: int
    topic_candidates: str
    topic_feeds: str
    topic_dead_letters: str
    candidates_format: str
    feeds_format: str
    group: str
    group_protocol: str
    slot: int | None
    home: str
    lookup_ms: int
    max_open_requests: int
    max_open_mb: int

    @property
    def home_folder(self) -> Path:
        """The folder of local state."""
        return Path(self.home).expanduser()


def need(name: str, value: str | None) -> str:
    """A setting that the command cannot do without. Raises ConfigurationError."""
    if value:
        return value
    setting = SETTINGS[name]
    hint = f'try: eval "$(trimtab stack up --export)", or give {setting.flag} or {setting.variable}'
    raise ConfigurationError(f"{name}: not set, expected {setting.help[0].lower() + setting.help[1:]} {hint}")


def read_properties(path: Path | None) -> dict[str, str]:
    """Read a file of librdkafka properties: `key=value` lines, `#` for comments. Raises ConfigurationError."""
    if path is None:
        return {}
    properties = {}
    for number, line in enumerate(_read(path).splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        key, equals, value = stripped.partition("=")
        if not equals or not key.strip():
            raise ConfigurationError(f"{path}: line {number}: got {stripped!r}, expected key=value")
        properties[key.strip()] = value.strip()
    return properties


def load_surfaces(path: Path) -> Surfaces:
    """Read and validate surfaces.toml whole. Raises ConfigurationError."""
    try:
        root = _Table(path, "", tomllib.loads(_read(path)))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: {error}, expected TOML") from None
    sets = root.table("feature_sets").each(_feature_set)
    surfaces = root.table("surfaces").each(lambda name, table: _surface(name, table, sets))
    root.build(lambda: check_drop_sets(surfaces))
    if not surfaces:
        raise ConfigurationError(f"{path}: surfaces: none is described, expected at least one")
    return surfaces


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from None


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
        raise table.wrong(f"weights.{unknown[0]}", given[unknown[0]], f"one of: {', '.join(objectives)}")
    missing = [o for o in objectives if o not in given]
    if missing:
        raise table.wrong(f"weights.{missing[0]}", None, "a weight for every objective")
    bounds = table.ranges("weight_bounds")
    defaults = {objective: given[objective] for objective in objectives}
    numbers = {key: value for key in _WHOLE_NUMBERS if (value := table.integer(key)) is not None}
    diversity, drop, looked_up = table.part("diversity", _diversity), table.whose("drop"), table.flag("lookup_features")
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

    def whose(self, key: str) -> dict[str, Whose]:
        return self._mapping(key, lambda value: next((w for w in Whose if w == value), None), "'user' or 'surface'")

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
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    except OverflowError:
        return None


def _range(value: object) -> tuple[float, float] | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    low, high = (_number(item) for item in value)
    return None if low is None or high is None else (low, high)
