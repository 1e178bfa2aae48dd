"""`trimtab experiment`: rank a share of users under other weights."""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence

import click

from workers.commands.experiment_plan import plan
from workers.commands.experiment_rails import JudgedRails, judge_rails_of
from workers.commands.options import (
    BrokersAt,
    brokers_options,
    evidence_options,
    example,
    fields_argument,
    json_option,
    surface_argument,
    tuned_for_option,
)
from workers.commands.outcomes.report_output import rail_document
from workers.commands.redis_access import (
    ChangeBy,
    OpenSurface,
    SteeringAt,
    change_options,
    last_change_text,
    steering_options,
)
from workers.commands.text import (
    age_text,
    printable,
    share_text,
    shares_text,
    table,
    weights_document,
    weights_text,
    wrap,
)
from workers.errors import Failure
from workers.outcomes.plan import DEFAULT_TUNED_FOR, GuardRail, Plan, PlanRefused
from workers.ranking.experiment import CONTROL, SALT, Experiment, ExperimentRefused
from workers.ranking.weights import Weights
from workers.settings import ConfigurationError
from workers.steering.documents import ReadContext, check_plan
from workers.steering.editor import Change
from workers.steering.guard_rail import stopped_arms
from workers.steering.view import SurfaceView
from workers.streaming.evidence import WAIT_SECONDS, EvidenceTopics

_arms_argument = fields_argument("arms", metavar="ARM=PERCENT...", expected="arm=percent")
_force_option = click.option(
    "--force",
    is_flag=True,
    help="Do it although guard rails speak against it. Needs --reason.",
)
_RAMP = "ramp"
_PROMOTE = "promote"
_SHOW_WAIT_SECONDS = 1.0
"""How long `show` waits for the users stage: it only shows."""


@click.group(epilog=example("trimtab experiment start home canary=5"))
def experiment() -> None:
    """Rank a share of users under other weights. Each user stays in one arm."""


experiment.add_command(plan)


@experiment.command(
    epilog=example(
        "trimtab experiment start home canary=5",
        'trimtab experiment start home a=10 b=10 --tuned-for 5% --guard "take_rate >= -2%"',
    )
)
@surface_argument
@_arms_argument
@click.option(
    "--salt",
    help="Text that makes the assignment of users differ from other experiments.  [default: a new one]",
)
@tuned_for_option(
    "The lift that verdicts are tuned for: they need the least traffic if it is about this."
    f"  [default: {share_text(DEFAULT_TUNED_FOR)}]"
)
@click.option(
    "--guard",
    "guards",
    multiple=True,
    metavar="RAIL",
    help="A guard rail, such as 'take_rate >= -2%' (relative to control) or 'quality >= 0.5'."
    " May be given several times.",
)
@change_options("start")
@json_option()
@steering_options
def start(
    surface: str,
    arms: dict[str, str],
    salt: str | None,
    tuned_for: float | None,
    guards: Sequence[str],
    by: ChangeBy,
    as_json: bool,
    steering: SteeringAt,
) -> None:
    """Assign a share of SURFACE's users to each arm.

    The other users are in `control`. Each arm needs weights first: trimtab weights set SURFACE
    --arm ARM ...

    An arm that breaks a guard rail with certainty loses its users: `trimtab outcomes users` puts
    them back into `control`. A rail is METRIC >= BOUND or METRIC <= BOUND. METRIC is take_rate,
    deadline (the share of feeds that closed at their deadline), another outcome of the surface, or
    an objective (its mean score). A bound in percent with a sign is relative to control.
    """
    with steering.open(surface) as opened:
        view = opened.editor.read_view(opened.surface)
        if view.running is not None:
            shares = shares_text(view.running.percents())
            raise Failure(f"{surface}: an experiment runs ({shares}): ramp it or stop it")

        salt = salt or f"{surface}-{secrets.token_hex(4)}"
        if view.experiment.in_force is not None and view.experiment.in_force.salt == salt:
            for arm in stopped_arms(view):
                raise Failure(
                    f"{arm}: a guard rail stopped it under the salt {salt!r}, expected another salt"
                )
        wanted = _experiment(view, {SALT: salt} | arms)
        plan = _plan(view, salt, tuned_for, guards)
        changes = [Change(view.plan, plan), Change(view.experiment, wanted)]
        _write(opened, view, changes, by, as_json=as_json)


@experiment.command(epilog=example("trimtab experiment ramp home canary=20"))
@surface_argument
@_arms_argument
@_force_option
@change_options(_RAMP)
@json_option()
@steering_options
def ramp(
    surface: str,
    arms: dict[str, str],
    force: bool,
    by: ChangeBy,
    as_json: bool,
    steering: SteeringAt,
) -> None:
    """Change the shares of arms of the running experiment.

    Users of an arm that grows stay in it. The plan stays as it is. An arm that a guard rail has
    stopped gets users again only with --force and a --reason. Guard rails do not stop it again.
    """
    with steering.open(surface) as opened:
        view = opened.editor.read_view(opened.surface)
        running = _running_or_stopped(view)
        for arm in arms:
            _check_is_arm(running, arm)
        wanted = _experiment(view, running.fields() | arms)

        stopped = stopped_arms(view)
        for arm in wanted.running:
            if arm in stopped:
                obstacle = f"{arm}: a guard rail stopped it: {stopped[arm].reason}"
                _check_forced(obstacle, by, force=force, default_reason=_RAMP)
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
@brokers_options
@evidence_options
@_force_option
@change_options(_PROMOTE)
@json_option()
@steering_options
def promote(
    surface: str,
    arm: str,
    brokers: BrokersAt,
    topics: EvidenceTopics,
    force: bool,
    by: ChangeBy,
    as_json: bool,
    steering: SteeringAt,
) -> None:
    """Give SURFACE the weights of ARM and stop the experiment.

    Both happen in one step. If the experiment has guard rails, ARM must clear each of them with
    certainty, by the outcomes that are counted in Kafka. --force with a --reason promotes it
    anyway. Without guard rails no outcomes are read.
    """
    with steering.open(surface) as opened:
        view = opened.editor.read_view(opened.surface)
        running = _running_or_stopped(view)
        _check_is_arm(running, arm)
        if force:
            _check_forced("", by, force=True, default_reason=_PROMOTE)
        else:
            _check_clear(view, arm, brokers, topics)
        changes = [
            Change(view.weights, _weights_of_arm(view, arm)),
            Change(view.experiment, _stopped(running)),
        ]
        _write(opened, view, changes, by, as_json=as_json)


@experiment.command(epilog=example("trimtab experiment show home"))
@surface_argument
@json_option()
@brokers_options
@evidence_options
@steering_options
def show(
    surface: str, as_json: bool, brokers: BrokersAt, topics: EvidenceTopics, steering: SteeringAt
) -> None:
    """Show the experiment on SURFACE.

    Each arm is shown with its share of users and its weights, then the plan. If it has guard rails,
    the outcomes in Kafka say where each arm is. Without Kafka that is not known, and the rest is
    shown.
    """
    with steering.open(surface) as opened:
        view = opened.editor.read_view(opened.surface)
    judged = judge_rails_of(view, brokers, topics, wait_seconds=_SHOW_WAIT_SECONDS)
    _print(view, judged, as_json=as_json)


# Checks


def _running(view: SurfaceView) -> Experiment:
    """The running experiment. Raises Failure if there is none."""
    if view.running is None:
        raise Failure(f"{view.surface.name}: no experiment runs")
    return view.running


def _running_or_stopped(view: SurfaceView) -> Experiment:
    """The running experiment, or one of which a guard rail has stopped the last arm. Raises Failure
    if there is none.
    """
    experiment = view.experiment.in_force
    if experiment is not None and stopped_arms(view):
        return experiment
    return _running(view)


def _check_clear(view: SurfaceView, arm: str, brokers: BrokersAt, topics: EvidenceTopics) -> None:
    """Raise Failure if the experiment has guard rails and the arm does not clear each of them."""
    how = "; --force with --reason promotes it anyway"
    salts = (None, view.experiment.in_force and view.experiment.in_force.salt)
    if view.plan.content.refused is not None and view.plan.texts.get(SALT) in salts:
        raise Failure(
            f"{arm}: its guard rails are not known, because the plan is refused:"
            f" {view.plan.content.refused}{how}"
        )

    judged = judge_rails_of(view, brokers, topics, wait_seconds=WAIT_SECONDS)
    obstacle = None if judged is None else judged.obstacle(arm)
    if obstacle is not None:
        raise Failure(f"{arm}: does not clear every guard rail: {obstacle}{how}")


def _check_forced(obstacle: str, by: ChangeBy, *, force: bool, default_reason: str) -> None:
    """Raise Failure if something is in the way and it is not forced. Raises ConfigurationError if
    it is forced without a reason.
    """
    if not force:
        raise Failure(f"{obstacle}; --force with --reason does it anyway")
    if by.reason == default_reason:
        raise ConfigurationError(
            "--force: got no reason, expected --reason: the history must say why guard rails were"
            " overruled"
        )


def _plan(view: SurfaceView, salt: str, tuned_for: float | None, guards: Sequence[str]) -> Plan:
    """The plan of a new experiment. Raises ConfigurationError for guard rails that nobody could
    judge.
    """
    try:
        plan = Plan(
            salt=salt,
            tuned_for=DEFAULT_TUNED_FOR if tuned_for is None else tuned_for,
            rails=tuple(GuardRail.parse(text) for text in guards),
        )
        check_plan(plan, ReadContext(view.surface, view.available))
    except PlanRefused as refused:
        raise ConfigurationError(f"--{refused}") from None
    return plan


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


def _print(view: SurfaceView, judged: JudgedRails | None = None, *, as_json: bool) -> None:
    """Print the experiment. `judged` None: its rails were not judged, or it has none."""
    if as_json:
        click.echo(json.dumps(_document(view, judged)))
    else:
        click.echo("\n".join(_lines(view, judged)))


def _document(view: SurfaceView, judged: JudgedRails | None) -> dict[str, object]:
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
        "plan": _plan_document(view),
        "plan_refused": view.plan.content.refused,
        "rails": _rails_document(judged),
        "rails_missing": judged and judged.missing,
        "stopped": _stopped_document(view),
    }


def _plan_document(view: SurfaceView) -> dict[str, object] | None:
    plan = view.plan.value
    if plan is None:
        return None
    return {
        "salt": plan.salt,
        "applies": view.plan_that_applies is not None,
        "tuned_for": round(plan.tuned_for * 100, 10),
        "rails": [rail.text for rail in plan.rails],
    }


def _rails_document(judged: JudgedRails | None) -> dict[str, object] | None:
    if judged is None or judged.missing is not None:
        return None
    arms: dict[str, object] = {}
    for arm, states in judged.by_arm.items():
        arms[arm] = {
            "states": [rail_document(state) for state in states],
            "distrusted": judged.distrusted.get(arm),
        }
    return arms


def _stopped_document(view: SurfaceView) -> dict[str, object]:
    stopped: dict[str, object] = {}
    for arm, entry in stopped_arms(view).items():
        stopped[arm] = {"revision": entry.revision, "at": entry.at, "reason": entry.reason}
    return stopped


def _lines(view: SurfaceView, judged: JudgedRails | None) -> list[str]:
    document = view.experiment
    running = view.running
    # The reason of a guard rail is in the line of its arm.
    is_by_rail = document.last in stopped_arms(view).values()
    change = last_change_text(document, view, shows_reason=not is_by_rail)

    if running is None:
        lines = [f"{view.surface.name}: no experiment runs ({change})"]
        for_all = [[CONTROL, "100 %", _weights_cell(view.weights.in_force)]]
        lines += [f"  {line}" for line in table(for_all, align="lrl")]
    else:
        lines = [f"{view.surface.name}: salt {running.salt}, {change}"]
        rows = [_arm_row(CONTROL, running, view.weights.in_force)]
        for arm in running.shares:
            rows.append(_arm_row(arm, running, view.arms[arm].in_force))
        lines += [f"  {line}" for line in table(rows, align="lrl")]

    if document.content.refused:
        lines.append(f"  refused: {printable(document.content.refused)}")
    return [*lines, *_plan_lines(view, judged)]


def _plan_lines(view: SurfaceView, judged: JudgedRails | None) -> Iterator[str]:
    """The plan, where its rails are, and the arms that were stopped by them."""
    refused = view.plan.content.refused
    plan = view.plan.value
    if refused is not None:
        yield from wrap(f"plan refused: {printable(refused)}", label="  ")
    elif plan is not None and view.plan_that_applies is None:
        text = f"the plan does not apply: it is of another experiment, salt {printable(plan.salt)}"
        yield from wrap(text, label="  ")
    elif plan is not None:
        rails = ", ".join(rail.text for rail in plan.rails)
        text = f"tuned for {share_text(plan.tuned_for)}, guard rails: {rails or 'none'}"
        yield from wrap(printable(text), label="  ")

    if judged is not None and judged.missing is not None:
        text = f"where the arms are is not known: {judged.missing}"
        yield from wrap(printable(text), label="  ")
    for arm, states in ({} if judged is None else judged.by_arm).items():
        if arm == CONTROL:
            continue
        if judged is not None and arm in judged.distrusted:
            yield from wrap(printable(judged.distrusted[arm]), label="  ")
        for state in states:
            yield from wrap(printable(f"{arm}: {state.text}"), label="  ")

    for arm, entry in stopped_arms(view).items():
        ago = age_text(view.now - entry.at)
        text = (
            f"{arm}: stopped by a guard rail {ago} ago, revision {entry.revision}: {entry.reason}"
        )
        yield from wrap(printable(text), label="  ")


def _arm_row(arm: str, running: Experiment, weights: Weights | None) -> list[str]:
    return [arm, f"{running.percent(arm):g} %", _weights_cell(weights)]


def _weights_cell(weights: Weights | None) -> str:
    return "no weights" if weights is None else weights_text(weights.values)
