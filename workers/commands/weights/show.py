"""`trimtab weights show`: the weights of surfaces and of their arms, and which workers use them."""

import json
from collections.abc import Iterator, Mapping, Sequence

import click

from workers.commands.options import example, json_option
from workers.commands.redis_access import SteeringAt, last_change_text, steering_options
from workers.commands.text import place_text, printable, shares_text, weights_document, weights_text
from workers.ranking.weights import Weights
from workers.steering.fleet import LiveWorker, workers_with
from workers.steering.status import WeightsStatus
from workers.steering.view import DocumentView, SurfaceView

Versions = Mapping[str, str | None]
"""The version that each live worker ranks under, by worker; None if it has none or says none."""


@click.command(epilog=example("trimtab weights show", "trimtab weights show home --json"))
@click.argument("surface", required=False)
@json_option()
@steering_options
def show(surface: str | None, as_json: bool, steering: SteeringAt) -> None:
    """Show the weights of SURFACE that are in force.

    They are shown with who set them, when and why, and with the workers that use them. Without
    SURFACE, the weights of all surfaces are shown.
    """
    surfaces = (
        [steering.surface(surface)] if surface is not None else list(steering.surfaces().values())
    )

    with steering.redis.open() as editor:
        workers = editor.live_workers()
        views = [editor.read_view(each, workers=workers) for each in surfaces]

    if as_json:
        documents = [_surface_document(view, workers) for view in views]
        click.echo(json.dumps({"surfaces": documents}))
    else:
        for view in views:
            for line in _surface_lines(view, workers):
                click.echo(line)


def applied_versions(workers: Sequence[LiveWorker], surface: str, arm: str | None) -> Versions:
    """The version of the weights of a surface (or arm) that each live worker ranks under.

    Workers that do not have the surface are left out.
    """
    versions: dict[str, str | None] = {}
    for worker in workers_with(workers, surface):
        versions[worker.worker] = None
        if worker.status is not None:
            weights: WeightsStatus | None = worker.status.surfaces[surface]
            if arm is not None:
                weights = worker.status.surfaces[surface].arms.get(arm)
            versions[worker.worker] = None if weights is None else weights.version
    return versions


# For people


def _surface_lines(view: SurfaceView, workers: Sequence[LiveWorker]) -> Iterator[str]:
    name = view.surface.name
    for arm in (None, *view.arms):
        document = view.weights_of(arm)
        versions = applied_versions(workers, name, arm)
        yield from _weights_lines(place_text(name, arm), document, view, versions)

    if view.running is not None:
        shares = shares_text(view.running.percents())
        yield f"  experiment: {shares} ({last_change_text(view.experiment, view)})"


def _weights_lines(
    place: str, document: DocumentView[Weights], view: SurfaceView, versions: Versions
) -> Iterator[str]:
    weights = document.in_force
    if weights is None:
        yield f"{place}: no weights"
    else:
        yield f"{place}: {weights_text(weights.values)}"
        change = last_change_text(document, view)
        yield f"  version {weights.version} from {document.source}; {change}"

        behind = []
        for worker, version in versions.items():
            if version != weights.version:
                behind.append(f"; {worker} at {version}")
        up_to_date = len(versions) - len(behind)
        yield f"  applied by {up_to_date} of {len(versions)} workers{''.join(behind)}"

    if document.content.refused:
        yield f"  Redis holds what workers refuse: {printable(document.content.refused)}"


# For --json


def _surface_document(view: SurfaceView, workers: Sequence[LiveWorker]) -> dict[str, object]:
    name = view.surface.name
    arms = {}
    for arm, document in view.arms.items():
        arms[arm] = _weights_document(document, view, applied_versions(workers, name, arm))
    return {
        "surface": name,
        **_weights_document(view.weights, view, applied_versions(workers, name, None)),
        "arms": arms,
        "experiment": view.running and view.running.percents(),
    }


def _weights_document(
    document: DocumentView[Weights], view: SurfaceView, versions: Versions
) -> dict[str, object]:
    last = document.last
    return {
        "weights": document.in_force and weights_document(document.in_force),
        "source": document.source,
        "refused": document.content.refused,
        "recorded": document.is_recorded,
        "revision": document.revision,
        "at": last and last.at,
        "age_ms": last and view.now - last.at,
        "actor": last and last.actor,
        "reason": last and last.reason,
        "workers": dict(versions),
    }
