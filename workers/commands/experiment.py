"""`trimtab experiment`: rank a share of users under other weights."""

import json
import secrets
from collections.abc import Mapping, Sequence

import click

from workers.commands.experiment_plan import plan
from workers.commands.options import example, fields_argument, json_option, surface_argument
from workers.commands.redis_access import (
    ChangeBy,
    OpenSurface,
    SteeringAt,
    change_options,
    last_change_text,
    steering_options,
)
from workers.commands.text import printable, shares_text, table, weights_document, weights_text
from workers.errors import Failure
from workers.ranking.experiment import CONTROL, SALT, Experiment, ExperimentRefused
from workers.ranking.weights import Weights
from workers.settings import ConfigurationError
from workers.steering.editor import Change
from workers.steering.view import SurfaceView

_arms_argument = fields_argument("arms", metavar="ARM=PERCENT...", expected="arm=percent")


@click.group(epilog=example("trimtab experiment start home canary=5"))
def experiment() -> None:
    """Rank a share of users under other weights. Each user stays in one arm."""


experiment.add_command(plan)


@experiment.command(
    epilog=example(
        "trimtab experiment start home canary=5", "trimtab experiment start home a=10 b=10"
    )
)
@surface_argument
@_arms_argument
@click.option(
    "--salt",
    help="Text that makes the assignment of users differ from other experiments.  [default: a new one]",
)
@change_options("start")
@json_option()
@steering_options
def start(
    surface: str,
    arms: dict[str, str],
    salt: str | None,
    by: ChangeBy,
    as_json: bool,
    steering: SteeringAt,
) -> None:
    """Assign a share of SURFACE's users to each arm.

    The other users are in `control`. Each arm needs weights first: trimtab weights set SURFACE
    --arm ARM ...
    """
    with steering.open(surface) as opened:
        view = opened.editor.read_view(opened.surface)
        if view.running is not None:
            shares = shares_text(view.running.percents())
            raise Failure(f"{surface}: an experiment runs ({shares}): ramp it or stop it")

        salt = salt or f"{surface}-{secrets.token_hex(4)}"
        wanted = _experiment(view, {SALT: salt} | arms)
        _write(opened, view, [Change(view.experiment, wanted)], by, as_json=as_json)


@experiment.command(epilog=example("trimtab experiment ramp home canary=20"))
@surface_argument
@_arms_argument
@change_options("ramp")
@json_option()
@steering_options
def ramp(
    surface: str, arms: dict[str, str], by: ChangeBy, as_json: bool, steering: SteeringAt
) -> None:
    """Change the shares of arms of the running experiment.

    Users of an arm that grows stay in it.
    """
    with steering.open(surface) as opened:
        view = opened.editor.read_view(opened.surface)
        running = _running(view)
        for arm in arms:
            _check_is_arm(running, arm)
        wanted = _experiment(view, running.fields() | arms)
        _write(opened, view, [Change(view.experiment, wanted)], by, as_json=as_json)


@experiment.command(epilog=example("trimtab experiment stop home"))
@surface_argument
@change_options("stop")
@json_option()
@steering_options
def stop(surface: str, by: ChangeBy, as_json: bool, steering: SteeringAt) -> None:
    """Put all users back into `control`.

    The arms keep their weights for another start.
    """
    with steering.open(surface) as opened:
        view = opened.editor.read_view(opened.surface)
        stopped = _stopped(_running(view))
        _write(opened, view, [Change(view.experiment, stopped)], by, as_json=as_json)


@experiment.command(epilog=example("trimtab experiment promote home canary"))
@surface_argument
@click.argument("arm")
@change_options("promote")
@json_option()
@steering_options
def promote(surface: str, arm: str, by: ChangeBy, as_json: bool, steering: SteeringAt) -> None:
    """Give SURFACE the weights of ARM and stop the experiment.

    Both happen in one step.
    """
    with steering.open(surface) as opened:
        view = opened.editor.read_view(opened.surface)
        running = _running(view)
        _check_is_arm(running, arm)
        changes = [
            Change(view.weights, _weights_of_arm(view, arm)),
            Change(view.experiment, _stopped(running)),
        ]
        _write(opened, view, changes, by, as_json=as_json)


@experiment.command(epilog=example("trimtab experiment show home"))
@surface_argument
@json_option()
@steering_options
def show(surface: str, as_json: bool, steering: SteeringAt) -> None:
    """Show the experiment on SURFACE.

    Each arm is shown with its share of users and its weights.
    """
    with steering.open(surface) as opened:
        view = opened.editor.read_view(opened.surface)
    _print(view, as_json=as_json)


# Checks


def _running(view: SurfaceView) -> Experiment:
    """The running experiment. Raises Failure if there is none."""
    if view.running is None:
        raise Failure(f"{view.surface.name}: no experiment runs")
    return view.running


def _check_is_arm(running: Experiment, arm: str) -> None:
    """Raise ConfigurationError if the experiment has no such arm."""
    if arm not in running.shares:
        known = ", ".join(running.shares)
        raise ConfigurationError(f"arm: got {arm!r}, expected one of the experiment's: {known}")


def _experiment(view: SurfaceView, fields: Mapping[str, str]) -> Experiment:
    """The experiment of these fields. Raises ConfigurationError if workers would refuse it, or if
    an arm has no weights.
    """
    try:
        wanted = Experiment.read(fields)
    except ExperimentRefused as refused:
        raise ConfigurationError(f"experiment: {refused}") from None
    for arm in wanted.shares:
        _weights_of_arm(view, arm)
    return wanted


def _weights_of_arm(view: SurfaceView, arm: str) -> Weights:
    """The weights of an arm. Raises ConfigurationError if it has none."""
    weights = view.arms[arm].in_force if arm in view.arms else None
    if weights is None:
        how = f"trimtab weights set {view.surface.name} --arm {arm} ..."
        raise ConfigurationError(f"arm: {arm} has no weights, expected a valid set first: {how}")
    return weights


def _stopped(experiment: Experiment) -> Experiment:
    """The experiment with all shares 0.

    It is not deleted, because workers cannot tell a deleted experiment from an emptied Redis.
    """
    return Experiment(experiment.salt, dict.fromkeys(experiment.shares, 0))


# Writing and printing


def _write(
    opened: OpenSurface,
    view: SurfaceView,
    changes: Sequence[Change],
    by: ChangeBy,
    *,
    as_json: bool,
) -> None:
    """Write what changes anything, in one step, and print the experiment as it is then."""
    needed = [change for change in changes if not change.changes_nothing]
    if needed:
        opened.editor.write(view, needed, by.actor, by.reason)
    _print(opened.editor.read_view(opened.surface), as_json=as_json)


def _print(view: SurfaceView, *, as_json: bool) -> None:
    click.echo(json.dumps(_document(view)) if as_json else "\n".join(_lines(view)))


def _document(view: SurfaceView) -> dict[str, object]:
    document = view.experiment
    in_force = document.in_force
    last = document.last

    arms = {}
    for arm, percent in ({} if in_force is None else in_force.percents()).items():
        weights = view.arms[arm].in_force
        arms[arm] = {"percent": percent, "weights": weights and weights_document(weights)}

    return {
        "surface": view.surface.name,
        "running": view.running is not None,
        "salt": in_force and in_force.salt,
        "control": 100.0 if in_force is None else in_force.percent(CONTROL),
        "arms": arms,
        "refused": document.content.refused,
        "revision": document.revision,
        "actor": last and last.actor,
        "reason": last and last.reason,
        "at": last and last.at,
    }


def _lines(view: SurfaceView) -> list[str]:
    document = view.experiment
    running = view.running
    change = last_change_text(document, view)

    if running is None:
        lines = [f"{view.surface.name}: no experiment runs ({change})"]
    else:
        lines = [f"{view.surface.name}: salt {running.salt}, {change}"]
        rows = [_arm_row(CONTROL, running, view.weights.in_force)]
        for arm in running.shares:
            rows.append(_arm_row(arm, running, view.arms[arm].in_force))
        lines += [f"  {line}" for line in table(rows, align="lrl")]

    if document.content.refused:
        lines.append(f"  refused: {printable(document.content.refused)}")
    return lines


def _arm_row(arm: str, running: Experiment, weights: Weights | None) -> list[str]:
    percent = f"{running.percent(arm):g} %"
    return [arm, percent, "no weights" if weights is None else weights_text(weights.values)]
