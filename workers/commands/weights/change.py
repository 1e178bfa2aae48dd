"""`trimtab weights set`, `unset` and `rollback`: each validated whole, then written by
compare-and-set.
"""

import json
from typing import Any

import click

from workers.commands.desk import (
    DESK,
    Opened,
    actor_or_login,
    as_json,
    change_options,
    expect,
    of_arm,
    of_surface,
    open_surface,
    own_arm,
    place,
    set_document,
)
from workers.commands.options import example, fields_of, settings
from workers.commands.weights.proposal import look_before, proposed
from workers.commands.weights.sample import sample_of, sample_options
from workers.errors import Failure
from workers.ranking.experiment import CONTROL
from workers.ranking.weights import Weights
from workers.steering.editor import Change, difference, texts_for
from workers.steering.view import DocumentView, NoSuchSet, SurfaceView, weights_at, weights_before


class NotAsExpected(Failure):
    """The weights are not at the revision or version that the change was made for; nothing was
    written.
    """


@click.command(
    "set",
    epilog=example(
        'trimtab weights set home quality=0.6 engagement=0.4 --reason "calmer mornings"'
    ),
)
@of_surface
@click.argument("weights", metavar="OBJECTIVE=NUMBER...", nargs=-1, required=True)
@of_arm
@change_options(None)
@expect
@click.option(
    "--preview",
    "previewed",
    is_flag=True,
    help="Show what it would change, as `preview` does, and ask.",
)
@click.option(
    "--limit-churn",
    type=click.FloatRange(0, 1),
    help="Refuse what changes more of the first 10 than this.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@sample_options
@settings(*DESK)
def set_(
    surface: str,
    weights: tuple[str, ...],
    arm: str | None,
    reason: str,
    actor: str | None,
    expect: str | None,
    previewed: bool,
    limit_churn: float | None,
    yes: bool,
    as_json: bool,
    **places: Any,
) -> None:
    """Set weights of SURFACE. What is not named stays as it is in force.

    The whole set is validated as workers do, and written in one step where nobody has changed it
    meanwhile: exit code 1 where somebody has, or where it changes more than --limit-churn, 2 where
    workers would refuse it.
    """
    arm, sample = own_arm(arm), sample_of(places)
    fields = fields_of(weights, "weights")
    with open_surface(surface, **places) as opened:
        view = opened.desk.read_view(opened.surface, arm)
        wanted = proposed(view, arm, fields)
        check_expected(view.weights_of(arm), expect)
        if previewed or limit_churn is not None:
            look_before(
                view, arm, wanted, sample, limit_churn, asks=previewed and not yes, shown=previewed
            )
        apply(opened, view, arm, wanted, actor, reason, as_json)


@click.command(epilog=example("trimtab weights unset home"))
@of_surface
@of_arm
@change_options("back to the defaults")
@expect
@as_json
@settings(*DESK)
def unset(
    surface: str,
    arm: str | None,
    reason: str,
    actor: str | None,
    expect: str | None,
    as_json: bool,
    **desk: Any,
) -> None:
    """Write the defaults of SURFACE out, as surfaces.toml has them."""
    arm = own_arm(arm)
    with open_surface(surface, **desk) as opened:
        view = opened.desk.read_view(opened.surface, arm)
        check_expected(view.weights_of(arm), expect)
        apply(opened, view, arm, view.rules.default(), actor, reason, as_json)


@click.command(epilog=example("trimtab weights rollback home", "trimtab weights rollback home 12"))
@of_surface
@click.argument("revision", required=False)
@of_arm
@change_options("rollback")
@expect
@as_json
@settings(*DESK)
def rollback(
    surface: str,
    revision: str | None,
    arm: str | None,
    reason: str,
    actor: str | None,
    expect: str | None,
    as_json: bool,
    **desk: Any,
) -> None:
    """Go back to the set of REVISION, else to the one before; a second rollback undoes the first.

    Where Redis holds what workers refuse, the set that they stand on instead is written.
    """
    arm = own_arm(arm)
    with open_surface(surface, **desk) as opened:
        view = opened.desk.read_view(opened.surface, arm)
        check_expected(view.weights_of(arm), expect)
        apply(opened, view, arm, _back(view, arm, revision), actor, reason, as_json)


def check_expected(document: DocumentView[Weights], expect: str | None) -> None:
    """Raises NotAsExpected where the weights are at another revision and another version."""
    version = document.in_force.version if document.in_force else "none"
    revision = (
        str(document.revision)
        if document.is_recorded
        else "none, changed by hand and not recorded yet"
    )
    if expect is not None and expect not in (version, revision):
        by = f", changed by {document.last.actor}" if document.last and document.is_recorded else ""
        found = f"version {version}, revision {revision}{by}"
        raise NotAsExpected(
            f"{document.content.key}: expected {expect}, is at {found}: nothing was written"
        )


def apply(
    opened: Opened,
    view: SurfaceView,
    arm: str | None,
    wanted: Weights,
    actor: str | None,
    reason: str,
    as_json: bool,
) -> None:
    """Write the set where it is another than what Redis holds, and say what was done. Raises
    ChangedMeanwhile.
    """
    document = view.weights_of(arm)
    change, revision = Change(document, wanted), document.revision
    if not change.changes_nothing:
        revision = opened.desk.write(view, [change], actor_or_login(actor), reason)
    if as_json:
        click.echo(json.dumps(_document(view, arm, wanted, revision, not change.changes_nothing)))
    else:
        click.echo(_told(view, arm, wanted, revision, change))


def _back(view: SurfaceView, arm: str | None, revision: str | None) -> Weights:
    document = view.weights_of(arm)
    try:
        return (
            weights_before(document, view.rules)
            if revision is None
            else weights_at(document, view.rules, revision)
        )
    except NoSuchSet as missing:
        raise Failure(str(missing)) from None


def _told(
    view: SurfaceView, arm: str | None, wanted: Weights, revision: int, change: Change
) -> str:
    where = place(view.surface.name, arm)
    if change.changes_nothing:
        return f"{where}: is at that already: version {wanted.version}, revision {revision}"
    before = view.weights_of(arm).in_force
    changed = (
        difference({} if before is None else texts_for(before), texts_for(wanted))
        or "as it was in force"
    )
    return f"{where}: {changed}\nversion {wanted.version}, revision {revision}"


def _document(
    view: SurfaceView, arm: str | None, wanted: Weights, revision: int, changed: bool
) -> dict[str, object]:
    before = view.weights_of(arm).in_force
    return {
        "surface": view.surface.name,
        "arm": arm or CONTROL,
        "before": before and set_document(before),
        "after": set_document(wanted),
        "revision": revision,
        "changed": changed,
    }
