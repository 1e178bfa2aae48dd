"""`trimtab status`: the workers that live, how far behind they are, and what each surface is ranked
under.
"""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click
import msgspec

from workers.commands.desk import REDIS, open_desk
from workers.commands.options import example, settings
from workers.errors import Failure
from workers.ranking.experiment import CONTROL
from workers.steering.document_state import Source
from workers.steering.fleet import (
    ExperimentGroup,
    LiveWorker,
    SurfaceAgreement,
    WeightsGroup,
    agreements,
)
from workers.steering.status import WorkerStatus

_WIDTH = 100
_MOST_PARTITIONS = 16
_NOT_KNOWN = "-"
_STUCK_MS = (
    10_000  # a worker that lives turns many times a second; one transactional call may take 7 s
)
_HEAD = ("WORKER", "AGE", "PARTITIONS", "LAG", "WORST", "OPEN", "FEEDS")


@click.command(epilog=example("trimtab status", "trimtab status --json"))
@settings(*REDIS)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def status(as_json: bool, **redis: Any) -> None:
    """Say which workers live, how far behind they are, and what each surface is ranked under.

    LAG counts records that are not ranked and published yet, WORST is the partition with the most.
    Partitions that are not read have a line of their own. Exit code 1 if no worker lives, a
    partition stands still or fails, or a worker's loop does not turn.
    """
    with open_desk(**redis) as desk:
        workers = desk.live_workers()
    surfaces = agreements(workers)
    if as_json:
        click.echo(
            msgspec.json.encode(
                {"workers": [_document(one) for one in workers], "surfaces": surfaces}
            )
        )
    elif workers:
        notes = (*_unreadable(workers), *_not_read(workers), *_misplaced(workers))
        click.echo("\n".join((*_table(workers), *notes, *_surfaces(surfaces))))
    if not workers:
        where = f"Redis holds no status of a worker under {desk.keys.status('*')!r}"
        raise Failure(
            f"no worker lives: {where}; expected `trimtab worker` to run with this Redis and prefix"
        )
    troubles = [trouble for one in workers for trouble in _troubles(one)]
    if troubles:
        raise Failure("; ".join(troubles))


def _document(live: LiveWorker) -> dict[str, object]:
    said = live.status
    return {
        "worker": live.worker,
        "age_ms": live.age_ms,
        "unreadable": live.unreadable,
        "group": said and said.group,
        "pushes": said and said.pushes,
        "partitions": said and said.partitions,
        "lag": said and said.lag,
        "open_requests": said and said.open_requests,
        "partition_states": said and said.partition_states,
        "turned_ms": said and said.turned_ms,
        "doing": said and said.doing,
        "counts": said and said.counts,
        "tally": said and said.tally,
    }


# The workers


def _table(workers: Iterable[LiveWorker]) -> Iterator[str]:
    """One line a worker; the ids get the width that is left, and keep their ends: those differ."""
    rows = [_HEAD, *(_row(one) for one in workers)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    widths[0] = min(widths[0], _WIDTH - sum(widths[1:]) - 2 * (len(_HEAD) - 1))
    for worker, *cells in rows:
        name = worker if len(worker) <= widths[0] else f"…{worker[1 - widths[0] :]}"
        yield "  ".join(
            cell.ljust(width) for cell, width in zip((name, *cells), widths, strict=True)
        ).rstrip()


def _row(live: LiveWorker) -> tuple[str, ...]:
    age = _NOT_KNOWN if live.age_ms is None else f"{live.age_ms / 1000:.1f} s"
    said = live.status
    if said is None:
        return _printable(live.worker), age, *(_NOT_KNOWN for _ in _HEAD[2:])
    lag = str(sum(said.lag.values())) if said.lag else _NOT_KNOWN
    feeds = str(said.counts.get("feeds", _NOT_KNOWN))
    return (
        _printable(live.worker),
        age,
        _partitions(said.partitions),
        lag,
        _worst(said),
        str(said.open_requests),
        feeds,
    )


def _partitions(numbers: Sequence[int]) -> str:
    """Such as `0-3,7`."""
    stretches: list[list[int]] = []
    for number in sorted(numbers):
        if stretches and number == stretches[-1][-1] + 1:
            stretches[-1].append(number)
        else:
            stretches.append([number])
    shown = ",".join(str(s[0]) if len(s) == 1 else f"{s[0]}-{s[-1]}" for s in stretches)
    if len(shown) > _MOST_PARTITIONS:
        shown = f"{shown[: _MOST_PARTITIONS - 1].rpartition(',')[0]},…"
    return shown or "none"


def _worst(said: WorkerStatus) -> str:
    if not any(said.lag.values()):
        return _NOT_KNOWN
    number = max(said.lag, key=said.lag.__getitem__)
    return f"{said.lag[number]} in {number}"


def _unreadable(workers: Iterable[LiveWorker]) -> Iterator[str]:
    for one in workers:
        if one.unreadable:
            yield from _wrapped(
                "",
                f"{one.worker}: its status does not read, is it of another version? {one.unreadable}",
            )


def _not_read(workers: Iterable[LiveWorker]) -> Iterator[str]:
    """A line for each partition that is not read, and for each loop that does not turn."""
    for one in workers:
        if one.status is None:
            continue
        if _is_stuck(one.status):
            text = f"{one.worker}: its loop has been in {one.status.doing!r} for {_seconds(one.status.turned_ms)}"
            yield from _wrapped("", text)
        for number, partition in sorted(one.status.partition_states.items()):
            if partition.state != "reading":
                why = f": {partition.why}" if partition.why else ""
                text = f"{one.worker}: partition {number} {partition.state} for {_seconds(partition.for_ms)}{why}"
                yield from _wrapped("", text)


def _troubles(live: LiveWorker) -> Iterator[str]:
    """What is wrong with a worker, and does not mend itself at once."""
    if live.status is None:
        return
    if _is_stuck(live.status):
        yield f"{live.worker}: its loop does not turn"
    helpless = [number for number, one in live.status.partition_states.items() if one.needs_help]
    if helpless:
        yield f"{live.worker}: partitions that are not read: {_partitions(helpless)}"


def _is_stuck(said: WorkerStatus) -> bool:
    return said.turned_ms is not None and said.turned_ms > _STUCK_MS


def _seconds(milliseconds: int | None) -> str:
    return _NOT_KNOWN if milliseconds is None else f"{milliseconds / 1000:.0f} s"


def _misplaced(workers: Iterable[LiveWorker]) -> Iterator[str]:
    for one in workers:
        count = one.status.counts.get("misplaced", 0) if one.status else 0
        if count:
            yield from _wrapped(
                "",
                f"{one.worker}: events in another partition than murmur2 gives their key: {count}; "
                "do all producers use that partitioner?",
            )


# The surfaces


def _surfaces(surfaces: Iterable[SurfaceAgreement]) -> Iterator[str]:
    for surface in surfaces:
        yield from ("", _printable(surface.surface))
        for label, text in _said(surface):
            yield from _wrapped(f"  {label:<10}  ", text)


def _said(surface: SurfaceAgreement) -> Iterator[tuple[str, str]]:
    """What there is to say of a surface: one line where all agree, and else one a party."""
    everyone = surface.workers
    for weights in surface.weights:
        yield "weights", _weights(weights, everyone)
    for experiment in surface.experiment:
        if experiment.arms is not None or len(surface.experiment) > 1:
            yield "experiment", f"{_experiment(experiment)}, {_who(experiment.workers, everyone)}"
    for arm, parties in surface.arms.items():
        for weights in parties:
            yield f"arm {arm}", _weights(weights, everyone)
    for refused in surface.refused:
        yield "refused", f"{refused.document} {_who(refused.workers, everyone)}: {refused.reason}"
    for objective, versions in surface.models.items():
        for model in versions:
            yield "model", f"{objective} {model.version} {_who(model.workers, everyone)}"


def _weights(party: WeightsGroup, everyone: Sequence[str]) -> str:
    if party.values is None:
        return f"no valid set yet {_who(party.workers, everyone)}"
    values = ", ".join(f"{objective} {weight:g}" for objective, weight in party.values.items())
    return f"{party.version} {_who(party.workers, everyone)}, {_from(party.sources)}: {values}"


def _experiment(party: ExperimentGroup) -> str:
    if party.arms is None:
        return "none"
    shares = {**party.arms, CONTROL: round(100 - sum(party.arms.values()), 2)}
    percentages = ", ".join(f"{arm} {percent:g} %" for arm, percent in shares.items())
    return f"{percentages}, {_from(party.sources)}, salt {party.salt!r}"


def _who(workers: Sequence[str], everyone: Sequence[str]) -> str:
    """How many of the workers it is, and which where it is not all of them."""
    share = f"on {len(workers)} of {len(everyone)} workers"
    return share if len(workers) == len(everyone) else f"{share} ({', '.join(workers)})"


def _from(sources: Sequence[Source]) -> str:
    return f"from {' and '.join(sources)}"


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        _printable(text),
        _WIDTH,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_on_hyphens=False,
    )


def _printable(text: str) -> str:
    """Reasons hold what anyone may have written to Redis: it must not steer a terminal."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
