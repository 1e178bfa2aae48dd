"""`trimtab weights set`, `unset` and `rollback`: the commands that change weights.

Each of them looks at the weights in Redis, makes a whole new set, validates it as workers do, and
writes it only if nobody has changed the weights meanwhile.
"""

import json

import click

from workers.commands.options import arm_option, example, json_option, surface_argument
from workers.commands.redis_access import (
    ChangeBy,
    OpenSurface,
    SteeringAt,
    change_options,
    steering_options,
)
from workers.commands.text import place_text, weights_document
from workers.commands.weights.preview import (
    FeedsSample,
    changed_weights,
    preview_lines,
    sample_options,
    weights_argument,
)
from workers.errors import Failure
from workers.ranking.experiment import CONTROL
from workers.ranking.preview import preview
from workers.ranking.weights import Weights
from workers.steering.documents import WEIGHTS
from workers.steering.editor import Change, difference
from workers.steering.view import DocumentView, NoSuchSet, SurfaceView, weights_at, weights_before

_arm_option = arm_option("Change the weights of this arm.  [default: control, the surface's own]")
_expect_option = click.option(
    "--expect",
    metavar="REVISION|VERSION",
    help="Refuse if the weights are not at this revision or version.",
)


class NotAsExpected(Failure):
    """The weights are not at the revision or version given with --expect. Nothing was written."""


class TooMuchChurn(Failure):
    """The set changes more of the first 10 than --limit-churn allows. Nothing was written."""


@click.command(
    "set",
    epilog=example(
        'trimtab weights set home quality=0.6 engagement=0.4 --reason "calmer mornings"'
    ),
)
@surface_argument
@weights_argument
@_arm_option
@change_options(None)
@_expect_option
@click.option(
    "--preview", "show_preview", is_flag=True, help="Show a preview of the change, and ask."
)
@click.option(
    "--limit-churn",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Refuse if more than this share of the first 10 items would change, from 0 to 1.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option()
@sample_options
@steering_options
def set_weights(
    surface: str,
    weights: dict[str, str],
    arm: str | None,
    by: ChangeBy,
    expect: str | None,
    show_preview: bool,
    limit_churn: float | None,
    yes: bool,
    as_json: bool,
    sample: FeedsSample,
    steering: SteeringAt,
) -> None:
    """Set weights of SURFACE.

    An objective that is not named keeps the weight that is in force. The whole set is validated as
    workers do, and written in one step.

    Exit code 1 if somebody has changed the weights meanwhile, or if more would change than
    --limit-churn allows. Exit code 2 if workers would refuse the set.
    """
    with steering.open(surface) as opened:
        view = opened.editor.read_view(opened.surface, arm)
        wanted = changed_weights(view, arm, weights)
        _check_expected(view.weights_of(arm), expect)

        if show_preview or limit_churn is not None:
            found = preview(sample.feeds(surface), view.base_of(arm), wanted)
            if show_preview:
                lines = preview_lines(found, surface, arm or CONTROL)
                click.echo("\n".join([*lines, ""]), err=True)
            if limit_churn is not None:
                _check_churn(found.churn, limit_churn)
            if show_preview and not yes:
                click.confirm("Write it?", abort=True, err=True)

        _write(opened, view, arm, wanted, by, as_json=as_json)


@click.command(epilog=example("trimtab weights unset home"))
@surface_argument
@_arm_option
@change_options("back to the defaults")
@_expect_option
@json_option()
@steering_options
def unset(
    surface: str,
    arm: str | None,
    by: ChangeBy,
    expect: str | None,
    as_json: bool,
    steering: SteeringAt,
) -> None:
    """Set the weights of SURFACE to the defaults in surfaces.toml."""
    with steering.open(surface) as opened:
        view = opened.editor.read_view(opened.surface, arm)
        _check_expected(view.weights_of(arm), expect)
        _write(opened, view, arm, view.rules.default(), by, as_json=as_json)


@click.command(epilog=example("trimtab weights rollback home", "trimtab weights rollback home 12"))
@surface_argument
@click.argument("revision", required=False)
@_arm_option
@change_options("rollback")
@_expect_option
@json_option()
@steering_options
def rollback(
    surface: str,
    revision: str | None,
    arm: str | None,
    by: ChangeBy,
    expect: str | None,
    as_json: bool,
    steering: SteeringAt,
) -> None:
    """Go back to earlier weights of SURFACE.

    They are those of REVISION. Without it, they are the set before the current one. A second
    rollback undoes the first. If Redis holds a set that workers refuse, the set that they use
    instead is written.
    """
    with steering.open(surface) as opened:
        view = opened.editor.read_view(opened.surface, arm)
        document = view.weights_of(arm)
        _check_expected(document, expect)
        try:
            if revision is None:
                wanted = weights_before(document, view.rules)
            else:
                wanted = weights_at(document, view.rules, revision)
        except NoSuchSet as missing:
            raise Failure(str(missing)) from None
        _write(opened, view, arm, wanted, by, as_json=as_json)


def _check_expected(document: DocumentView[Weights], expect: str | None) -> None:
    """Raise NotAsExpected if the weights are neither at that revision nor at that version."""
    if expect is None:
        return

    version = document.in_force.version if document.in_force else "none"
    revision = "none, changed by hand and not recorded yet"
    changed_by = ""
    if document.is_recorded:
        revision = str(document.revision)
        changed_by = f", changed by {document.last.actor}" if document.last else ""
    if expect in (version, revision):
        return
    raise NotAsExpected(
        f"{document.content.key}: expected {expect}, is at version {version},"
        f" revision {revision}{changed_by}: nothing was written"
    )


def _check_churn(churn: float | None, limit: float) -> None:
    """Raise TooMuchChurn if more changes than allowed, or if there is no feed to judge by."""
    if churn is None:
        raise TooMuchChurn(
            "--limit-churn: no feed to judge by, expected published ones; nothing was written"
        )
    if churn > limit:
        raise TooMuchChurn(
            f"--limit-churn: {churn:.4f} of the first 10 would change,"
            f" expected at most {limit:g}; nothing was written"
        )


def _write(
    opened: OpenSurface,
    view: SurfaceView,
    arm: str | None,
    wanted: Weights,
    by: ChangeBy,
    *,
    as_json: bool,
) -> None:
    """Write the set unless Redis holds it already, and print the result. Raises ChangedMeanwhile."""
    document = view.weights_of(arm)
    change = Change(document, wanted)
    revision = document.revision
    if not change.changes_nothing:
        revision = opened.editor.write(view, [change], by.actor, by.reason)

    before = document.in_force
    place = place_text(view.surface.name, arm)
    if as_json:
        result = {
            "surface": view.surface.name,
            "arm": arm or CONTROL,
            "before": before and weights_document(before),
            "after": weights_document(wanted),
            "revision": revision,
            "changed": not change.changes_nothing,
        }
        click.echo(json.dumps(result))
    elif change.changes_nothing:
        click.echo(
            f"{place}: has these weights already: version {wanted.version}, revision {revision}"
        )
    else:
        texts_before = {} if before is None else WEIGHTS.fields_of(before)
        changed = difference(texts_before, WEIGHTS.fields_of(wanted)) or "as it was in force"
        click.echo(f"{place}: {changed}\nversion {wanted.version}, revision {revision}")
