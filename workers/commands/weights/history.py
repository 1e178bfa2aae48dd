"""`trimtab weights history`, `diff` and `watch`: what changed."""

import json

import click

from workers.commands.options import arm_option, example, json_option, surface_argument
from workers.commands.redis_access import SteeringAt, steering_options
from workers.commands.text import moment_text, printable, table, weights_document
from workers.errors import Failure
from workers.ranking.weights import Weights
from workers.steering.documents import WEIGHTS, DocumentId
from workers.steering.editor import difference
from workers.steering.history import HistoryEntry
from workers.steering.view import NoSuchSet, SurfaceView, weights_at


@click.command(epilog=example("trimtab weights history home"))
@surface_argument
@arm_option("Show only changes to the weights of this arm.")
@click.option(
    "--last",
    type=click.IntRange(1),
    metavar="N",
    default=20,
    show_default=True,
    help="Show the last N changes.",
)
@json_option("Print JSON, one change a line.")
@steering_options
def history(surface: str, arm: str | None, last: int, as_json: bool, steering: SteeringAt) -> None:
    """Show the last changes to SURFACE.

    Changes to its arms and its experiment are among them. The newest comes last.
    """
    with steering.open(surface) as opened:
        entries = opened.editor.read_view(opened.surface).entries
    if arm is not None:
        entries = tuple(
            entry for entry in entries if entry.document == DocumentId(WEIGHTS, arm).name
        )
    for entry in entries[-last:]:
        _print_entry(entry, as_json)


@click.command(epilog=example("trimtab weights watch home"))
@surface_argument
@click.option("--count", type=click.IntRange(1), metavar="N", help="Stop after N changes.")
@json_option("Print JSON, one change a line.")
@steering_options
def watch(surface: str, count: int | None, as_json: bool, steering: SteeringAt) -> None:
    """Print changes to SURFACE as soon as they are recorded.

    Changes to its arms and its experiment are among them.
    """
    with steering.open(surface) as opened:
        revision = opened.editor.read_view(opened.surface).revision
        try:
            for number, entry in enumerate(
                opened.editor.follow_history(opened.surface, revision), 1
            ):
                _print_entry(entry, as_json)
                if number == count:
                    return
        except KeyboardInterrupt:
            return


def _print_entry(entry: HistoryEntry, as_json: bool) -> None:
    if as_json:
        document = {
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
        click.echo(json.dumps(document))
        return

    reason = f'  "{printable(entry.reason)}"' if entry.reason else ""
    click.echo(
        f"{entry.revision:>5}  {moment_text(entry.at)}  {entry.document}"
        f"  {printable(entry.actor)}{reason}"
    )
    change = printable(difference(entry.before, entry.after)) or "nothing"
    version = f"  version {entry.version}" if entry.version else ""
    click.echo(f"       {change}{version}")
    if entry.refused:
        click.echo(f"       refused: {printable(entry.refused)}")


@click.command(
    epilog=example(
        "trimtab weights diff home 12 now", "trimtab weights diff home default 3f0c9a1b2d4e"
    )
)
@surface_argument
@click.argument("name_a", metavar="A")
@click.argument("name_b", metavar="B")
@arm_option("Compare sets of this arm.  [default: control, the surface's own weights]")
@json_option()
@steering_options
def diff(
    surface: str, name_a: str, name_b: str, arm: str | None, as_json: bool, steering: SteeringAt
) -> None:
    """Compare two sets of weights of SURFACE.

    A and B are each a revision, a version, `now` (in force) or `default`.
    """
    with steering.open(surface) as opened:
        view = opened.editor.read_view(opened.surface, arm)
    a = _find_set(view, arm, name_a)
    b = _find_set(view, arm, name_b)

    changes = {}
    for objective in [*a.values, *b.values]:
        changes[objective] = b.values.get(objective, 0.0) - a.values.get(objective, 0.0)

    if as_json:
        document = {"a": weights_document(a), "b": weights_document(b), "difference": changes}
        click.echo(json.dumps(document))
        return

    rows = [("", name_a, name_b, "difference")]
    for objective, change in changes.items():
        rows.append((objective, _weight(a, objective), _weight(b, objective), f"{change:+g}"))
    rows.append(("version", a.version, b.version, "none" if a == b else ""))
    for line in table(rows, align="lr"):
        click.echo(line)


def _find_set(view: SurfaceView, arm: str | None, name: str) -> Weights:
    try:
        return weights_at(view.weights_of(arm), view.rules, name)
    except NoSuchSet as missing:
        raise Failure(str(missing)) from None


def _weight(weights: Weights, objective: str) -> str:
    if objective not in weights.values:
        return "none"
    return f"{weights.values[objective]:g}"
