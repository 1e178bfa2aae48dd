"""The weights of a surface and of its arms, and who ranks under them: for people and for --json."""

from collections.abc import Iterator, Sequence

from workers.commands.desk import last_change, mix, place, set_document
from workers.commands.experiment import shares
from workers.ranking.weights import Weights
from workers.steering.fleet import LiveWorker, workers_with
from workers.steering.status import SurfaceStatus
from workers.steering.view import DocumentView, SurfaceView

Workers = Sequence[LiveWorker]


def view_lines(view: SurfaceView, workers: Workers) -> Iterator[str]:
    """A surface, its arms and its experiment, for people."""
    for arm in (None, *view.arms):
        document = view.weights_of(arm)
        yield from _lines(
            place(view.surface.name, arm), document, view, applied(workers, view.surface.name, arm)
        )
    if view.running is not None:
        yield f"  experiment: {shares(view.running)} ({last_change(view.experiment, view)})"


def view_document(view: SurfaceView, workers: Workers) -> dict[str, object]:
    """The same for --json."""
    name = view.surface.name
    return {
        "surface": name,
        **_document(view.weights, view, applied(workers, name, None)),
        "arms": {
            arm: _document(view.arms[arm], view, applied(workers, name, arm)) for arm in view.arms
        },
        "experiment": view.running
        and {arm: view.running.percent(arm) for arm in view.running.shares},
    }


def applied(workers: Workers, surface: str, arm: str | None) -> dict[str, str | None]:
    """Live worker to the version of the surface's (or arm's) weights that it ranks under, None
    where it says none.

    Workers that have no such surface are left out.
    """
    return {
        one.worker: None if one.status is None else _version(one.status.surfaces[surface], arm)
        for one in workers_with(workers, surface)
    }


def _version(surface: SurfaceStatus, arm: str | None) -> str | None:
    weights = surface if arm is None else surface.arms.get(arm)
    return None if weights is None else weights.version


def _lines(
    where: str, document: DocumentView[Weights], view: SurfaceView, versions: dict[str, str | None]
) -> Iterator[str]:
    weights = document.in_force
    if weights is None:
        yield f"{where}: no weights"
    else:
        yield f"{where}: {mix(weights.values)}"
        yield f"  version {weights.version} from {document.source}; {last_change(document, view)}"
        there = sum(version == weights.version for version in versions.values())
        behind = [
            f"{worker} at {version}"
            for worker, version in versions.items()
            if version != weights.version
        ]
        yield f"  applied by {there} of {len(versions)} workers" + "".join(
            f"; {one}" for one in behind
        )
    if document.content.refused:
        yield f"  Redis holds what workers refuse: {document.content.refused}"


def _document(
    document: DocumentView[Weights], view: SurfaceView, versions: dict[str, str | None]
) -> dict[str, object]:
    last = document.last
    return {
        "weights": document.in_force and set_document(document.in_force),
        "source": document.source,
        "refused": document.content.refused,
        "recorded": document.is_recorded,
        "revision": document.revision,
        "at": last and last.at,
        "age_ms": last and view.now - last.at,
        "actor": last and last.actor,
        "reason": last and last.reason,
        "workers": versions,
    }
