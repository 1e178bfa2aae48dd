"""What the commands that steer share: their options, the desk they open, and words for people."""

import os
import pwd
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from workers.commands.options import settings
from workers.ranking.experiment import CONTROL, ExperimentRefused, check_arm_name
from workers.ranking.surface import Surface
from workers.ranking.weights import Weights
from workers.settings import ConfigurationError, need
from workers.steering.editor import SteeringEditor
from workers.steering.history import HistoryEntry
from workers.steering.view import DocumentView, SurfaceView
from workers.surfaces import load_surfaces

F = TypeVar("F", bound=Callable[..., Any])
REDIS = ("redis", "redis_prefix", "redis_timeout_ms")
DESK = (*REDIS, "surfaces")

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
of_arm = click.option("--arm", help="Of this arm.  [default: control, the surface's own weights]")
of_surface = click.argument("surface")
expect = click.option(
    "--expect", metavar="REVISION|VERSION", help="Refuse where the weights are not at this."
)


def change_options(reason: str | None) -> Callable[[F], F]:
    """--reason and --actor; `reason` is the default where none has to be given."""

    def decorate(command: F) -> F:
        why = click.option(
            "--reason", required=reason is None, default=reason, help="Why, for the history."
        )
        return settings("actor")(why(command))

    return decorate


class Opened(NamedTuple):
    """The desk, and the surface that the command is about."""

    desk: SteeringEditor
    surface: Surface


@contextmanager
def open_desk(
    redis: str | None, redis_prefix: str, redis_timeout_ms: int
) -> Iterator[SteeringEditor]:
    """A desk that is connected. Raises ConfigurationError and RedisUnreachable."""
    try:
        desk = SteeringEditor(need("redis", redis), redis_prefix, redis_timeout_ms / 1000)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    with desk:
        yield desk


@contextmanager
def open_surface(
    name: str, *, redis: str | None, redis_prefix: str, redis_timeout_ms: int, surfaces: str
) -> Iterator[Opened]:
    """A desk, and the surface of that name. Raises ConfigurationError and RedisUnreachable."""
    surface = surface_of(surfaces, name)
    with open_desk(redis, redis_prefix, redis_timeout_ms) as desk:
        yield Opened(desk, surface)


def surface_of(surfaces: str, name: str) -> Surface:
    """The surface of that name. Raises ConfigurationError."""
    known = load_surfaces(Path(surfaces))
    if name not in known:
        raise ConfigurationError(f"surface: got {name!r}, expected one of: {', '.join(known)}")
    return known[name]


def own_arm(arm: str | None) -> str | None:
    """The arm, None for `control`: the surface's own weights. Raises ConfigurationError for what
    cannot be one.
    """
    if arm in (None, CONTROL):
        return None
    try:
        check_arm_name(str(arm))
    except ExperimentRefused as refused:
        raise ConfigurationError(f"--{refused}") from None
    return arm


def actor_or_login(actor: str | None) -> str:
    """Who makes the change."""
    if actor:
        return actor
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def place(surface: str, arm: str | None) -> str:
    """SetOwner weights, for people."""
    return surface if arm is None else f"{surface}, arm {arm}"


def mix(values: Mapping[str, float]) -> str:
    """Weights for people."""
    return ", ".join(f"{objective} {weight:g}" for objective, weight in values.items())


def moment(at: int) -> str:
    """A time in UTC, to the millisecond."""
    return (
        datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.") + f"{at % 1000:03d}Z"
    )


def ago(milliseconds: int) -> str:
    """An age for people."""
    seconds = max(0, milliseconds) // 1000
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def set_document(weights: Weights) -> dict[str, object]:
    """A set for --json."""
    return {"version": weights.version, "values": dict(weights.values)}


def entry_document(entry: HistoryEntry) -> dict[str, object]:
    """An entry of the history for --json."""
    return {
        "revision": entry.revision,
        "at": entry.at,
        "document": entry.document,
        "actor": entry.actor,
        "reason": entry.reason,
        "before": dict(entry.before),
        "after": dict(entry.after),
        "version": entry.version,
        "refused": entry.refused,
    }


def last_change(document: DocumentView[Any], view: SurfaceView) -> str:
    """Who changed it last, when and why, for people."""
    if not document.is_recorded:
        return "changed by hand, not recorded yet"
    if document.last is None:
        return "never set"
    why = f': "{document.last.reason}"' if document.last.reason else ""
    return f"revision {document.revision}, {ago(view.now - document.last.at)} ago by {document.last.actor}{why}"
