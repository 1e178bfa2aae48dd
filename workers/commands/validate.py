"""`trimtab validate`: show a producer beforehand what workers would refuse."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import BinaryIO

import click

from workers.codec.event_files import feature_names
from workers.codec.formats import Format
from workers.commands.event_file import AssembledEvent, FileAssembly, refusal_text
from workers.commands.options import (
    events_argument,
    example,
    format_option,
    json_option,
    settings,
)
from workers.surfaces import load_surfaces


class NameWarnings:
    """Counts feature names that are not in the feature set, and names of it that are not given."""

    def __init__(self) -> None:
        self.unknown: Counter[str] = Counter()
        self.missing: Counter[str] = Counter()

    def count(self, assembled: AssembledEvent) -> None:
        """Count the names of one event."""
        event = assembled.event
        if event is None or not (event.missing or event.unknown):
            return
        known = event.surface.feature_set.names
        for names in feature_names(assembled.raw.value, assembled.raw.format):
            if names:
                self.unknown.update(sorted(names.difference(known)))
                self.missing.update(name for name in known if name not in names)

    def lines(self) -> list[str]:
        """One line a name."""
        lines = []
        for name, count in self.unknown.items():
            lines.append(f"warning: unknown feature {name!r} in {count} candidates: ignored")
        for name, count in self.missing.items():
            lines.append(f"warning: missing feature {name!r} in {count} candidates: default")
        return lines


@click.command(epilog=example("trimtab validate events.jsonl"))
@settings("surfaces")
@events_argument
@format_option
@json_option("Print refusals and warnings as one JSON object.")
def validate(surfaces: str, file: BinaryIO, file_format: Format | None, as_json: bool) -> None:
    """Check the events of FILE as workers do.

    FILE may be - for standard input. Unknown and missing feature names are only warnings. Lateness
    is not checked, because it depends on when the events are sent. Exit code 1 if an event is
    refused.
    """
    assembly = FileAssembly(load_surfaces(Path(surfaces)))
    warnings = NameWarnings()
    refusals: list[dict[str, object]] = []
    events = 0
    requests = 0
    for assembled in assembly.events(file, file_format):
        events += 1
        requests += len(assembled.closed)
        warnings.count(assembled)
        if assembled.reason is not None:
            refusals.append(
                {
                    "line": assembled.raw.line,
                    "reason": assembled.reason,
                    "message": assembled.message,
                }
            )
            if not as_json:
                click.echo(refusal_text(file.name, assembled))

    unfinished = len(assembly.close_rest())
    requests += unfinished

    if as_json:
        document = {
            "events": events,
            "requests": requests,
            "unfinished": unfinished,
            "refused": refusals,
            "unknown_features": dict(warnings.unknown),
            "missing_features": dict(warnings.missing),
        }
        click.echo(json.dumps(document))
    else:
        for line in warnings.lines():
            click.echo(line)
        if unfinished:
            click.echo(
                f"warning: {unfinished} requests do not close: they would wait for their deadline"
            )
        click.echo(f"{events} events of {requests} requests: {len(refusals)} refused")
    sys.exit(1 if refusals else 0)
