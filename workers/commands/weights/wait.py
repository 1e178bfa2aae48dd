"""`trimtab weights wait`: until every worker ranks under a set; for scripts."""

import json
import time
from typing import Any

import click

from workers.commands.desk import (
    DESK,
    Opened,
    as_json,
    of_arm,
    of_surface,
    open_surface,
    own_arm,
    place,
)
from workers.commands.everyone import Everyone, expected_of, expected_options
from workers.commands.options import example, settings
from workers.commands.weights.sets import applied
from workers.errors import Failure
from workers.ranking.experiment import CONTROL

_PAUSE_S = 0.02


@click.command(
    epilog=example(
        "trimtab weights wait home --version 3f0c9a1b2d4e --timeout 5",
        "trimtab weights wait home --workers 4",
    )
)
@of_surface
@of_arm
@click.option("--version", help="The version to wait for.  [default: that of what Redis holds now]")
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    default=10.0,
    show_default=True,
    help="Give up after so many seconds.",
)
@as_json
@expected_options
@settings(*DESK)
def wait(
    surface: str, arm: str | None, version: str | None, timeout: float, as_json: bool, **given: Any
) -> None:
    """Return once every worker ranks under the set; exit code 1 if --timeout comes first.

    A worker's status expires 10 s after it was written. A worker without one has crashed, or is cut
    off from Redis and ranks under an older set. It is waited for, unless Kafka (if --kafka is
    given) says that it is not in the group, or as many workers as --workers says have a status. A
    worker that starts later reads its weights before it ranks.
    """
    arm, expected = own_arm(arm), expected_of(given)
    with open_surface(surface, **given) as opened:
        wanted = version or _held(opened, arm)
        everyone = Everyone(expected, opened.desk.keys)
        at_least = everyone.expected or 1
        began = time.monotonic()
        while True:
            live = opened.desk.read_fleet()
            versions = applied(live.workers, surface, arm)
            behind = {worker: found for worker, found in versions.items() if found != wanted}
            is_late = time.monotonic() - began > timeout
            if (len(versions) >= at_least and not behind) or is_late:
                heard = everyone.heard(live, len(versions))
                is_applied = len(versions) >= at_least and not behind and heard.is_all
                if is_applied or is_late:
                    break
            time.sleep(_PAUSE_S)
        missing = everyone.missing(heard, live.silent)

    if as_json:
        found = {
            "surface": surface,
            "arm": arm or CONTROL,
            "version": wanted,
            "applied": is_applied,
            "workers": [worker for worker in versions if worker not in behind],
            "behind": behind,
            "silent": live.silent,
            "members": heard.members,
            "members_without_status": [one.client for one in heard.without_status],
            "seconds": round(time.monotonic() - began, 3),
        }
        click.echo(json.dumps(found))
    elif is_applied:
        gone = (
            f" (without a status and passed over: {', '.join(live.silent)})" if live.silent else ""
        )
        click.echo(
            f"{place(surface, arm)}: version {wanted} applied by all {len(versions)} workers{gone}"
        )
    if not is_applied:
        told = _told(wanted, versions, behind, at_least)
        raise Failure(f"{place(surface, arm)}: {'; '.join([*told, *missing])}")


def _held(opened: Opened, arm: str | None) -> str:
    document = opened.desk.read_view(opened.surface, arm).weights_of(arm)
    if document.value is None:
        raise Failure(
            f"{document.content.key}: holds {document.content.refused or 'nothing'}, expected a set to wait for"
        )
    return document.value.version


def _told(
    wanted: str, versions: dict[str, str | None], behind: dict[str, str | None], at_least: int
) -> list[str]:
    """What is missing among the workers that are heard from, for people."""
    if len(versions) < at_least:
        return [f"{len(versions)} live workers, expected at least {at_least}"]
    if behind:
        others = ", ".join(f"{worker} at {version}" for worker, version in behind.items())
        return [f"version {wanted} is not applied by all {len(versions)} workers: {others}"]
    return [
        f"version {wanted} is applied by the {len(versions)} workers that are heard from, not by all"
    ]
