"""The options that commands share, and the frozen values that they become.

* Every setting has a flag and a variable, and `--help` names both.
* A command receives values. `gather` makes one value of several options before the command runs, so
  that no command passes unnamed options on.
* A value is valid once it is made. What cannot be valid raises ConfigurationError: exit code 2.
"""

import functools
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from workers.codec.formats import Format
from workers.outcomes.plan import PlanRefused, read_tuned_for
from workers.ranking.experiment import CONTROL, ExperimentRefused, check_arm_name
from workers.settings import FORMATS, SETTINGS, ConfigurationError, Setting, need, read_properties
from workers.streaming.clients import (
    ADMIN,
    READER,
    ClientKind,
    Cluster,
    KafkaConfigError,
    check_properties,
)
from workers.streaming.evidence import EvidenceTopics

CommandFunction = Callable[..., Any]
Decorator = Callable[[CommandFunction], CommandFunction]

KAFKA = ("kafka", "kafka_config")
_SERVERS = re.compile(r"[^@?#=]*")
"""Servers have none of these characters. A URL with a password has one, and so have properties."""

_UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


# From settings and options to values


def settings(*names: str) -> Decorator:
    """Give a command the options of these settings, each as a parameter of its own."""

    def decorate(command: CommandFunction) -> CommandFunction:
        for name in reversed(names):
            command = _setting_option(SETTINGS[name])(command)
        return command

    return decorate


def _setting_option(setting: Setting) -> Decorator:
    kind: click.ParamType = click.STRING
    if setting.is_number:
        kind = click.IntRange(setting.lowest, setting.most)
    elif setting.choices:
        kind = click.Choice(setting.choices)
    return click.option(
        setting.flag,
        setting.name,
        envvar=setting.variable,
        show_envvar=True,
        default=setting.default,
        show_default=setting.default is not None,
        type=kind,
        metavar=None if setting.choices else setting.value_name,
        help=setting.help,
    )


def gather(parameter: str, names: Sequence[str], make: Callable[..., object]) -> Decorator:
    """Make one value of the options `names` and pass it to the command as `parameter`.

    The options themselves must be given to the command by decorators above this one.
    """

    def decorate(command: CommandFunction) -> CommandFunction:
        @functools.wraps(command)
        def with_value(**options: Any) -> Any:
            parts = {name: options.pop(name) for name in names}
            return command(**options, **{parameter: make(**parts)})

        return with_value

    return decorate


def gather_settings(parameter: str, names: Sequence[str], make: Callable[..., object]) -> Decorator:
    """Give a command the options of these settings, gathered into one value as `parameter`."""

    def decorate(command: CommandFunction) -> CommandFunction:
        return settings(*names)(gather(parameter, names, make)(command))

    return decorate


def fields_argument(name: str, *, metavar: str, expected: str) -> Decorator:
    """An argument of one or more `field=value` words, as a mapping of texts."""

    def parse(
        _context: click.Context, _argument: click.Parameter, words: tuple[str, ...]
    ) -> dict[str, str]:
        return parse_fields(words, name, expected)

    return click.argument(name, metavar=metavar, nargs=-1, required=True, callback=parse)


def parse_fields(
    words: Iterable[str], option: str, expected: str = "objective=number"
) -> dict[str, str]:
    """`field=value` words as a mapping. Raises ConfigurationError naming the option."""
    fields = {}
    for word in words:
        field, equals, value = word.partition("=")
        if not equals or not field.strip():
            raise ConfigurationError(f"{option}: got {word!r}, expected {expected}")
        fields[field.strip()] = value.strip()
    return fields


def example(*lines: str) -> str:
    """The example at the end of a command's help. Its lines are not wrapped."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


# Kafka


@dataclass(frozen=True)
class BrokersAt:
    """Where Kafka is: bootstrap servers, and a file of librdkafka properties.

    `servers` is None if they are not set, because some commands can do without Kafka.
    """

    servers: str | None
    properties_file: Path | None = None

    @classmethod
    def of(cls, kafka: str | None, kafka_config: str | None) -> "BrokersAt":
        """From the settings of these names."""
        return cls(kafka, None if kafka_config is None else Path(kafka_config))

    def cluster(self, *clients: ClientKind) -> Cluster:
        """The cluster, with properties that these clients take. Without `clients`: a reader's.

        Raises ConfigurationError.
        """
        servers = need("kafka", self.servers)
        if not _SERVERS.fullmatch(servers):
            raise ConfigurationError(
                "kafka: got a value that is not shown, because it may hold a password; expected"
                " host:port[,host:port]. Passwords go into the file of --kafka-config"
            )

        path = self.properties_file
        try:
            cluster = Cluster(servers, read_properties(path))
            if path is not None:
                check_properties(cluster.properties, clients or (ADMIN, READER))
        except KafkaConfigError as error:
            raise ConfigurationError(f"{path}: {error}") from None
        return cluster


brokers_options = gather_settings("brokers", KAFKA, BrokersAt.of)
"""--kafka and --kafka-config, as `brokers`."""


def _evidence_topics(
    topic_feed_outcomes: str, topic_user_outcomes: str, topic_request_outcomes: str
) -> EvidenceTopics:
    return EvidenceTopics(topic_feed_outcomes, topic_user_outcomes, topic_request_outcomes)


evidence_options = gather_settings(
    "topics",
    ("topic_feed_outcomes", "topic_user_outcomes", "topic_request_outcomes"),
    _evidence_topics,
)
"""The topics that a report is made from, as `topics`."""


# Small options, each the same in every command that has it


def json_option(help_text: str = "Print JSON.") -> Decorator:
    """--json, as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help=help_text)


def arm_option(help_text: str) -> Decorator:
    """--arm, as `arm`: None for `control`, which is the surface itself."""
    return click.option("--arm", metavar="NAME", callback=_parse_arm, help=help_text)


def _parse_arm(_context: click.Context, _option: click.Parameter, arm: str | None) -> str | None:
    if arm is None or arm == CONTROL:
        return None
    try:
        check_arm_name(arm)
    except ExperimentRefused as refused:
        raise ConfigurationError(f"--{refused}") from None
    return arm


surface_argument = click.argument("surface")
events_argument = click.argument("file", type=click.File("rb"))


class PastTime(click.ParamType):
    """A time in ms since the epoch, given as a length of time before now or in ISO 8601.

    UTC if ISO 8601 names no offset.
    """

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value

        length = re.fullmatch(r"([0-9]{1,9})([smhd])", value)
        if length:
            return time.time_ns() // 1_000_000 - int(length[1]) * _UNITS_MS[length[2]]

        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                f"got {value!r}, expected a length of time such as 10m,"
                " or a time such as 2026-01-31T18:30Z"
            )
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1000)


class Percentage(click.ParamType):
    """A percentage as a fraction, such as 3%, 3 or -2.5%. Both bounds are excluded."""

    name = "percentage"

    def __init__(self, above: float, below: float) -> None:
        self._above = above
        self._below = below

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value

        number = re.fullmatch(r"\s*([+-]?[0-9]{1,9}(?:\.[0-9]{1,9})?)\s*%?\s*", value)
        fraction = float(Decimal(number[1]) / 100) if number else None
        if fraction is None or not self._above < fraction < self._below:
            self.fail(
                f"got {value!r}, expected a percentage above {100 * self._above:g} and below"
                f" {100 * self._below:g}, such as 3%"
            )
        return fraction


def _parse_tuned_for(
    _context: click.Context, _option: click.Parameter, text: str | None
) -> float | None:
    if text is None:
        return None
    try:
        return read_tuned_for(text)
    except PlanRefused as refused:
        raise ConfigurationError(f"--tuned-for: {refused}") from None


def tuned_for_option(help_text: str) -> Decorator:
    """--tuned-for, as `tuned_for`: a fraction, None if it is not given."""
    return click.option("--tuned-for", metavar="PERCENT", callback=_parse_tuned_for, help=help_text)


def _parse_format(
    _context: click.Context, _option: click.Parameter, name: str | None
) -> Format | None:
    return None if name is None else Format(name)


format_option = click.option(
    "--format",
    "file_format",
    type=click.Choice(FORMATS),
    callback=_parse_format,
    help="Format of FILE.  [default: detected]",
)
