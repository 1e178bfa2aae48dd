"""`trimtab models activate` and `rollback`: which version of a model is in force on all workers.

Both pin a version in Redis, on each surface that has the objective. A rollback chooses the version:

| live workers | the first of these that is not in force now                               |
|--------------|---------------------------------------------------------------------------|
| some         | the versions that the history pinned, newest first, if they are available |
|              | the available versions below the one in force, highest first              |
| none         | the versions that the history pinned, newest first                        |

A version is available if every live worker has verified it. If no version is left, nothing is
written.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from workers.commands.missing_workers import ExpectedWorkers, MissingWorkers, expected_options
from workers.commands.options import arm_option, example, json_option, settings
from workers.commands.redis_access import (
    ChangeBy,
    SteeringAt,
    change_options,
    steering_options,
)
from workers.commands.text import place_text
from workers.errors import Failure
from workers.ranking.experiment import CONTROL
from workers.ranking.pins import LATEST, Pins, PinsRefused
from workers.ranking.version import MAX_VERSION, read_version
from workers.scoring.folder import find_versions
from workers.settings import ConfigurationError
from workers.steering.editor import Change, SteeringEditor
from workers.steering.fleet import LiveWorker, versions_in_force
from workers.steering.history import HistoryEntry
from workers.steering.view import SurfaceView

NO_WORKER = "no worker lives that could say which versions are available"

_PAUSE_S = 0.02

Views = Mapping[str, SurfaceView]
"""By surface: the surfaces on which the version is to be pinned."""

_surface_option = click.option(
    "--surface",
    metavar="NAME",
    help="Only on this surface.  [default: on all that have the objective]",
)
_arm_option = arm_option(
    "Only for users of this arm.  [default: control, and arms that pin no other version]"
)
_wait_option = click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Wait until every worker scores with it, at most this long.",
)


@dataclass(frozen=True)
class Target:
    """What is pinned, and where. `arm` None: on the surface itself."""

    objective: str
    surface: str | None
    arm: str | None


@click.command(epilog=example("trimtab models activate quality 3 --reason 'better on new posts'"))
@click.argument("objective")
@click.argument("version", metavar="VERSION|latest")
@_surface_option
@_arm_option
@change_options("activate")
@_wait_option
@json_option()
@expected_options
@steering_options
def activate(
    objective: str,
    version: str,
    surface: str | None,
    arm: str | None,
    by: ChangeBy,
    wait_s: float | None,
    as_json: bool,
    expected: ExpectedWorkers,
    steering: SteeringAt,
) -> None:
    """Put VERSION of OBJECTIVE's model in force.

    It stays in force whatever is added to the folder, until `latest` ends that: then the highest
    available version is in force again. The version before is used until the new one is verified
    and loaded. Exit code 2 if a live worker does not have the version, or refuses it.
    """
    target = Target(objective, surface, arm)
    with steering.redis.open() as editor:
        views = _views(editor, steering, target)
        wanted = {name: _pins(view, target, version) for name, view in views.items()}
        _write(editor, views, arm, wanted, by)
        _finish(editor, views, target, wait_s, expected, as_json=as_json)


@click.command(epilog=example("trimtab models rollback quality"))
@click.argument("objective")
@_surface_option
@_arm_option
@change_options("rollback")
@_wait_option
@json_option()
@expected_options
@steering_options
@settings("models")
def rollback(
    objective: str,
    surface: str | None,
    arm: str | None,
    by: ChangeBy,
    wait_s: float | None,
    as_json: bool,
    expected: ExpectedWorkers,
    steering: SteeringAt,
    models: str,
) -> None:
    """Go back to an earlier version of OBJECTIVE's model.

    The version that was pinned before is pinned again, or else the next lower one.

    If no worker lives, nobody knows which versions are available. Then only a version that was
    pinned before is used, and without one the versions in the models folder are listed.
    """
    target = Target(objective, surface, arm)
    with steering.redis.open() as editor:
        views = _views(editor, steering, target)
        wanted = {}
        for name, view in views.items():
            version = _version_before(view, target, Path(models))
            wanted[name] = _pins(view, target, str(version))
        _write(editor, views, arm, wanted, by)
        _finish(editor, views, target, wait_s, expected, as_json=as_json)


# What is to be pinned, and on which surfaces


def _views(editor: SteeringEditor, steering: SteeringAt, target: Target) -> Views:
    """The surfaces of the target. Raises ConfigurationError if none has the objective."""
    known = steering.surfaces()
    if target.surface is not None and target.surface not in known:
        expected = ", ".join(known)
        raise ConfigurationError(f"--surface: got {target.surface!r}, expected one of: {expected}")

    workers = editor.live_workers()
    views: dict[str, SurfaceView] = {}
    objectives: dict[str, None] = {}  # of all these surfaces, in order
    for surface in known.values():
        if target.surface in (None, surface.name):
            view = editor.read_view(surface, target.arm, workers)
            available = view.available.objectives(surface)
            objectives.update(dict.fromkeys(available))
            if target.objective in available:
                views[surface.name] = view
    if views:
        return views

    no_worker = "" if workers else "; no worker lives that could name more"
    raise ConfigurationError(
        f"objective: got {target.objective!r}, expected one of: {', '.join(objectives)}{no_worker}"
    )


def _pins(view: SurfaceView, target: Target, version: str) -> Pins:
    """The pins in force with this version. Raises ConfigurationError if workers would refuse it."""
    pins = view.models_of(target.arm).in_force
    fields = {} if pins is None else pins.fields()
    try:
        return Pins.read(fields | {target.objective: version}, view.surface, view.available)
    except PinsRefused as refused:
        raise ConfigurationError(f"{view.surface.name}: {refused}") from None


def _version_before(view: SurfaceView, target: Target, folder: Path) -> int:
    """The version to go back to, by the table above. Raises Failure if there is none."""
    objective = target.objective
    document = view.models_of(target.arm)
    pinned = document.in_force.pinned if document.in_force else {}
    pinned_before = _pinned_before(document.entries, objective)
    place = f"{place_text(view.surface.name, target.arm)}: {objective}"

    if view.available.any_version:
        for version in pinned_before:
            if version != pinned.get(objective):
                return version
        numbers = []
        for found in find_versions(folder).get(objective, ()):
            if found.number <= MAX_VERSION:
                numbers.append(str(found.number))
        raise Failure(
            f"{place}: {NO_WORKER}, and no other was pinned before;"
            f" {folder / objective} holds {', '.join(numbers) or 'none'}:"
            f" trimtab models activate {objective} VERSION"
        )

    available = sorted(view.available.versions(objective, view.surface.feature_set), reverse=True)
    current = pinned.get(objective, max(available, default=None))
    if current is None:
        raise Failure(f"{place}: no version is available")

    for version in pinned_before:
        if version in available and version != current:
            return version
    for version in available:
        if version < current:
            return version

    others = [str(version) for version in sorted(available) if version != current]
    if others:
        raise Failure(
            f"{place}: no version below {current}, in force, is available,"
            f" only: {', '.join(others)}"
        )
    raise Failure(f"{place}: no version is available but {current}, in force")


def _pinned_before(entries: Sequence[HistoryEntry], objective: str) -> list[int]:
    """The versions that the history pinned, newest first, without those that workers refused."""
    versions = []
    for entry in reversed(entries):
        if entry.refused is None:
            version = read_version(entry.after.get(objective, LATEST))
            if version is not None:
                versions.append(version)
    return versions


# Writing, waiting and printing


def _write(
    editor: SteeringEditor,
    views: Views,
    arm: str | None,
    wanted: Mapping[str, Pins],
    by: ChangeBy,
) -> None:
    """Write the pins of each surface, unless Redis holds them already. Raises ChangedMeanwhile."""
    for name, view in views.items():
        change = Change(view.models_of(arm), wanted[name])
        if not change.changes_nothing:
            editor.write(view, [change], by.actor, by.reason)


def _finish(
    editor: SteeringEditor,
    views: Views,
    target: Target,
    wait_s: float | None,
    expected: ExpectedWorkers,
    *,
    as_json: bool,
) -> None:
    """Wait if that is wanted, and print what is pinned now."""
    workers = editor.live_workers()
    after = {
        name: editor.read_view(view.surface, target.arm, workers) for name, view in views.items()
    }

    unchecked = [name for name, view in after.items() if view.available.any_version]
    if unchecked:
        click.echo(f"{', '.join(unchecked)}: {NO_WORKER}: what is pinned is not checked", err=True)
    if wait_s is not None:
        _wait(editor, after, target, wait_s, expected)

    for name, view in after.items():
        document = view.models_of(target.arm)
        fields = document.value.fields() if document.value else {}
        version = fields.get(target.objective, LATEST)
        if as_json:
            result = {
                "surface": name,
                "arm": target.arm or CONTROL,
                "objective": target.objective,
                "version": version,
                "revision": document.revision,
            }
            click.echo(json.dumps(result))
        else:
            place = place_text(name, target.arm)
            click.echo(f"{place}: {target.objective} {version}, revision {document.revision}")


def _wait(
    editor: SteeringEditor,
    views: Views,
    target: Target,
    wait_s: float,
    expected: ExpectedWorkers,
) -> None:
    """Return once the version is in force on every worker. Raises Failure if it is not in time."""
    missing_workers = MissingWorkers(expected, editor.keys)
    at_least = expected.count or 0
    deadline = time.monotonic() + wait_s
    while True:
        fleet = editor.read_fleet()
        behind = _behind(fleet.workers, views, target)
        is_late = time.monotonic() > deadline
        if not behind or is_late:
            missing = missing_workers.find(fleet, len(fleet.workers))
            if not behind and missing.is_empty and len(fleet.workers) >= at_least:
                return
            if is_late:
                break
        time.sleep(_PAUSE_S)

    reasons = missing_workers.explain(missing, fleet.silent)
    if fleet.workers and len(fleet.workers) < at_least:
        reasons.insert(0, f"{len(fleet.workers)} live workers, expected at least {at_least}")
    raise Failure(
        f"{target.objective}: not in force on all workers: {'; '.join([*behind, *reasons])}"
    )


def _behind(workers: Sequence[LiveWorker], views: Views, target: Target) -> list[str]:
    """The workers on which another version is in force, for people."""
    if not workers:
        return ["no worker lives"]

    behind = []
    for name, view in views.items():
        pins = view.models_of(target.arm).value
        wanted = None if pins is None else pins.pinned.get(target.objective)
        if not wanted:
            available = view.available.versions(target.objective, view.surface.feature_set)
            wanted = max(available, default=None)

        for worker, version in versions_in_force(
            workers, name, target.arm, target.objective
        ).items():
            if version != wanted:
                behind.append(f"{worker} at {version}")
    return behind
