"""`trimtab models status`: the versions that workers have, and which are in force on which surface."""

import json
from collections.abc import Iterator, Sequence

import click

from workers.commands.options import example, json_option
from workers.commands.redis_access import RedisAt, redis_options
from workers.commands.text import printable
from workers.errors import Failure
from workers.steering.status import VersionStatus, WorkerStatus

Statuses = Sequence[WorkerStatus]


@click.command(epilog=example("trimtab models status"))
@json_option()
@redis_options
def status(as_json: bool, redis: RedisAt) -> None:
    """Show the versions that live workers have.

    Each is shown with its state, and with the reason if it is refused. Then follow the versions
    that are in force on each surface.
    """
    with redis.open() as editor:
        workers = editor.live_workers()
    statuses = [worker.status for worker in workers if worker.status is not None]
    if not statuses:
        raise Failure("no worker lives, or none whose status can be read: see trimtab status")

    if as_json:
        click.echo(json.dumps(_document(statuses)))
    else:
        for line in _lines(statuses):
            click.echo(line)


def _document(statuses: Statuses) -> dict[str, object]:
    versions: list[dict[str, object]] = []
    for objective, version in _versions(statuses):
        workers = {}
        for worker, found in _version_by_worker(statuses, objective, version).items():
            workers[worker] = {
                "state": found.state,
                "reason": found.reason,
                "message": found.message,
            }
        versions.append({"objective": objective, "version": version, "workers": workers})

    in_force: dict[str, dict[str, dict[str, int | None]]] = {}
    for surface in _surfaces(statuses):
        of_surface = {s.worker: s.models[surface] for s in statuses if surface in s.models}
        objectives = sorted(set().union(*of_surface.values()))
        in_force[surface] = {}
        for objective in objectives:
            in_force[surface][objective] = {
                worker: models.get(objective) for worker, models in of_surface.items()
            }
    return {"versions": versions, "in_force": in_force}


def _lines(statuses: Statuses) -> Iterator[str]:
    """Workers that agree share a line."""
    for objective, version in _versions(statuses):
        workers_by_state: dict[str, list[str]] = {}
        for worker, found in _version_by_worker(statuses, objective, version).items():
            state = found.state
            if found.reason:
                state = f"{found.state}: {found.reason}: {printable(found.message or '')}"
            workers_by_state.setdefault(state, []).append(worker)
        for state, workers in workers_by_state.items():
            yield f"{objective}/{version}  {state}  ({', '.join(workers)})"

    for surface in _surfaces(statuses):
        workers_by_models: dict[str, list[str]] = {}
        for each in statuses:
            models = ", ".join(
                f"{objective} {version}"
                for objective, version in each.models.get(surface, {}).items()
            )
            workers_by_models.setdefault(models, []).append(each.worker)
        for models, workers in workers_by_models.items():
            yield f"{surface}: {models}  ({', '.join(workers)})"


def _versions(statuses: Statuses) -> list[tuple[str, int]]:
    """Every objective and version that a worker has, sorted."""
    found: set[tuple[str, int]] = set()
    for each in statuses:
        for objective, versions in each.library.items():
            found.update((objective, version) for version in versions)
    return sorted(found)


def _surfaces(statuses: Statuses) -> list[str]:
    return sorted({surface for each in statuses for surface in each.models})


def _version_by_worker(
    statuses: Statuses, objective: str, version: int
) -> dict[str, VersionStatus]:
    found = {}
    for each in statuses:
        of_worker = each.library.get(objective, {}).get(version)
        if of_worker is not None:
            found[each.worker] = of_worker
    return found
