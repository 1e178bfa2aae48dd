"""Settings and librdkafka properties: read and validated in one place.

A mistake is a `ConfigurationError` that names the file, the key, the value and what was expected.
The values frozen here are valid: nothing downstream checks them again.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from workers.codec.text_files import NotUtf8, decode_text


class ConfigurationError(Exception):
    """The command was used or configured wrongly. It ends with this message and exit code 2."""


class Setting(NamedTuple):
    """One setting: a flag of the command line and a variable of the environment.

    It is a number if its default is one or if `least` is given. Without `least` the lowest is 1,
    without `most` there is no highest.
    `value_name` stands for the value in `--help`, unless there are choices.
    """

    name: str
    default: str | int | None
    help: str
    value_name: str = "N"
    choices: tuple[str, ...] = ()
    least: int | None = None
    most: int | None = None

    @property
    def flag(self) -> str:
        """The flag, such as `--group-protocol`."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The variable, such as `TRIMTAB_GROUP_PROTOCOL`."""
        return "TRIMTAB_" + self.name.upper()

    @property
    def is_number(self) -> bool:
        """Whether the value is a whole number."""
        return self.least is not None or isinstance(self.default, int)

    @property
    def lowest(self) -> int:
        """The lowest value of a number."""
        return 1 if self.least is None else self.least


_NAME_OF_PROPERTY = re.compile(r"[A-Za-z]+([._-][A-Za-z]+)*")
_CONTENT_OF_PROPERTIES = re.compile(r"[=\n]")

FORMATS = ("json", "protobuf")
PARTITIONERS = ("any", "murmur2")
PROTOCOLS = ("cooperative-sticky", "range", "consumer")

_ALL_SETTINGS = (
    # Where things are
    Setting(
        "kafka",
        default=None,
        value_name="SERVERS",
        help="Kafka bootstrap servers, host:port[,host:port].",
    ),
    Setting(
        "kafka_config",
        default=None,
        value_name="FILE",
        help="File of librdkafka properties (SASL, TLS, ...) for every Kafka client.",
    ),
    Setting(
        "redis",
        default=None,
        value_name="URL",
        help="Redis URL: redis://, rediss:// or unix://.",
    ),
    Setting(
        "redis_prefix",
        default="",
        value_name="PREFIX",
        help="Prefix of every Redis key.",
    ),
    Setting(
        "redis_timeout_ms",
        default=1000,
        help="Milliseconds to wait for a connection to Redis, and for each answer. Timeouts in the URL win.",
    ),
    Setting(
        "actor",
        default=None,
        value_name="NAME",
        help="Who makes a change, for the history. Without it: the login name.",
    ),
    Setting(
        "surfaces",
        default="deploy/surfaces.toml",
        value_name="FILE",
        help="File that describes the surfaces.",
    ),
    # Models
    Setting(
        "models",
        default="onnx_models",
        value_name="DIR",
        help="Folder of objective models: <objective>/<version>/model.onnx.",
    ),
    Setting(
        "models_mb",
        default=1024,
        help="Mebibytes of models that a worker keeps loaded. Above it, the least recently used are unloaded.",
    ),
    Setting(
        "models_wait_s",
        default=30,
        least=0,
        help="Seconds that a request waits for models to load. After that its feed is not scored.",
    ),
    # Topics
    Setting(
        "topic_candidates",
        default="candidates",
        value_name="TOPIC",
        help="Topic of candidate events.",
    ),
    Setting(
        "topic_feeds",
        default="ranked-feeds",
        value_name="TOPIC",
        help="Topic of ranked feeds.",
    ),
    Setting(
        "topic_dead_letters",
        default="candidates.dead-letters",
        value_name="TOPIC",
        help="Topic of refused events.",
    ),
    Setting(
        "topic_interactions",
        default="interactions",
        value_name="TOPIC",
        help="Topic of feed records and interactions.",
    ),
    Setting(
        "topic_interaction_letters",
        default="interactions.dead-letters",
        value_name="TOPIC",
        help="Topic of refused interactions.",
    ),
    Setting(
        "topic_request_outcomes",
        default="request-outcomes",
        value_name="TOPIC",
        help="Topic of the outcomes of each feed.",
    ),
    Setting(
        "topic_feed_outcomes",
        default="feed-outcomes",
        value_name="TOPIC",
        help="Topic of sums of outcomes.",
    ),
    Setting(
        "topic_user_outcomes",
        default="user-outcomes",
        value_name="TOPIC",
        help="Topic of sums by user.",
    ),
    Setting(
        "topic_user_changelog",
        default="user-outcomes.changelog",
        value_name="TOPIC",
        help="Topic in which the users stage keeps what it knows of each user.",
    ),
    Setting(
        "candidates_format",
        default="json",
        choices=FORMATS,
        help="Format of events without a content-type header.",
    ),
    Setting(
        "candidates_partitioner",
        default="any",
        choices=PARTITIONERS,
        help="Partitioner of producers. murmur2: refuse an event in another partition; any: only count it.",
    ),
    Setting(
        "feeds_format",
        default="json",
        choices=FORMATS,
        help="Format in which feeds are published.",
    ),
    Setting(
        "interactions_format",
        default="json",
        choices=FORMATS,
        help="Format of interactions without a content-type header.",
    ),
    Setting(
        "outcomes_format",
        default="json",
        choices=FORMATS,
        help="Format in which outcomes are published.",
    ),
    # The groups, and this process in its group
    Setting(
        "group",
        default="trimtab",
        value_name="NAME",
        help="Consumer group of the workers.",
    ),
    Setting(
        "outcomes_group",
        default="trimtab-outcomes",
        value_name="NAME",
        help="Consumer group of the join.",
    ),
    Setting(
        "users_group",
        default="trimtab-users",
        value_name="NAME",
        help="Consumer group of the users stage.",
    ),
    Setting(
        "group_protocol",
        default="cooperative-sticky",
        choices=PROTOCOLS,
        help="How the group assigns partitions.",
    ),
    Setting(
        "slot",
        default=None,
        least=0,
        help="Number of this process's slot on its host. Without it: the lowest free one.",
    ),
    Setting(
        "home",
        default="~/.trimtab",
        value_name="DIR",
        help="Folder of local state: slots, last known good weights, the local stack.",
    ),
    Setting(
        "cache",
        default="~/.cache/trimtab",
        value_name="DIR",
        help="Folder of downloads: the local stack's Kafka.",
    ),
    # Limits of a process
    Setting(
        "linger_ms",
        default=50,
        least=0,
        most=1000,
        help="Milliseconds between two transactions, at least. Requests that close meanwhile share one.",
    ),
    Setting(
        "lookup_ms",
        default=20,
        help="Milliseconds that a micro-batch waits for look-ups in Redis. After that feeds go without.",
    ),
    Setting(
        "max_open_requests",
        default=100_000,
        help="Open requests that a worker holds. Above it, the oldest is evicted.",
    ),
    Setting(
        "max_open_mb",
        default=1024,
        help="Mebibytes of open requests that a worker holds. Above it, the oldest is evicted.",
    ),
    Setting(
        "max_outcomes_mb",
        default=1024,
        help="Mebibytes of open feeds that the join holds. Above it, the join stops with an error.",
    ),
    Setting(
        "users_days",
        default=14,
        help="Days that the users stage keeps users of a phase of an experiment that is not seen any more.",
    ),
    Setting(
        "users_port",
        default=None,
        least=1,
        help="Port on 127.0.0.1 of the users stage's live view, for the first slot of a host.",
    ),
    # Metrics and health
    Setting(
        "metrics_port",
        default=None,
        least=1,
        most=65_535,
        help="Port of metrics and health, for the first slot of a host. Without it: none are served.",
    ),
    Setting(
        "metrics_host",
        default="127.0.0.1",
        value_name="ADDRESS",
        help="Address that metrics and health are served on.",
    ),
    # Traces
    Setting(
        "trace_endpoint",
        default=None,
        value_name="URL",
        help="OTLP/HTTP address of a collector of traces, http:// or https://. Without it: nothing is traced.",
    ),
    Setting(
        "trace_ratio",
        default="0",
        value_name="RATIO",
        help="Share of requests without a trace context that are traced, from 0 to 1.",
    ),
)
SETTINGS: Mapping[str, Setting] = {setting.name: setting for setting in _ALL_SETTINGS}


@dataclass(frozen=True)
class WorkerSettings:
    """The settings of a worker, by the names of SETTINGS."""

    kafka: str | None
    kafka_config: str | None
    redis: str | None = field(repr=False)
    redis_prefix: str
    redis_timeout_ms: int
    surfaces: str
    models: str
    models_mb: int
    models_wait_s: int
    topic_candidates: str
    topic_feeds: str
    topic_dead_letters: str
    topic_interactions: str
    candidates_format: str
    candidates_partitioner: str
    feeds_format: str
    group: str
    group_protocol: str
    slot: int | None
    home: str
    metrics_port: int | None
    metrics_host: str
    trace_endpoint: str | None = field(repr=False)
    trace_ratio: str
    linger_ms: int
    lookup_ms: int
    max_open_requests: int
    max_open_mb: int

    @property
    def home_folder(self) -> Path:
        """The folder of local state. Raises ConfigurationError."""
        return folder_of("home", self.home)


@dataclass(frozen=True)
class JoinSettings:
    """The settings of a process that joins outcomes, by the names of SETTINGS. Redis only gets its
    status.
    """

    kafka: str | None
    kafka_config: str | None
    redis: str | None = field(repr=False)
    redis_prefix: str
    redis_timeout_ms: int
    surfaces: str
    topic_interactions: str
    topic_interaction_letters: str
    topic_request_outcomes: str
    topic_feed_outcomes: str
    interactions_format: str
    outcomes_format: str
    outcomes_group: str
    group_protocol: str
    slot: int | None
    home: str
    metrics_port: int | None
    metrics_host: str
    max_outcomes_mb: int

    @property
    def home_folder(self) -> Path:
        """The folder of local state. Raises ConfigurationError."""
        return folder_of("home", self.home)


@dataclass(frozen=True)
class UsersSettings:
    """The settings of a process of the users stage, by the names of SETTINGS."""

    kafka: str | None
    kafka_config: str | None
    redis: str | None = field(repr=False)
    redis_prefix: str
    redis_timeout_ms: int
    surfaces: str
    topic_request_outcomes: str
    topic_feed_outcomes: str
    topic_user_outcomes: str
    topic_user_changelog: str
    users_group: str
    slot: int | None
    home: str
    metrics_port: int | None
    metrics_host: str
    users_days: int
    users_port: int | None

    @property
    def home_folder(self) -> Path:
        """The folder of local state. Raises ConfigurationError."""
        return folder_of("home", self.home)


def folder_of(name: str, value: str) -> Path:
    """The folder that a setting names. `~` is the home of the user. Raises ConfigurationError."""
    try:
        return Path(value).expanduser()
    except RuntimeError:
        user = Path(value).parts[0].removeprefix("~")
        why = f"no HOME is set, and user id {os.getuid()} has no home"
        if user:
            why = f"there is no user {user!r}"
        raise ConfigurationError(
            f"{name}: got {value!r}, expected a folder; {why}. {how_to_set(name)}"
        ) from None


def how_to_set(name: str) -> str:
    """How to change a setting, for people."""
    setting = SETTINGS[name]
    return f"Give another with {setting.flag} or {setting.variable}"


def need(name: str, value: str | None) -> str:
    """A setting that the command cannot do without. Raises ConfigurationError."""
    if value:
        return value

    setting = SETTINGS[name]
    described = setting.help[0].lower() + setting.help[1:]
    hint = f'try: eval "$(trimtab stack up --export)", or give {setting.flag} or {setting.variable}'
    raise ConfigurationError(f"{name}: not set, expected {described} {hint}")


def read_properties(path: Path | None) -> dict[str, str]:
    """Read a file of librdkafka properties: `key=value` lines, `#` for comments.

    None: no properties. Raises ConfigurationError. It shows nothing of a line that cannot be read,
    because that may be `sasl.password: ...`, or a line of a private key.
    """
    if path is None:
        return {}
    if _CONTENT_OF_PROPERTIES.search(str(path)) and not path.exists():
        raise ConfigurationError(
            f"kafka_config: got a value that is not shown, because it looks like properties and may"
            f" hold a password; expected the path of a file of them. {how_to_set('kafka_config')}"
        )

    properties = {}
    for number, line in enumerate(re.split(r"\r\n?|\n", read_text(path)), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        key, equals, value = stripped.partition("=")
        if not equals or not _NAME_OF_PROPERTY.fullmatch(key.strip()):
            raise ConfigurationError(
                f"{path}: line {number}: got a line that is not shown, because it may hold a"
                " password; expected key=value, with a key of letters and dots"
            )
        properties[key.strip()] = value.strip()
    return properties


def read_text(path: Path) -> str:
    """The text of a configuration file, without a byte order mark.

    Raises ConfigurationError if it cannot be read.
    """
    try:
        return decode_text(path.read_bytes())
    except (OSError, NotUtf8, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from None
