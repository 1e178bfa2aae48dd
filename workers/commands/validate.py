"""`trimtab validate`: show a producer beforehand what workers and the join would refuse."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import BinaryIO

import click

from workers.codec.event_files import feature_names
from workers.codec.formats import Format
from workers.commands.event_file import (
    AssembledEvent,
    FileAssembly,
    JudgedInteraction,
    judge_interactions,
    refusal_text,
)
from workers.commands.options import (
    events_argument,
    example,
    format_option,
    json_option,
    settings,
)
from workers.outcomes.records import Interaction
from workers.ranking.outcome_rules import OutcomeRules
from workers.ranking.surface import Surfaces
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


class KindWarnings:
    """Counts interactions that count for nothing: of kinds that their surface does not name, and of
    surfaces without outcomes.
    """

    def __init__(self) -> None:
        self.unnamed: dict[str, Counter[str]] = {}
        self.without_outcomes: Counter[str] = Counter()

    def count(self, interaction: Interaction, rules: OutcomeRules | None) -> None:
        """Count one interaction of a surface with these rules."""
        if rules is None:
            self.without_outcomes[interaction.surface] += 1
        elif not rules.names_kind(interaction.kind):
            kinds = self.unnamed.setdefault(interaction.surface, Counter())
            kinds[interaction.kind] += 1

    def lines(self) -> list[str]:
        """One line a kind, or a surface."""
        lines = []
        for surface, kinds in self.unnamed.items():
            for kind, count in kinds.items():
                lines.append(
                    f"warning: kind {kind!r} in {count} interactions: not named by surface"
                    f" {surface!r}, counts for nothing"
                )
        for surface, count in self.without_outcomes.items():
            lines.append(
                f"warning: surface {surface!r} in {count} interactions: has no outcomes, they count"
                " for nothing"
            )
        return lines


@click.command(
    epilog=example(
        "trimtab validate events.jsonl", "trimtab validate --interactions interactions.jsonl"
    )
)
@settings("surfaces")
@events_argument
@format_option
@click.option(
    "--interactions", "are_interactions", is_flag=True, help="FILE has interactions, not events."
)
@json_option("Print refusals and warnings as one JSON object.")
def validate(
    surfaces: str,
    file: BinaryIO,
    file_format: Format | None,
    are_interactions: bool,
    as_json: bool,
) -> None:
    """Check the events or the interactions of FILE as workers and the join do.

    FILE may be - for standard input. Unknown and missing feature names are only warnings, and so
    are kinds of interaction that the surface does not name. What depends on when they are sent is
    not checked: lateness, and whether there is a feed. Exit code 1 if something is refused.
    """
    loaded = load_surfaces(Path(surfaces))
    if are_interactions:
        is_sound = _validate_interactions(loaded, file, file_format, as_json)
    else:
        is_sound = _validate_events(loaded, file, file_format, as_json)
    sys.exit(0 if is_sound else 1)


def _validate_events(
    surfaces: Surfaces, file: BinaryIO, file_format: Format | None, as_json: bool
) -> bool:
    """Check events, and print what is wrong. Returns whether none is refused."""
    assembly = FileAssembly(surfaces)
    warnings = NameWarnings()
    refusals: list[dict[str, object]] = []
    events = 0
    requests = 0
    for assembled in assembly.events(file, file_format):
        events += 1
        requests += len(assembled.closed)
        warnings.count(assembled)
        if assembled.reason is not None:
            refusals.append(_refusal_document(assembled))
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
    return not refusals


def _validate_interactions(
    surfaces: Surfaces, file: BinaryIO, file_format: Format | None, as_json: bool
) -> bool:
    """Check interactions, and print what is wrong. Returns whether none is refused."""
    warnings = KindWarnings()
    refusals: list[dict[str, object]] = []
    interactions = 0
    for judged in judge_interactions(surfaces, file, file_format):
        interactions += 1
        if judged.interaction is None:
            refusals.append(_refusal_document(judged))
            if not as_json:
                click.echo(refusal_text(file.name, judged))
        else:
            rules = surfaces[judged.interaction.surface].outcomes
            warnings.count(judged.interaction, rules)

    if as_json:
        document = {
            "interactions": interactions,
            "refused": refusals,
            "unnamed_kinds": warnings.unnamed,
            "without_outcomes": warnings.without_outcomes,
        }
        click.echo(json.dumps(document))
    else:
        for line in warnings.lines():
            click.echo(line)
        click.echo(f"{interactions} interactions: {len(refusals)} refused")
    return not refusals


def _refusal_document(judged: AssembledEvent | JudgedInteraction) -> dict[str, object]:
    return {"line": judged.raw.line, "reason": judged.reason, "message": judged.message}
