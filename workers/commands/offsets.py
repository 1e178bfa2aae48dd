"""`trimtab offsets resume` and `skip`: let a partition go on behind events that are lost, or that
cannot be read.
"""

import click

from workers.commands.options import BrokersAt, brokers_options, example, settings
from workers.streaming.offsets import resume_from_earliest, skip_unreadable

_partition_option = click.option(
    "--partition",
    type=click.IntRange(0),
    metavar="N",
    required=True,
    help="Number of the partition that is stopped.",
)


@click.group(epilog=example("trimtab offsets resume --partition 3"))
def offsets() -> None:
    """Let a stopped partition go on."""


@offsets.command(epilog=example("trimtab offsets resume --partition 3"))
@brokers_options
@settings("topic_candidates", "group")
@_partition_option
def resume(brokers: BrokersAt, topic_candidates: str, group: str, partition: int) -> None:
    """Let a partition go on from the earliest event that is left. Stop the group's workers first.

    Use it after retention has removed events that were not ranked yet. These events are lost, and
    their offsets are printed. Feeds that are published already are not published again.
    """
    moved = resume_from_earliest(
        brokers.cluster(), group=group, topic=topic_candidates, partition=partition
    )
    click.echo(f"partition {partition}: from {moved.before} to {moved.after}")


@offsets.command(epilog=example("trimtab offsets skip --partition 3 --offset 118204"))
@brokers_options
@settings("topic_candidates", "topic_feeds", "group")
@_partition_option
@click.option(
    "--offset",
    type=click.IntRange(0),
    metavar="N",
    required=True,
    help="Offset of the record that cannot be read.",
)
def skip(
    brokers: BrokersAt,
    topic_candidates: str,
    topic_feeds: str,
    group: str,
    partition: int,
    offset: int,
) -> None:
    """Let a partition go on behind a record that cannot be read. Stop the group's workers first.

    The whole batch of the record is skipped, and its offsets are printed. Open requests lose none
    of their other events: the committed offset stays, and a mark beside it makes workers pass over
    the batch. The worker that does so writes a dead letter, `unreadable-record`. Exit code 1 if the
    record can be read.
    """
    skipped = skip_unreadable(
        brokers.cluster(),
        group=group,
        candidates=topic_candidates,
        feeds=topic_feeds,
        partition=partition,
        offset=offset,
    )
    span = skipped.span
    result = "were skipped before" if skipped.was_before else f"will be skipped: {skipped.why}"
    click.echo(f"partition {partition}: offsets {span.first} to {span.end - 1} {result}")
    click.echo(
        f"the committed offset stays {skipped.committed};"
        " the worker that passes these offsets writes a dead letter"
    )
