"""`trimtab rank`: rank a file of events offline, with the same core as the worker."""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import click

from workers.codec.feeds import encode_feed
from workers.codec.formats import Format
from workers.codec.lookup_files import LookupFileBroken, read_lookups
from workers.commands.event_file import FileAssembly, refusal_text
from workers.commands.options import (
    events_argument,
    example,
    format_option,
    json_option,
    parse_fields,
    settings,
)
from workers.pipeline import rank_requests
from workers.ranking.lookup import LookUp, skip_lookups
from workers.ranking.mix import Mix
from workers.ranking.request import Request
from workers.ranking.surface import Surfaces
from workers.ranking.weights import WeightsRefused
from workers.scoring.registry import Registry
from workers.settings import ConfigurationError
from workers.surfaces import load_surfaces

_BATCH = 256
_MODELS_BYTES = 1024 * 1024 * 1024
_LOADING_SECONDS = 1.0
_NO_LIMIT = sys.maxsize

MixOf = Callable[[str], Mix]
"""The mix of a surface, by its name."""


@click.command(epilog=example("trimtab rank events.jsonl --weights quality=0.7,engagement=0.3"))
@settings("surfaces", "models")
@events_argument
@click.option(
    "--weights",
    metavar="OBJECTIVE=NUMBER,...",
    help="Weights to rank under. An objective that is not named takes its default.",
)
@click.option(
    "--lookups",
    type=click.File("rb"),
    help="File of drop sets and features by id. Without it, nothing is looked up.",
)
@click.option("--surface", metavar="NAME", help="Rank only the requests of this surface.")
@format_option
@json_option("Print one feed a line. This is the only output format.")
def rank(
    surfaces: str,
    models: str,
    file: BinaryIO,
    weights: str | None,
    lookups: BinaryIO | None,
    surface: str | None,
    file_format: Format | None,
    as_json: bool,
) -> None:
    """Rank the requests of FILE, without Kafka and Redis.

    FILE may be - for standard input. Feeds are printed one a line, with the same bytes each time.
    No event is late, `ranked_at` is `requested_at`, and requests that are open at the end of the
    file close with completion `deadline`.

    Refused events, and the first row on which a model fails, are named on standard error. Exit code
    1 if events were refused and nothing could be ranked.
    """
    known = load_surfaces(Path(surfaces))
    mix_of = _mix_of(known, surface, weights)
    look_up: LookUp = skip_lookups
    if lookups is not None:
        try:
            look_up = read_lookups(lookups, known)
        except LookupFileBroken as broken:
            raise ConfigurationError(f"--lookups: {lookups.name}: {broken}") from None

    assembly = FileAssembly(known, surface)

    ranked = 0
    with Registry(Path(models), known, _MODELS_BYTES, _print_model_error) as registry:
        for batch in _batches(_closed_requests(assembly, file, file_format)):
            for line in _rank(batch, registry, mix_of, look_up):
                click.echo(line)
                ranked += 1

    if assembly.refused:
        click.echo(f"{ranked} feeds; {assembly.refused} events refused", err=True)
    sys.exit(1 if assembly.refused and not ranked else 0)


def _mix_of(known: Surfaces, surface: str | None, weights: str | None) -> MixOf:
    """The mix of each surface: its default weights, changed by those of the command line.

    Raises ConfigurationError, for weights that a surface refuses as early as it is known.
    """
    if surface is not None and surface not in known:
        raise ConfigurationError(f"--surface: got {surface!r}, expected one of: {', '.join(known)}")
    if weights is None:
        return lambda name: Mix(known[name].weight_rules.default())

    fields = parse_fields(weights.split(","), "--weights")

    def mix_of(name: str) -> Mix:
        try:
            return Mix(known[name].weight_rules.validate(fields))
        except WeightsRefused as refused:
            hint = "" if surface else f" (surface {name!r}; --surface picks one)"
            raise ConfigurationError(f"--weights: {refused}{hint}") from None

    if surface is not None:
        mix_of(surface)
    elif len(known) == 1:
        mix_of(next(iter(known)))
    return mix_of


def _print_model_error(event: str, /, **fields: object) -> None:
    """Print the event of the registry that a model failed. Other events are not printed."""
    if event == "model_error":
        click.echo(
            f"{fields['model']}: model-error: {fields['error']}; features: {fields['features']}",
            err=True,
        )


def _closed_requests(
    assembly: FileAssembly, file: BinaryIO, file_format: Format | None
) -> Iterator[Request]:
    for assembled in assembly.events(file, file_format):
        if assembled.reason is not None:
            click.echo(refusal_text(file.name, assembled), err=True)
        yield from assembled.closed
    yield from assembly.close_rest()


def _batches(requests: Iterable[Request]) -> Iterator[list[Request]]:
    batch: list[Request] = []
    for request in requests:
        batch.append(request)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _rank(
    batch: list[Request], registry: Registry, mix_of: MixOf, look_up: LookUp
) -> Iterator[bytes]:
    """Rank a batch again and again until all its models are loaded; encoded feeds."""
    while True:
        revision = registry.catalogue.revision
        feeds = rank_requests(
            batch, registry, mix_of, lambda request: request.requested_at, look_up=look_up
        ).feeds
        ready = [feed for feed in feeds if feed is not None]
        if len(ready) == len(batch):
            break
        registry.wait_past(revision, _LOADING_SECONDS)

    for feed in ready:
        yield encode_feed(feed, Format.JSON, _NO_LIMIT)
