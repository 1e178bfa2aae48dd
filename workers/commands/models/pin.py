"""`trimtab models activate` and `rollback`: which version of a model is in force, on every worker
at once.
"""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from workers.commands.desk import (
    DESK,
    actor_or_login,
    as_json,
    change_options,
    open_desk,
    own_arm,
    place,
)
from workers.commands.everyone import Everyone, Expected, expected_of, expected_options
from workers.commands.options import example, settings
from workers.errors import Failure
from workers.ranking.experiment import CONTROL
from workers.ranking.pins import LATEST, Pins, PinsRefused
from workers.ranking.surface import Surface
from workers.ranking.version import MAX_VERSION, read_version
from workers.scoring.folder import find_versions
from workers.settings import ConfigurationError
from workers.steering.editor import Change, SteeringEditor
from workers.steering.fleet import LiveWorker, versions_in_force
from workers.steering.history import HistoryEntry
from workers.steering.view import SurfaceView
from workers.surfaces import load_surfaces

NO_WORKER = "no worker lives that could say which versions are available"

_PAUSE_S = 0.02

_of_surface = click.option(
    "--surface", help="Only on this surface.  [default: on all that have the objective]"
)
_of_arm = click.option(
    "--arm", help="Only for this arm's users.  [default: control, and arms that pin nothing else]"
)
_wait = click.option(
    "--wait",
    type=click.FloatRange(0),
    help="Wait until every worker scores with it, at most N seconds.",
)


@click.command(epilog=example("trimtab models activate quality 3 --reason 'better on new posts'"))
@click.argument("objective")
@click.argument("version", metavar="VERSION|latest")
@_of_surface
@_of_arm
@change_options("activate")
@_wait
@as_json
@expected_options
@settings(*DESK)
def activate(objective: str, version: str, **given: Any) -> None:
    """Put VERSION of OBJECTIVE's model in force, and keep it there whatever comes into the folder.

    `latest` ends that: the highest version that is available is in force again. Exit code 2 where a
    live worker does not have the version, or refuses it. What was in force goes on until the
    version is verified and loaded.
    """
    _turn(objective, lambda view, arm: version, **given)


@click.command(epilog=example("trimtab models rollback quality"))
@click.argument("objective")
@_of_surface
@_of_arm
@change_options("rollback")
@_wait
@as_json
@expected_options
@settings(*DESK, "models")
def rollback(objective: str, models: str, **given: Any) -> None:
    """Go back to the version of OBJECTIVE's model that was pinned before, else to the next lower
    one, and pin it.

    Where no worker lives, nobody knows which versions are available: then it goes to the version
    that was pinned before, and without one it names those in the folder of models.
    """
    _turn(objective, lambda view, arm: str(_before(view, arm, objective, Path(models))), **given)


def _turn(
    objective: str,
    version_on: Callable[[SurfaceView, str | None], str],
    *,
    surface: str | None,
    arm: str | None,
    reason: str,
    actor: str | None,
    wait: float | None,
    as_json: bool,
    surfaces: str,
    **given: Any,
) -> None:
    """Pin the version that is meant on each surface, wait where that is asked, and say what is
    pinned.
    """
    arm, expected = own_arm(arm), expected_of(given)
    with open_desk(**given) as desk:
        views = _views(desk, surfaces, surface, objective, arm)
        wanted = {
            name: _pinned(view, arm, objective, version_on(view, arm))
            for name, view in views.items()
        }
        _write(desk, views, arm, wanted, actor, reason)
        _finish(desk, views, arm, objective, wait, expected, as_json)


def _views(
    desk: SteeringEditor, surfaces: str, surface: str | None, objective: str, arm: str | None
) -> dict[str, SurfaceView]:
    """The surfaces that are meant. Raises ConfigurationError where there is none."""
    known = load_surfaces(Path(surfaces))
    if surface is not None and surface not in known:
        raise ConfigurationError(f"--surface: got {surface!r}, expected one of: {', '.join(known)}")
    meant = [one for one in known.values() if surface in (None, one.name)]
    workers = desk.live_workers()
    views = {one.name: desk.read_view(one, arm, workers) for one in meant}
    having = {
        name: view
        for name, view in views.items()
        if objective in view.available.objectives(view.surface)
    }
    if not having:
        no_more = "" if workers else "; no worker lives that could name more"
        raise ConfigurationError(
            f"objective: got {objective!r}, expected one of: {_objectives(meant, views)}{no_more}"
        )
    return having


def _objectives(surfaces: list[Surface], views: dict[str, SurfaceView]) -> str:
    return ", ".join(
        dict.fromkeys(o for one in surfaces for o in views[one.name].available.objectives(one))
    )


def _pinned(view: SurfaceView, arm: str | None, objective: str, version: str) -> Pins:
    """The pins in force with this one changed. Raises ConfigurationError where a worker would
    refuse it.
    """
    pins = view.models_of(arm).in_force
    fields = {} if pins is None else pins.fields()
    try:
        return Pins.read(fields | {objective: version}, view.surface, view.available)
    except PinsRefused as refused:
        raise ConfigurationError(f"{view.surface.name}: {refused}") from None


def _before(view: SurfaceView, arm: str | None, objective: str, folder: Path) -> int:
    """The version to go back to. Raises Failure where there is none, or nobody can say."""
    document = view.models_of(arm)
    pinned = document.in_force.pinned if document.in_force else {}
    pinned_before = _pinned_before(document.entries, objective)
    where = place(view.surface.name, arm)
    if view.available.any_version:
        for version in pinned_before:
            if version != pinned.get(objective):
                return version
        raise Failure(f"{where}: {objective}: {_unknown(folder, objective)}")
    available = view.available.versions(objective, view.surface.feature_set)
    now = pinned.get(objective, max(available, default=None))
    for version in [*pinned_before, *sorted(available, reverse=True)]:
        is_back = version in pinned_before or now is None or version < now
        if version in available and version != now and is_back:
            return version
    others = ", ".join(str(version) for version in sorted(available) if version != now)
    if now is None:
        raise Failure(f"{where}: {objective}: no version is available")
    if others:
        raise Failure(
            f"{where}: {objective}: no version below {now}, in force, is available, only: {others}"
        )
    raise Failure(f"{where}: {objective}: no version is available but {now}, in force")


def _pinned_before(entries: Sequence[HistoryEntry], objective: str) -> list[int]:
    """The versions that the history pinned, the newest first, without what workers refused."""
    taken = [
        entry.after.get(objective, LATEST) for entry in reversed(entries) if entry.refused is None
    ]
    return [version for text in taken if (version := read_version(text)) is not None]


def _unknown(folder: Path, objective: str) -> str:
    """Why nothing can be gone back to where no worker lives, and what to do."""
    found = [
        str(one.number)
        for one in find_versions(folder).get(objective, ())
        if one.number <= MAX_VERSION
    ]
    there = f"{folder / objective} holds {', '.join(found) or 'none'}"
    return f"{NO_WORKER}, and no other was pinned before; {there}: trimtab models activate {objective} VERSION"


def _write(
    desk: SteeringEditor,
    views: dict[str, SurfaceView],
    arm: str | None,
    wanted: dict[str, Pins],
    actor: str | None,
    reason: str,
) -> None:
    for name, view in views.items():
        change = Change(view.models_of(arm), wanted[name])
        if not change.changes_nothing:
            desk.write(view, [change], actor_or_login(actor), reason)


def _finish(
    desk: SteeringEditor,
    views: dict[str, SurfaceView],
    arm: str | None,
    objective: str,
    wait: float | None,
    expected: Expected,
    as_json: bool,
) -> None:
    workers = desk.live_workers()
    after = {name: desk.read_view(view.surface, arm, workers) for name, view in views.items()}
    unheard = [name for name, view in after.items() if view.available.any_version]
    if unheard:
        click.echo(f"{', '.join(unheard)}: {NO_WORKER}: what is pinned is not checked", err=True)
    if wait is not None:
        _await(desk, after, arm, objective, wait, Everyone(expected, desk.keys))
    for name, view in after.items():
        pins = view.models_of(arm).value
        version = (pins.fields() if pins else {}).get(objective, LATEST)
        if as_json:
            document = {
                "surface": name,
                "arm": arm or CONTROL,
                "objective": objective,
                "version": version,
            }
            click.echo(json.dumps(document | {"revision": view.models_of(arm).revision}))
        else:
            click.echo(
                f"{place(name, arm)}: {objective} {version}, revision {view.models_of(arm).revision}"
            )


def _await(
    desk: SteeringEditor,
    views: dict[str, SurfaceView],
    arm: str | None,
    objective: str,
    seconds: float,
    everyone: Everyone,
) -> None:
    """Raises Failure if it is not in force on every worker in time."""
    expected = everyone.expected
    deadline = time.monotonic() + seconds
    while True:
        live = desk.read_fleet()
        behind = _behind(live.workers, views, arm, objective)
        is_late = time.monotonic() > deadline
        if not behind or is_late:
            heard = everyone.heard(live, len(live.workers))
            if not behind and heard.is_all and len(live.workers) >= (expected or 0):
                return
            if is_late:
                break
        time.sleep(_PAUSE_S)

    missing = everyone.missing(heard, live.silent)
    if live.workers and len(live.workers) < (expected or 0):
        missing.insert(0, f"{len(live.workers)} live workers, expected at least {expected}")
    raise Failure(f"{objective}: not in force on all workers: {'; '.join([*behind, *missing])}")


def _behind(
    workers: list[LiveWorker], views: dict[str, SurfaceView], arm: str | None, objective: str
) -> list[str]:
    if not workers:
        return ["no worker lives"]
    return [
        f"{worker} at {version}"
        for name, view in views.items()
        for worker, version in versions_in_force(workers, name, arm, objective).items()
        if version != _wanted(view, arm, objective)
    ]


def _wanted(view: SurfaceView, arm: str | None, objective: str) -> int | None:
    pins = view.models_of(arm).value
    pinned = None if pins is None else pins.pinned.get(objective)
    return pinned or max(view.available.versions(objective, view.surface.feature_set), default=None)
