"""`trimtab experiment`: start a canary, ramp it, promote its weights, stop."""

import json
import secrets
from collections.abc import Mapping
from typing import Any

import click

from workers.commands.desk import (
    DESK,
    actor_or_login,
    as_json,
    change_options,
    last_change,
    mix,
    of_surface,
    open_surface,
    set_document,
)
from workers.commands.options import example, fields_of, settings
from workers.errors import Failure
from workers.ranking.experiment import CONTROL, SALT, Experiment, ExperimentRefused
from workers.ranking.weights import Weights
from workers.settings import ConfigurationError
from workers.steering.editor import Change, SteeringEditor
from workers.steering.view import SurfaceView

_arms = click.argument("arms", metavar="ARM=PERCENT...", nargs=-1, required=True)


@click.group(epilog=example("trimtab experiment start home canary=5"))
def experiment() -> None:
    """Arms: a share of users ranked under other weights, each user always in the same arm."""


@experiment.command(
    epilog=example(
        "trimtab experiment start home canary=5", "trimtab experiment start home a=10 b=10"
    )
)
@of_surface
@_arms
@click.option(
    "--salt", help="What parts this draw from that of other experiments.  [default: a new one]"
)
@change_options("start")
@as_json
@settings(*DESK)
def start(
    surface: str,
    arms: tuple[str, ...],
    salt: str | None,
    reason: str,
    actor: str | None,
    as_json: bool,
    **desk: Any,
) -> None:
    """Draw that share of SURFACE's users into each arm; the rest is `control`.

    Each arm needs weights first: trimtab weights set SURFACE --arm ARM ...
    """
    with open_surface(surface, **desk) as opened:
        view = opened.desk.read_view(opened.surface)
        if view.running is not None:
            raise Failure(
                f"{surface}: an experiment runs ({shares(view.running)}): ramp it or stop it"
            )
        drawn = salt or f"{surface}-{secrets.token_hex(4)}"
        _write(
            opened.desk,
            view,
            _experiment(view, {SALT: drawn} | _percents(arms)),
            actor,
            reason,
            as_json,
        )


@experiment.command(epilog=example("trimtab experiment ramp home canary=20"))
@of_surface
@_arms
@change_options("ramp")
@as_json
@settings(*DESK)
def ramp(
    surface: str, arms: tuple[str, ...], reason: str, actor: str | None, as_json: bool, **desk: Any
) -> None:
    """Change the share of arms of the running experiment. Users who are in an arm that grows stay
    there.
    """
    with open_surface(surface, **desk) as opened:
        view = opened.desk.read_view(opened.surface)
        running, percents = _running(view), _percents(arms)
        for arm in percents:
            if arm not in running.shares:
                known = ", ".join(running.shares)
                raise ConfigurationError(
                    f"arm: got {arm!r}, expected one of the experiment's: {known}"
                )
        _write(
            opened.desk,
            view,
            _experiment(view, running.fields() | percents),
            actor,
            reason,
            as_json,
        )


@experiment.command(epilog=example("trimtab experiment stop home"))
@of_surface
@change_options("stop")
@as_json
@settings(*DESK)
def stop(surface: str, reason: str, actor: str | None, as_json: bool, **desk: Any) -> None:
    """Put all users back into `control`. The arms keep their weights, for another start."""
    with open_surface(surface, **desk) as opened:
        view = opened.desk.read_view(opened.surface)
        _write(opened.desk, view, _stopped(_running(view)), actor, reason, as_json)


@experiment.command(epilog=example("trimtab experiment promote home canary"))
@of_surface
@click.argument("arm")
@change_options("promote")
@as_json
@settings(*DESK)
def promote(
    surface: str, arm: str, reason: str, actor: str | None, as_json: bool, **desk: Any
) -> None:
    """Make the arm's weights those of SURFACE and stop the experiment, in one step."""
    with open_surface(surface, **desk) as opened:
        view = opened.desk.read_view(opened.surface)
        running = _running(view)
        if arm not in running.shares:
            raise ConfigurationError(
                f"arm: got {arm!r}, expected one of the experiment's: {', '.join(running.shares)}"
            )
        weights = Change(view.weights, _armed(view, arm))
        _write(opened.desk, view, _stopped(running), actor, reason, as_json, weights)


@experiment.command(epilog=example("trimtab experiment show home"))
@of_surface
@as_json
@settings(*DESK)
def show(surface: str, as_json: bool, **desk: Any) -> None:
    """The experiment on SURFACE: its arms, their shares and weights."""
    with open_surface(surface, **desk) as opened:
        view = opened.desk.read_view(opened.surface)
    click.echo(json.dumps(document(view)) if as_json else "\n".join(lines(view)))


def document(view: SurfaceView) -> dict[str, object]:
    """The experiment for --json."""
    found = view.experiment
    arms = (
        {}
        if found.in_force is None
        else {arm: found.in_force.percent(arm) for arm in found.in_force.shares}
    )
    return {
        "surface": view.surface.name,
        "running": view.running is not None,
        "salt": found.in_force and found.in_force.salt,
        "control": 100.0 if found.in_force is None else found.in_force.percent(CONTROL),
        "arms": {
            arm: {"percent": percent, "weights": _set_of(view, arm)}
            for arm, percent in arms.items()
        },
        "refused": found.content.refused,
        "revision": found.revision,
        "actor": found.last and found.last.actor,
        "reason": found.last and found.last.reason,
        "at": found.last and found.last.at,
    }


def lines(view: SurfaceView) -> list[str]:
    """The experiment for people."""
    found, running = view.experiment, view.running
    refused = [f"  refused: {found.content.refused}"] if found.content.refused else []
    if running is None:
        return [f"{view.surface.name}: no experiment runs ({last_change(found, view)})", *refused]
    arms = {CONTROL: view.weights.in_force} | {
        arm: view.arms[arm].in_force for arm in running.shares
    }
    rows = [
        f"  {arm:<20} {running.percent(arm):>6g} %  {'no weights' if weights is None else mix(weights.values)}"
        for arm, weights in arms.items()
    ]
    return [
        f"{view.surface.name}: salt {running.salt}, {last_change(found, view)}",
        *rows,
        *refused,
    ]


def shares(experiment: Experiment) -> str:
    """The arms and their shares, for people."""
    return ", ".join(f"{arm} {experiment.percent(arm):g} %" for arm in experiment.shares)


def _percents(arms: tuple[str, ...]) -> dict[str, str]:
    return fields_of(arms, "arms", "arm=percent")


def _experiment(view: SurfaceView, fields: Mapping[str, str]) -> Experiment:
    """The experiment of these fields. Raises ConfigurationError where workers would refuse it."""
    try:
        wanted = Experiment.read(fields)
    except ExperimentRefused as refused:
        raise ConfigurationError(f"experiment: {refused}") from None
    for arm in wanted.shares:
        _armed(view, arm)
    return wanted


def _armed(view: SurfaceView, arm: str) -> Weights:
    """The arm's weights. Raises ConfigurationError where it has none."""
    weights = view.arms[arm].in_force if arm in view.arms else None
    if weights is None:
        how = f"trimtab weights set {view.surface.name} --arm {arm} ..."
        raise ConfigurationError(f"arm: {arm} has no weights, expected a valid set first: {how}")
    return weights


def _running(view: SurfaceView) -> Experiment:
    if view.running is None:
        raise Failure(f"{view.surface.name}: no experiment runs")
    return view.running


def _stopped(experiment: Experiment) -> Experiment:
    """A missing experiment would change nothing: an empty Redis looks alike."""
    return Experiment(experiment.salt, dict.fromkeys(experiment.shares, 0))


def _write(
    desk: SteeringEditor,
    view: SurfaceView,
    wanted: Experiment,
    actor: str | None,
    reason: str,
    as_json: bool,
    *also: Change,
) -> None:
    changes = [
        change for change in (*also, Change(view.experiment, wanted)) if not change.changes_nothing
    ]
    if changes:
        desk.write(view, changes, actor_or_login(actor), reason)
    after = desk.read_view(view.surface)
    click.echo(json.dumps(document(after)) if as_json else "\n".join(lines(after)))


def _set_of(view: SurfaceView, arm: str) -> dict[str, object] | None:
    weights = view.arms[arm].in_force
    return None if weights is None else set_document(weights)
