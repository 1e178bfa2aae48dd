"""`trimtab rank`: rank a file of events offline, with the worker's own core."""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import click

from workers.codec.feeds import encode_feed
from workers.codec.formats import Format
from workers.codec.lookup_files import LookupFileBroken, read_lookups
from workers.commands.offline import OfflineAssembly, Taken
from workers.commands.options import example, fields_of, settings
from workers.pipeline import rank_requests
from workers.ranking.lookup import LookUp, skip_lookups
from workers.ranking.mix import Mix
from workers.ranking.request import Request
from workers.ranking.surface import Surfaces
from workers.ranking.weights import WeightsRefused
from workers.scoring.registry import Registry
from workers.settings import FORMATS, ConfigurationError
from workers.surfaces import load_surfaces

_BATCH = 256
_MODELS_BYTES = 1024 * 1024 * 1024
_LOADING_SECONDS = 1.0
_NO_LIMIT = sys.maxsize


@click.command(epilog=example("trimtab rank events.jsonl --weights quality=0.7,engagement=0.3"))
@settings("surfaces", "models")
@click.argument("file", type=click.File("rb"))
@click.option(
    "--weights", "given", help="objective=number[,...]; a missing objective takes its default."
)
@click.option(
    "--lookups", type=click.File("rb"), help="Sets and features by id; without: feeds say skipped."
)
@click.option("--surface", help="Only this surface's requests, where FILE has several.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="Format of FILE.  [default: found by looking]",
)
@click.option(
    "--json", "_as_json", is_flag=True, help="One feed a line; this is the only output there is."
)
def rank(
    surfaces: str,
    models: str,
    file: BinaryIO,
    given: str | None,
    lookups: BinaryIO | None,
    surface: str | None,
    form: str | None,
    _as_json: bool,
) -> None:
    """Rank the requests of FILE (- is standard input) and print one feed a line: the same bytes
    each time.

    No Kafka and no Redis. No event is late, `ranked_at` is `requested_at`, and what is open at the
    end of the file closes as `deadline`. Refused events, and the first row that a model fails on,
    are named on standard error; exit code 1 where nothing could be ranked.
    """
    known = load_surfaces(Path(surfaces))
    mix, look_up = mix_for(known, surface, given), _look_up(lookups, known)
    assembly = OfflineAssembly(known, surface)
    ranked = 0
    with Registry(Path(models), known, _MODELS_BYTES, _say) as registry:
        for batch in _batches(_closed(assembly, file, form)):
            for line in _rank(batch, registry, mix, look_up):
                click.echo(line)
                ranked += 1
    if assembly.refused:
        click.echo(f"{ranked} feeds; {assembly.refused} events refused", err=True)
    sys.exit(1 if assembly.refused and not ranked else 0)


def mix_for(known: Surfaces, surface: str | None, given: str | None) -> Callable[[str], Mix]:
    """The set to rank each surface under: the one given on the command line, else the surface's
    default.
    """
    if surface is not None and surface not in known:
        raise ConfigurationError(f"--surface: got {surface!r}, expected one of: {', '.join(known)}")
    if given is None:
        return lambda name: Mix(known[name].weight_rules.default())
    fields = fields_of(given.split(","), "--weights")

    def of(name: str) -> Mix:
        try:
            return Mix(known[name].weight_rules.validate(fields))
        except WeightsRefused as refused:
            several = "" if surface else f" (surface {name!r}; --surface picks one)"
            raise ConfigurationError(f"--weights: {refused}{several}") from None

    for name in known if surface is None and len(known) == 1 else [surface] if surface else []:
        of(name)
    return of


def _say(event: str, /, **fields: object) -> None:
    """Of what the library says, only that a model failed."""
    if event == "model_error":
        click.echo(
            f"{fields['model']}: model-error: {fields['error']}; features: {fields['features']}",
            err=True,
        )


def _look_up(file: BinaryIO | None, known: Surfaces) -> LookUp:
    if file is None:
        return skip_lookups
    try:
        return read_lookups(file, known)
    except LookupFileBroken as broken:
        raise ConfigurationError(f"--lookups: {file.name}: {broken}") from None


def _closed(assembly: OfflineAssembly, file: BinaryIO, form: str | None) -> Iterator[Request]:
    for taken in assembly.take(file, None if form is None else Format(form)):
        if taken.reason is not None:
            click.echo(complaint(file.name, taken), err=True)
        yield from taken.closed
    yield from assembly.rest()


def complaint(name: str, taken: Taken) -> str:
    """One refused event for people: file, place, code and message."""
    return f"{name}:{taken.raw.line}: {taken.reason}: {taken.message}"


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
    batch: list[Request], registry: Registry, mix: Callable[[str], Mix], look_up: LookUp
) -> Iterator[bytes]:
    while True:
        revision = registry.catalogue.revision
        feeds = rank_requests(
            batch, registry, mix, lambda request: request.requested_at, look_up=look_up
        ).feeds
        ready = [feed for feed in feeds if feed is not None]
        if len(ready) == len(batch):
            break
        registry.wait_past(revision, _LOADING_SECONDS)
    for feed in ready:
        yield encode_feed(feed, Format.JSON, _NO_LIMIT)
