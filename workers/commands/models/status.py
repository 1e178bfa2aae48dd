"""`trimtab models status`: every version that workers have, what is in force where, and why a
version is refused.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import click

from workers.commands.desk import REDIS, as_json, open_desk
from workers.commands.options import example, settings
from workers.errors import Failure
from workers.steering.status import WorkerStatus


@click.command(epilog=example("trimtab models status"))
@as_json
@settings(*REDIS)
def status(as_json: bool, **redis: Any) -> None:
    """Say which versions live workers have, which are in force on which surface, and which are
    refused and why.
    """
    with open_desk(**redis) as desk:
        workers = desk.live_workers()
    said = [one.status for one in workers if one.status is not None]
    if not said:
        raise Failure("no worker lives, or none whose status reads: trimtab status says more")
    click.echo(json.dumps(document(said)) if as_json else "\n".join(lines(said)))


def document(said: Sequence[WorkerStatus]) -> dict[str, object]:
    """Versions by objective, and what is in force by surface, each by worker."""
    return {
        "versions": [
            {
                "objective": objective,
                "version": version,
                "workers": _states(said, objective, version),
            }
            for objective, version in _versions(said)
        ],
        "in_force": {
            surface: {
                objective: {
                    one.worker: one.models[surface].get(objective)
                    for one in said
                    if surface in one.models
                }
                for objective in sorted({o for one in said for o in one.models.get(surface, {})})
            }
            for surface in sorted({surface for one in said for surface in one.models})
        },
    }


def lines(said: Sequence[WorkerStatus]) -> Iterator[str]:
    """The same for people: workers that agree share a line."""
    for objective, version in _versions(said):
        states: dict[str, list[str]] = {}
        for worker, state in _states(said, objective, version).items():
            words = f"{state['state']}" + (
                f": {state['reason']}: {state['message']}" if state["reason"] else ""
            )
            states.setdefault(words, []).append(worker)
        for words, workers in states.items():
            yield f"{objective}/{version}  {words}  ({', '.join(workers)})"
    for surface in sorted({surface for one in said for surface in one.models}):
        parties: dict[str, list[str]] = {}
        for one in said:
            models = ", ".join(f"{o} {v}" for o, v in one.models.get(surface, {}).items())
            parties.setdefault(models, []).append(one.worker)
        for models, workers in parties.items():
            yield f"{surface}: {models}  ({', '.join(workers)})"


def _versions(said: Sequence[WorkerStatus]) -> list[tuple[str, int]]:
    return sorted(
        {
            (objective, version)
            for one in said
            for objective, found in one.library.items()
            for version in found
        }
    )


def _states(
    said: Sequence[WorkerStatus], objective: str, version: int
) -> dict[str, dict[str, str | None]]:
    found = {one.worker: one.library.get(objective, {}).get(version) for one in said}
    return {
        worker: {"state": state.state, "reason": state.reason, "message": state.message}
        for worker, state in found.items()
        if state is not None
    }
