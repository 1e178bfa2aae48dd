"""`trimtab status`: the live workers and stages of outcomes, how far behind they are, and what surfaces
are ranked under.
"""

from collections.abc import Iterable, Iterator, Sequence

import click
import msgspec

from workers.commands.options import example, json_option
from workers.commands.redis_access import RedisAt, redis_options
from workers.commands.text import (
    NOTHING,
    WIDTH,
    moment_text,
    printable,
    shares_text,
    table,
    weights_text,
    wrap,
)
from workers.errors import Failure
from workers.ranking.experiment import CONTROL
from workers.steering.documents import Source
from workers.steering.fleet import (
    LiveWorker,
    SurfaceAgreement,
    WeightsGroup,
    agreements,
)
from workers.steering.stage_status import StageProcess, Stages
from workers.steering.status import WorkerStatus

_PARTITIONS_WIDTH = 16
# A healthy loop turns many times a second. One transactional call may take 7 s.
_STUCK_MS = 10_000
_STAGE_HEAD = ("STAGE", "PROCESS", "AGE", "PARTITIONS", "LAG", "COUNTED UP TO")
_HEAD = ("WORKER", "AGE", "PARTITIONS", "LAG", "WORST", "OPEN", "FEEDS")


@click.command(epilog=example("trimtab status", "trimtab status --json"))
@redis_options
@json_option("Print one JSON document.")
def status(redis: RedisAt, as_json: bool) -> None:
    """Show the live workers, and what each surface is ranked under.

    LAG is the number of records that are not ranked and published yet, WORST the partition with the
    most. A partition that is not being read has a line of its own.

    The stages of outcomes, `join` and `users`, are shown with the time up to which they have counted
    and with what they wait for. A process that did not end well is shown for a day.

    Exit code 1 if no worker lives, if a partition is stopped or fails, if a worker's loop is stuck,
    or if a stage fails or has died.
    """
    with redis.open() as editor:
        workers = editor.live_workers()
        stages = editor.read_stages()
    surfaces = agreements(workers)

    if as_json:
        documents = [_worker_document(worker) for worker in workers]
        document = {
            "workers": documents,
            "surfaces": surfaces,
            "stages": [_stage_document(stage) for stage in stages.processes],
            "stages_denied": stages.denied,
        }
        click.echo(msgspec.json.encode(document))
    else:
        lines = list[str]()
        if workers:
            lines += [*_worker_table(workers), *_worker_notes(workers), *_surface_lines(surfaces)]
        lines += _stage_lines(stages, editor.keys.live_stages)
        if lines:
            click.echo("\n".join(lines).removeprefix("\n"))

    if not workers:
        raise Failure(
            f"no worker lives: Redis holds no status of a worker under {editor.keys.status('*')!r};"
            " expected `trimtab worker` to run with this Redis and prefix"
        )
    problems = [problem for worker in workers for problem in _problems(worker)]
    for stage in stages.processes:
        if stage.status is not None and stage.status.report.failing is not None:
            problems.append(f"{stage.stage} {stage.process}: {stage.status.report.failing}")
    problems += [f"{name}: no process lives" for name in stages.without_process()]
    if problems:
        raise Failure("; ".join(problems))


def _worker_document(worker: LiveWorker) -> dict[str, object]:
    status = worker.status
    return {
        "worker": worker.worker,
        "age_ms": worker.age_ms,
        "unreadable": worker.unreadable,
        "group": status and status.group,
        "pushes": status and status.pushes,
        "partitions": status and status.partitions,
        "lag": status and status.lag,
        "open_requests": status and status.open_requests,
        "partition_states": status and status.partition_states,
        "turned_ms": status and status.turned_ms,
        "doing": status and status.doing,
        "counts": status and status.counts,
        "tally": status and status.tally,
    }


# The stages of outcomes


def _stage_document(stage: StageProcess) -> dict[str, object]:
    status = stage.status
    report = None if status is None else status.report
    return {
        "stage": stage.stage,
        "process": stage.process,
        "age_ms": stage.age_ms,
        "unreadable": stage.unreadable,
        "gone_since": stage.gone_since,
        "since": status and status.since,
        "version": status and status.version,
        "partitions": report and report.partitions,
        "lag": report and report.lag,
        "partition_states": report and report.partition_states,
        "closed_until": report and report.closed_until,
        "waiting_for": report and report.waiting_for,
        "failing": report and report.failing,
        "counts": report and report.counts,
    }


def _stage_lines(stages: Stages, live_key: str) -> Iterator[str]:
    """One line a process, then what each waits for and what is wrong with it. `live_key` has the
    processes.
    """
    if stages.denied is not None:
        yield ""
        yield from wrap(f"the stages of outcomes cannot be read: {printable(stages.denied)}")
    if not stages.processes:
        return

    rows = [list(_STAGE_HEAD)]
    notes = list[str]()
    for stage in stages.processes:
        age = NOTHING if stage.age_ms is None else f"{stage.age_ms / 1000:.1f} s"
        if stage.gone_since is not None:
            age = "gone"
        row = [printable(stage.stage), printable(stage.process), age]
        name = f"{stage.stage} {stage.process}"
        if stage.gone_since is not None:
            row += [NOTHING] * (len(_STAGE_HEAD) - len(row))
            notes.append(
                f"{name}: gone since {moment_text(stage.gone_since)}: it was killed, or has ended with"
                " an error. Start it again, or forget it:"
                f" redis-cli ZREM {live_key} {stage.stage}:{stage.process}"
            )
        elif stage.status is None:
            row += [NOTHING] * (len(_STAGE_HEAD) - len(row))
            notes.append(f"{name}: its status cannot be read: {stage.unreadable}")
        else:
            report = stage.status.report
            until = report.closed_until
            row += [
                _partitions_text(report.partitions),
                str(sum(report.lag.values())) if report.lag else NOTHING,
                NOTHING if until is None else moment_text(until),
            ]
            if report.waiting_for is not None:
                notes.append(f"{name}: waits for {report.waiting_for}")
            if report.failing is not None:
                notes.append(f"{name}: {report.failing}")
        rows.append(row)

    yield ""
    yield from table(rows, align="l")
    for note in notes:
        yield from wrap(printable(note))


# The workers


def _worker_table(workers: Iterable[LiveWorker]) -> list[str]:
    """One line a worker, in 100 columns.

    An id that is too long is cut at its start, because ids differ at their ends.
    """
    rows = [list(_HEAD)]
    for worker in workers:
        age = NOTHING if worker.age_ms is None else f"{worker.age_ms / 1000:.1f} s"
        row = [printable(worker.worker), age]
        status = worker.status
        if status is None:
            row += [NOTHING] * (len(_HEAD) - len(row))
        else:
            worst = NOTHING
            if any(status.lag.values()):
                partition = max(status.lag, key=status.lag.__getitem__)
                worst = f"{status.lag[partition]} in {partition}"
            row += [
                _partitions_text(status.partitions),
                str(sum(status.lag.values())) if status.lag else NOTHING,
                worst,
                str(status.open_requests),
                str(status.counts.get("feeds", NOTHING)),
            ]
        rows.append(row)

    widest_line = max(map(len, table(rows, align="l")))
    widest_id = max(len(row[0]) for row in rows)
    room = WIDTH - (widest_line - widest_id)
    for row in rows:
        if len(row[0]) > room:
            row[0] = f"…{row[0][1 - room :]}"
    return table(rows, align="l")


def _partitions_text(numbers: Sequence[int]) -> str:
    """Numbers of partitions, such as `0-3,7`. What does not fit is `…`."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    text = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
    if len(text) > _PARTITIONS_WIDTH:
        whole, _, _ = text[: _PARTITIONS_WIDTH - 1].rpartition(",")
        return f"{whole},…"
    return text or "none"


def _worker_notes(workers: Sequence[LiveWorker]) -> Iterator[str]:
    """Lines about single workers, grouped by what is wrong with them."""
    for worker in workers:
        if worker.unreadable:
            yield from wrap(
                f"{worker.worker}: its status cannot be read, is it of another version?"
                f" {worker.unreadable}"
            )

    for worker in workers:
        status = worker.status
        if status is None:
            continue
        if _is_stuck(status):
            seconds = _seconds_text(status.turned_ms)
            yield from wrap(f"{worker.worker}: its loop has been in {status.doing!r} for {seconds}")
        for number, partition in sorted(status.partition_states.items()):
            if partition.state != "reading":
                why = f": {partition.why}" if partition.why else ""
                seconds = _seconds_text(partition.for_ms)
                yield from wrap(
                    f"{worker.worker}: partition {number} {partition.state} for {seconds}{why}"
                )

    for worker in workers:
        misplaced = worker.status.counts.get("misplaced", 0) if worker.status else 0
        if misplaced:
            yield from wrap(
                f"{worker.worker}: events in another partition than murmur2 gives their key:"
                f" {misplaced}; do all producers use that partitioner?"
            )


def _problems(worker: LiveWorker) -> Iterator[str]:
    """What is wrong with a worker and lasts until somebody acts."""
    status = worker.status
    if status is None:
        return
    if _is_stuck(status):
        yield f"{worker.worker}: its loop does not turn"

    helpless = []
    for number, partition in status.partition_states.items():
        if partition.needs_help:
            helpless.append(number)
    if helpless:
        yield f"{worker.worker}: partitions that are not read: {_partitions_text(helpless)}"


def _is_stuck(status: WorkerStatus) -> bool:
    return status.turned_ms is not None and status.turned_ms > _STUCK_MS


def _seconds_text(milliseconds: int | None) -> str:
    return NOTHING if milliseconds is None else f"{milliseconds / 1000:.0f} s"


# The surfaces


def _surface_lines(surfaces: Iterable[SurfaceAgreement]) -> Iterator[str]:
    for surface in surfaces:
        yield ""
        yield printable(surface.surface)
        for label, text in _surface_facts(surface):
            yield from wrap(text, label=f"  {label:<10}  ")


def _surface_facts(surface: SurfaceAgreement) -> Iterator[tuple[str, str]]:
    """Labels and texts: one if all workers agree, otherwise one for each group of workers."""
    everyone = surface.workers
    for weights in surface.weights:
        yield "weights", _weights_fact(weights, everyone)

    for experiment in surface.experiment:
        workers = _workers_text(experiment.workers, everyone)
        if experiment.arms is not None:
            control = round(100 - sum(experiment.arms.values()), 2)
            shares = shares_text({**experiment.arms, CONTROL: control})
            sources = _sources_text(experiment.sources)
            yield "experiment", f"{shares}, {sources}, salt {experiment.salt!r}, {workers}"
        elif len(surface.experiment) > 1:
            yield "experiment", f"none, {workers}"

    for arm, groups in surface.arms.items():
        for weights in groups:
            yield f"arm {arm}", _weights_fact(weights, everyone)

    for refused in surface.refused:
        workers = _workers_text(refused.workers, everyone)
        yield "refused", f"{refused.document} {workers}: {refused.reason}"

    for objective, versions in surface.models.items():
        for model in versions:
            workers = _workers_text(model.workers, everyone)
            yield "model", f"{objective} {model.version} {workers}"


def _weights_fact(group: WeightsGroup, everyone: Sequence[str]) -> str:
    workers = _workers_text(group.workers, everyone)
    if group.values is None:
        return f"no valid set yet {workers}"
    sources = _sources_text(group.sources)
    return f"{group.version} {workers}, {sources}: {weights_text(group.values)}"


def _workers_text(workers: Sequence[str], everyone: Sequence[str]) -> str:
    """How many workers these are, and their names if they are not all."""
    share = f"on {len(workers)} of {len(everyone)} workers"
    return share if len(workers) == len(everyone) else f"{share} ({', '.join(workers)})"


def _sources_text(sources: Sequence[Source]) -> str:
    return f"from {' and '.join(sources)}"
