"""How commands reach Redis: where it is, which surface they read or change, and on whose behalf."""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import click

from workers.commands.options import CommandFunction, Decorator, gather, gather_settings, settings
from workers.commands.text import age_text, printable
from workers.ranking.surface import Surface, Surfaces
from workers.settings import ConfigurationError, need
from workers.steering.editor import SteeringEditor
from workers.steering.view import DocumentView, SurfaceView
from workers.surfaces import load_surfaces

REDIS = ("redis", "redis_prefix", "redis_timeout_ms")


@dataclass(frozen=True)
class RedisAt:
    """Where Redis is, and the prefix of its keys."""

    url: str = field(repr=False)
    prefix: str
    timeout_s: float

    @classmethod
    def of(cls, redis: str | None, redis_prefix: str, redis_timeout_ms: int) -> "RedisAt":
        """From the settings of these names. Raises ConfigurationError if there is no URL."""
        return cls(need("redis", redis), redis_prefix, redis_timeout_ms / 1000)

    @contextmanager
    def open(self) -> Iterator[SteeringEditor]:
        """A connected editor. Raises ConfigurationError for a wrong URL, and RedisUnreachable."""
        try:
            editor = SteeringEditor(self.url, self.prefix, self.timeout_s)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        with editor:
            yield editor


class OpenSurface(NamedTuple):
    """A connected editor, and the surface that the command is about."""

    editor: SteeringEditor
    surface: Surface


@dataclass(frozen=True)
class SteeringAt:
    """Where the steering documents are, and the file that describes their surfaces."""

    redis: RedisAt
    surfaces_file: Path

    @classmethod
    def of(
        cls, redis: str | None, redis_prefix: str, redis_timeout_ms: int, surfaces: str
    ) -> "SteeringAt":
        """From the settings of these names. Raises ConfigurationError if there is no URL."""
        return cls(RedisAt.of(redis, redis_prefix, redis_timeout_ms), Path(surfaces))

    def surfaces(self) -> Surfaces:
        """All surfaces. Raises ConfigurationError."""
        return load_surfaces(self.surfaces_file)

    def surface(self, name: str) -> Surface:
        """The surface of that name. Raises ConfigurationError."""
        surfaces = self.surfaces()
        if name not in surfaces:
            known = ", ".join(surfaces)
            raise ConfigurationError(f"surface: got {name!r}, expected one of: {known}")
        return surfaces[name]

    @contextmanager
    def open(self, surface: str) -> Iterator[OpenSurface]:
        """A connected editor and the surface of that name.

        Raises ConfigurationError and RedisUnreachable.
        """
        described = self.surface(surface)
        with self.redis.open() as editor:
            yield OpenSurface(editor, described)


redis_options = gather_settings("redis", REDIS, RedisAt.of)
"""--redis, --redis-prefix and --redis-timeout-ms, as `redis`."""

steering_options = gather_settings("steering", (*REDIS, "surfaces"), SteeringAt.of)
"""The options of Redis and --surfaces, as `steering`."""


@dataclass(frozen=True)
class ChangeBy:
    """Who makes a change, and why: both are recorded in the history."""

    actor: str
    reason: str

    @classmethod
    def of(cls, actor: str | None, reason: str) -> "ChangeBy":
        """From the options of these names. Without an actor: the login name."""
        if not actor:
            try:
                actor = pwd.getpwuid(os.getuid()).pw_name
            except KeyError:
                actor = f"uid {os.getuid()}"
        return cls(actor, reason)


def change_options(default_reason: str | None) -> Decorator:
    """--reason and --actor, as `by`. Without a default, --reason is required."""

    def decorate(command: CommandFunction) -> CommandFunction:
        help_text = "Reason of the change, for the history."
        # With a default of None, click 8.3 does not require the option.
        if default_reason is None:
            reason = click.option("--reason", required=True, help=help_text)
        else:
            reason = click.option(
                "--reason", default=default_reason, show_default=True, help=help_text
            )
        gathered = gather("by", ("actor", "reason"), ChangeBy.of)(command)
        return settings("actor")(reason(gathered))

    return decorate


def last_change_text(
    document: DocumentView[Any], view: SurfaceView, *, shows_reason: bool = True
) -> str:
    """Who changed a document last, when and why."""
    if not document.is_recorded:
        return "changed by hand, not recorded yet"
    last = document.last
    if last is None:
        return "never set"
    reason = f': "{printable(last.reason)}"' if last.reason and shows_reason else ""
    return (
        f"revision {document.revision}, {age_text(view.now - last.at)} ago"
        f" by {printable(last.actor)}{reason}"
    )
