"""`trimtab weights show`, `history`, `diff` and `watch`: they change nothing."""

import json
from pathlib import Path
from typing import Any

import click

from workers.commands.desk import (
    DESK,
    as_json,
    entry_document,
    moment,
    of_arm,
    of_surface,
    open_desk,
    open_surface,
    own_arm,
    set_document,
    surface_of,
)
from workers.commands.options import example, settings
from workers.commands.weights.sets import view_document, view_lines
from workers.errors import Failure
from workers.ranking.weights import Weights
from workers.steering.editor import difference
from workers.steering.history import HistoryEntry
from workers.steering.surface_state import document_of
from workers.steering.view import NoSuchSet, SurfaceView, weights_at
from workers.surfaces import load_surfaces


@click.command(epilog=example("trimtab weights show", "trimtab weights show home --json"))
@click.argument("surface", required=False)
@as_json
@settings(*DESK)
def show(surface: str | None, as_json: bool, surfaces: str, **redis: Any) -> None:
    """Show the weights in force of SURFACE, else of all: since when, by whom, why, and which
    workers have them.
    """
    known = (
        load_surfaces(Path(surfaces))
        if surface is None
        else {surface: surface_of(surfaces, surface)}
    )
    with open_desk(**redis) as desk:
        workers = desk.live_workers()
        views = [desk.read_view(one, workers=workers) for one in known.values()]
    if as_json:
        click.echo(json.dumps({"surfaces": [view_document(view, workers) for view in views]}))
    else:
        click.echo("\n".join(line for view in views for line in view_lines(view, workers)))


@click.command(epilog=example("trimtab weights history home"))
@of_surface
@of_arm
@click.option(
    "--last", type=click.IntRange(1), default=20, show_default=True, help="So many changes."
)
@as_json
@settings(*DESK)
def history(surface: str, arm: str | None, last: int, as_json: bool, **desk: Any) -> None:
    """The last changes to SURFACE, its arms and its experiment, the newest at the end; with --json
    one a line.
    """
    arm = own_arm(arm)
    with open_surface(surface, **desk) as opened:
        entries = opened.desk.read_view(opened.surface).entries
    for entry in [one for one in entries if arm is None or one.document == document_of(arm)][
        -last:
    ]:
        click.echo(json.dumps(entry_document(entry)) if as_json else told(entry))


@click.command(
    epilog=example(
        "trimtab weights diff home 12 now", "trimtab weights diff home default 3f0c9a1b2d4e"
    )
)
@of_surface
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@of_arm
@as_json
@settings(*DESK)
def diff(surface: str, one: str, other: str, arm: str | None, as_json: bool, **desk: Any) -> None:
    """What differs between two sets of SURFACE: revisions, versions, `now` (in force) or `default`."""
    arm = own_arm(arm)
    with open_surface(surface, **desk) as opened:
        view = opened.desk.read_view(opened.surface, arm)
    a, b = (_set(view, arm, name) for name in (one, other))
    changes = {o: b.values.get(o, 0.0) - a.values.get(o, 0.0) for o in [*a.values, *b.values]}
    if as_json:
        click.echo(json.dumps({"a": set_document(a), "b": set_document(b), "difference": changes}))
        return
    click.echo(f"{'':<20}{one:>16}{other:>16}{'difference':>16}")
    for objective, change in changes.items():
        click.echo(
            f"{objective:<20}{_weight(a, objective):>16}{_weight(b, objective):>16}{change:>+16g}"
        )
    click.echo(f"{'version':<20}{a.version:>16}{b.version:>16}{'none' if a == b else '':>16}")


@click.command(epilog=example("trimtab weights watch home"))
@of_surface
@click.option("--count", type=click.IntRange(1), help="Stop after so many changes.")
@as_json
@settings(*DESK)
def watch(surface: str, count: int | None, as_json: bool, **desk: Any) -> None:
    """Print each change to SURFACE, its arms and its experiment as it is recorded."""
    with open_surface(surface, **desk) as opened:
        after = opened.desk.read_view(opened.surface).revision
        try:
            for number, entry in enumerate(opened.desk.follow_history(opened.surface, after), 1):
                click.echo(json.dumps(entry_document(entry)) if as_json else told(entry))
                if number == count:
                    return
        except KeyboardInterrupt:
            return


def told(entry: HistoryEntry) -> str:
    """An entry for people: one line, and another where there is more to say."""
    who = f"{entry.revision:>5}  {moment(entry.at)}  {entry.document}  {entry.actor}"
    why = f'  "{entry.reason}"' if entry.reason else ""
    what = difference(entry.before, entry.after) or "nothing"
    refused = f"\n       refused: {entry.refused}" if entry.refused else ""
    version = f"  version {entry.version}" if entry.version else ""
    return f"{who}{why}\n       {what}{version}{refused}"


def _set(view: SurfaceView, arm: str | None, name: str) -> Weights:
    try:
        return weights_at(view.weights_of(arm), view.rules, name)
    except NoSuchSet as missing:
        raise Failure(str(missing)) from None


def _weight(weights: Weights, objective: str) -> str:
    return f"{weights.values[objective]:g}" if objective in weights.values else "none"
