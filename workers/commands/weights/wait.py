"""`trimtab weights wait`: wait until every worker ranks under a set of weights."""

import json
import time

import click

from workers.commands.missing_workers import ExpectedWorkers, MissingWorkers, expected_options
from workers.commands.options import arm_option, example, json_option, surface_argument
from workers.commands.redis_access import OpenSurface, SteeringAt, steering_options
from workers.commands.text import place_text
from workers.commands.weights.show import applied_versions
from workers.errors import Failure
from workers.ranking.experiment import CONTROL

_PAUSE_S = 0.02


@click.command(
    epilog=example(
        "trimtab weights wait home --version 3f0c9a1b2d4e --timeout 5",
        "trimtab weights wait home --workers 4",
    )
)
@surface_argument
@arm_option("Wait for the weights of this arm.  [default: control, the surface's own weights]")
@click.option(
    "--version", metavar="VERSION", help="Version to wait for.  [default: the one in Redis now]"
)
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    metavar="SECONDS",
    default=10.0,
    show_default=True,
    help="Give up after this time.",
)
@json_option()
@expected_options
@steering_options
def wait(
    surface: str,
    arm: str | None,
    version: str | None,
    timeout: float,
    as_json: bool,
    expected: ExpectedWorkers,
    steering: SteeringAt,
) -> None:
    """Wait until all workers rank under a set of weights.

    Exit code 1 if --timeout comes first.

    A worker's status expires 10 s after it was written. A worker without one has crashed, or is cut
    off from Redis and ranks under older weights. It is waited for, unless Kafka (with --kafka)
    shows that it is not in the group, or as many workers as --workers names have a status. A worker
    that starts later reads its weights before it ranks.
    """
    at_least = expected.count or 1
    with steering.open(surface) as opened:
        wanted = version or _version_in_redis(opened, arm)
        missing_workers = MissingWorkers(expected, opened.editor.keys)
        began = time.monotonic()

        while True:
            fleet = opened.editor.read_fleet()
            versions = applied_versions(fleet.workers, surface, arm)
            behind = {worker: at for worker, at in versions.items() if at != wanted}
            seems_applied = not behind and len(versions) >= at_least
            is_late = time.monotonic() - began > timeout

            if seems_applied or is_late:
                missing = missing_workers.find(fleet, len(versions))
                is_applied = seems_applied and missing.is_empty
                if is_applied or is_late:
                    break
            time.sleep(_PAUSE_S)

        reasons = missing_workers.explain(missing, fleet.silent)

    place = place_text(surface, arm)
    if as_json:
        result = {
            "surface": surface,
            "arm": arm or CONTROL,
            "version": wanted,
            "applied": is_applied,
            "workers": [worker for worker in versions if worker not in behind],
            "behind": behind,
            "silent": fleet.silent,
            "members": missing.members,
            "members_without_status": [member.client for member in missing.without_status],
            "seconds": round(time.monotonic() - began, 3),
        }
        click.echo(json.dumps(result))
    elif is_applied:
        passed_over = ""
        if fleet.silent:
            passed_over = f" (without a status and passed over: {', '.join(fleet.silent)})"
        click.echo(f"{place}: version {wanted} applied by all {len(versions)} workers{passed_over}")
    if is_applied:
        return

    if len(versions) < at_least:
        why = f"{len(versions)} live workers, expected at least {at_least}"
    elif behind:
        others = ", ".join(f"{worker} at {at}" for worker, at in behind.items())
        why = f"version {wanted} is not applied by all {len(versions)} workers: {others}"
    else:
        why = (
            f"version {wanted} is applied by the {len(versions)} workers that have a status,"
            " not by all"
        )
    raise Failure(f"{place}: {'; '.join([why, *reasons])}")


def _version_in_redis(opened: OpenSurface, arm: str | None) -> str:
    """The version of the weights that Redis holds. Raises Failure if it holds no valid set."""
    document = opened.editor.read_view(opened.surface, arm).weights_of(arm)
    if document.value is None:
        holds = document.content.refused or "nothing"
        raise Failure(f"{document.content.key}: holds {holds}, expected a set to wait for")
    return document.value.version
