"""`trimtab validate`: tell a producer beforehand what the worker would refuse."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import BinaryIO

import click

from workers.codec.event_files import feature_names
from workers.codec.formats import Format
from workers.commands.offline import OfflineAssembly, Taken
from workers.commands.options import example, settings
from workers.settings import FORMATS
from workers.surfaces import load_surfaces


class Warnings:
    """Feature names that the feature set does not have, and names that it has and that were not
    given.
    """

    def __init__(self) -> None:
        self.unknown: Counter[str] = Counter()
        self.missing: Counter[str] = Counter()

    def look(self, taken: Taken) -> None:
        """Count the names of one event that was taken."""
        if taken.event is None or not (taken.event.missing or taken.event.unknown):
            return
        known = taken.event.surface.feature_set.names
        for names in feature_names(taken.raw.value, taken.raw.format):
            if names:
                self.unknown.update(sorted(names.difference(known)))
                self.missing.update(name for name in known if name not in names)

    def lines(self) -> list[str]:
        """One line a name."""
        return [
            *(
                f"warning: unknown feature {name!r} in {n} candidates: ignored"
                for name, n in self.unknown.items()
            ),
            *(
                f"warning: missing feature {name!r} in {n} candidates: default"
                for name, n in self.missing.items()
            ),
        ]


@click.command(epilog=example("trimtab validate events.jsonl"))
@settings("surfaces")
@click.argument("file", type=click.File("rb"))
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="Format of FILE.  [default: found by looking]",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print refusals and warnings as one JSON object."
)
def validate(surfaces: str, file: BinaryIO, form: str | None, as_json: bool) -> None:
    """Judge the events of FILE (- is standard input) as the worker would; exit code 1 where one is
    refused.

    Lateness is not judged: it depends on when the events are sent. Unknown and missing feature
    names are warnings.
    """
    assembly, warnings = OfflineAssembly(load_surfaces(Path(surfaces))), Warnings()
    refusals: list[dict[str, object]] = []
    events = requests = 0
    for taken in assembly.take(file, None if form is None else Format(form)):
        events += 1
        requests += len(taken.closed)
        warnings.look(taken)
        if taken.reason is not None:
            refusals.append(
                {"line": taken.raw.line, "reason": taken.reason, "message": taken.message}
            )
            if not as_json:
                click.echo(f"{file.name}:{taken.raw.line}: {taken.reason}: {taken.message}")
    unfinished = assembly.rest()
    requests += len(unfinished)
    if as_json:
        found = {
            "unknown_features": dict(warnings.unknown),
            "missing_features": dict(warnings.missing),
        }
        counts = {"events": events, "requests": requests, "unfinished": len(unfinished)}
        click.echo(json.dumps(counts | {"refused": refusals} | found))
    else:
        for line in warnings.lines():
            click.echo(line)
        if unfinished:
            click.echo(
                f"warning: {len(unfinished)} requests do not close: they would wait for their deadline"
            )
        click.echo(f"{events} events of {requests} requests: {len(refusals)} refused")
    sys.exit(1 if refusals else 0)
