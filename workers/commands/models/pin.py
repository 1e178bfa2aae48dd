"""`trimtab models activate` and `rollback`: which version of a model is in force, on every worker at once."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from workers.commands.desk import DESK, actor_or_login, as_json, change_options, open_desk, own_arm, place
from workers.commands.options import example, settings
from workers.observe.failure import Failure
from workers.ranking.experiment import CONTROL
from workers.ranking.pins import LATEST, Pins, PinsRefused
from workers.ranking.surface import Surface
from workers.settings import ConfigurationError
from workers.steering.agreement import in_force
from workers.steering.desk import Change, Desk
from workers.steering.live import LiveWorker
from workers.steering.view import View
from workers.surfaces import load_surfaces

_PAUSE_S = 0.02

_of_surface = click.option("--surface", help="Only on this surface.  [default: on all that have the objective]")
_of_arm = click.option("--arm", help="Only for this arm's users.  [default: control, and arms that pin nothing else]")
_wait = click.option(
    "--wait", type=click.FloatRange(0), help="Wait until every live worker scores with it, at most so many seconds."
)


@click.command(epilog=example("trimtab models activate quality 3 --reason 'better on new posts'"))
@click.argument("objective")
@click.argument("version", metavar="VERSION|latest")
@_of_surface
@_of_arm
@change_options("activate")
@_wait
@as_json
@settings(*DESK)
def activate(objective: str, version: str, **given: Any) -> None:
    """Put VERSION of OBJECTIVE's model in force, and keep it there whatever comes into the folder.

    `latest` ends that: the highest version that is available is in force again. Exit code 2 where a live worker does
    not have the version, or refuses it. What was in force goes on until the version is verified and loaded.
    """
    _turn(objective, lambda view, arm: version, **given)


@click.command(epilog=example("trimtab models rollback quality"))
@click.argument("objective")
@_of_surface
@_of_arm
@change_options("rollback")
@_wait
@as_json
@settings(*DESK)
def rollback(objective: str, **given: Any) -> None:
    """Go back to the version of OBJECTIVE's model that was pinned before, else to the next lower one, and pin it."""
    _turn(objective, lambda view, arm: str(_before(view, arm, objective)), **given)


def _turn(
    objective: str,
    version_on: Callable[[View, str | None], str],
    *,
    surface: str | None,
    arm: str | None,
    reason: str,
    actor: str | None,
    wait: float | None,
    as_json: bool,
    redis: str | None,
    redis_prefix: str,
    surfaces: str,
) -> None:
    """Pin the version that is meant on each surface, wait where that is asked, and say what is pinned."""
    arm = own_arm(arm)
    with open_desk(redis, redis_prefix) as desk:
        views = _views(desk, surfaces, surface, objective, arm)
        wanted = {name: _pinned(view, arm, objective, version_on(view, arm)) for name, view in views.items()}
        _write(desk, views, arm, wanted, actor, reason)
        _finish(desk, views, arm, objective, wait, as_json)


def _views(desk: Desk, surfaces: str, surface: str | None, objective: str, arm: str | None) -> dict[str, View]:
    """The surfaces that are meant. Raises ConfigurationError where there is none."""
    known = load_surfaces(Path(surfaces))
    if surface is not None and surface not in known:
        raise ConfigurationError(f"--surface: got {surface!r}, expected one of: {', '.join(known)}")
    meant = [one for one in known.values() if surface in (None, one.name)]
    workers = desk.workers()
    views = {one.name: desk.look(one, arm, workers) for one in meant}
    having = {name: view for name, view in views.items() if objective in view.available.objectives(view.surface)}
    if not having:
        raise ConfigurationError(f"objective: got {objective!r}, expected one of: {_objectives(meant, views)}")
    return having


def _objectives(surfaces: list[Surface], views: dict[str, View]) -> str:
    return ", ".join(dict.fromkeys(o for one in surfaces for o in views[one.name].available.objectives(one)))


def _pinned(view: View, arm: str | None, objective: str, version: str) -> Pins:
    """The pins in force with this one changed. Raises ConfigurationError where a worker would refuse it."""
    pins = view.models_for(arm).in_force
    fields = {} if pins is None else pins.fields()
    try:
        return Pins.read(fields | {objective: version}, view.surface, view.available)
    except PinsRefused as refused:
        raise ConfigurationError(f"{view.surface.name}: {refused}") from None


def _before(view: View, arm: str | None, objective: str) -> int:
    document, available = view.models_for(arm), view.available.versions(objective, view.surface.feature_set)
    pinned = document.in_force.pinned if document.in_force else {}
    now = pinned.get(objective, max(available, default=0))
    pinned_before = [entry.after.get(objective, LATEST) for entry in reversed(document.entries)]
    for version in [int(one) for one in pinned_before if one.isdigit()] + sorted(available, reverse=True):
        if version in available and (version < now or str(version) in pinned_before) and version != now:
            return version
    raise Failure(f"{place(view.surface.name, arm)}: {objective}: no version is available but {now}, in force")


def _write(
    desk: Desk, views: dict[str, View], arm: str | None, wanted: dict[str, Pins], actor: str | None, reason: str
) -> None:
    for name, view in views.items():
        change = Change(view.models_for(arm), wanted[name])
        if not change.is_none:
            desk.write(view, [change], actor_or_login(actor), reason)


def _finish(
    desk: Desk, views: dict[str, View], arm: str | None, objective: str, wait: float | None, as_json: bool
) -> None:
    workers = desk.workers()
    after = {name: desk.look(view.surface, arm, workers) for name, view in views.items()}
    if wait is not None:
        _await(desk, after, arm, objective, wait)
    for name, view in after.items():
        pins = view.models_for(arm).value
        version = (pins.fields() if pins else {}).get(objective, LATEST)
        if as_json:
            document = {"surface": name, "arm": arm or CONTROL, "objective": objective, "version": version}
            click.echo(json.dumps(document | {"revision": view.models_for(arm).revision}))
        else:
            click.echo(f"{place(name, arm)}: {objective} {version}, revision {view.models_for(arm).revision}")


def _await(desk: Desk, views: dict[str, View], arm: str | None, objective: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while behind := _behind(desk.workers(), views, arm, objective):
        if time.monotonic() > deadline:
            raise Failure(f"{objective}: not in force on all workers: {', '.join(behind)}")
        time.sleep(_PAUSE_S)


def _behind(workers: list[LiveWorker], views: dict[str, View], arm: str | None, objective: str) -> list[str]:
    return [
        f"{worker} at {version}"
        for name, view in views.items()
        for worker, version in in_force(workers, name, arm, objective).items()
        if version != _wanted(view, arm, objective)
    ]


def _wanted(view: View, arm: str | None, objective: str) -> int | None:
    pins = view.models_for(arm).value
    pinned = None if pins is None else pins.pinned.get(objective)
    return pinned or max(view.available.versions(objective, view.surface.feature_set), default=None)
