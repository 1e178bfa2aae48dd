"""`trimtab weights wait`: until every live worker ranks under a set; for scripts."""

import json
import time
from collections.abc import Mapping
from typing import Any

import click

from workers.commands.desk import DESK, Opened, as_json, of_arm, of_surface, open_surface, own_arm, place
from workers.commands.options import example, settings
from workers.commands.weights.sets import applied
from workers.observe.failure import Failure
from workers.ranking.experiment import CONTROL

_PAUSE_S = 0.02


@click.command(epilog=example("trimtab weights wait home --version 3f0c9a1b2d4e --timeout 5"))
@of_surface
@of_arm
@click.option("--version", help="The version to wait for.  [default: that of what Redis holds now]")
@click.option(
    "--timeout", type=click.FloatRange(0), default=10.0, show_default=True, help="Give up after so many seconds."
)
@click.option("--workers", "at_least", type=click.IntRange(1), default=1, show_default=True, help="At least so many.")
@as_json
@settings(*DESK)
def wait(
    surface: str, arm: str | None, version: str | None, timeout: float, at_least: int, as_json: bool, **desk: Any
) -> None:
    """Return once every live worker ranks under the set; exit code 1 where --timeout comes first.

    A worker lives until its status expires, 10 s after it was last heard of. One that starts later reads its weights
    before it ranks.
    """
    arm = own_arm(arm)
    with open_surface(surface, **desk) as opened:
        wanted = version or _held(opened, arm)
        began = time.monotonic()
        while not _all_at(wanted, versions := applied(opened.desk.workers(), surface, arm), at_least):
            if time.monotonic() - began > timeout:
                raise Failure(f"{place(surface, arm)}: {_missing(wanted, versions, at_least)}")
            time.sleep(_PAUSE_S)
    if as_json:
        seconds = round(time.monotonic() - began, 3)
        found = {
            "surface": surface,
            "arm": arm or CONTROL,
            "version": wanted,
            "workers": list(versions),
            "seconds": seconds,
        }
        click.echo(json.dumps(found))
    else:
        click.echo(f"{place(surface, arm)}: version {wanted} applied by all {len(versions)} workers")


def _held(opened: Opened, arm: str | None) -> str:
    document = opened.desk.look(opened.surface, arm).weights_of(arm)
    if document.value is None:
        raise Failure(f"{document.read.key}: holds {document.read.refused or 'nothing'}, expected a set to wait for")
    return document.value.version


def _all_at(wanted: str, versions: Mapping[str, str | None], at_least: int) -> bool:
    return len(versions) >= at_least and all(version == wanted for version in versions.values())


def _missing(wanted: str, versions: Mapping[str, str | None], at_least: int) -> str:
    if len(versions) < at_least:
        return f"{len(versions)} live workers, expected at least {at_least}"
    others = ", ".join(f"{worker} at {version}" for worker, version in versions.items() if version != wanted)
    return f"version {wanted} is not applied by all {len(versions)} workers: {others}"
