"""Settings as options: each has its flag and its variable, and both are named in `--help`."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from workers.settings import SETTINGS, ConfigurationError, Setting, need, read_properties
from workers.streaming.clients import (
    ADMIN,
    READER,
    ClientKind,
    Cluster,
    KafkaConfigError,
    check_properties,
)

F = TypeVar("F", bound=Callable[..., Any])
KAFKA = ("kafka", "kafka_config")


def settings(*names: str) -> Callable[[F], F]:
    """Give a command the options of these settings."""

    def decorate(command: F) -> F:
        for name in reversed(names):
            command = _option(SETTINGS[name])(command)
        return command

    return decorate


def _option(setting: Setting) -> Callable[[F], F]:
    return click.option(
        setting.flag,
        setting.name,
        envvar=setting.variable,
        show_envvar=True,
        default=setting.default,
        show_default=setting.default is not None,
        type=_kind(setting),
        help=setting.help,
    )


def _kind(setting: Setting) -> Any:
    if setting.least is not None or isinstance(setting.default, int):
        return click.IntRange(1 if setting.least is None else setting.least)
    return click.Choice(setting.choices) if setting.choices else click.STRING


def cluster_of(kafka: str | None, kafka_config: str | None, *clients: ClientKind) -> Cluster:
    """The cluster that the settings name; by these clients (a reader's, if none are named) its
    properties are taken.

    Raises ConfigurationError.
    """
    path = None if kafka_config is None else Path(kafka_config)
    try:
        cluster = Cluster(need("kafka", kafka), read_properties(path))
        if path is not None:
            check_properties(cluster.properties, clients or (ADMIN, READER))
    except KafkaConfigError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    return cluster


def fields_of(
    parts: Iterable[str], option: str, expected: str = "objective=number"
) -> dict[str, str]:
    """`name=value` words as a mapping. Raises ConfigurationError naming the option."""
    fields = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise ConfigurationError(f"{option}: got {part!r}, expected {expected}")
        fields[name.strip()] = value.strip()
    return fields


def example(*lines: str) -> str:
    """The example at the end of a command's help, kept as it is written."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)
