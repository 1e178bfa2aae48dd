"""`trimtab offsets resume` and `skip`: go on behind events that retention removed, or that cannot
be read.
"""

import click

from workers.commands.options import KAFKA, cluster_of, example, settings
from workers.streaming.offsets import resume_from_earliest, skip_unreadable


@click.group(epilog=example("trimtab offsets resume --partition 3"))
def offsets() -> None:
    """Committed offsets of the workers' group."""


@offsets.command(epilog=example("trimtab offsets resume --partition 3"))
@settings(*KAFKA, "topic_candidates", "group")
@click.option(
    "--partition", type=click.IntRange(0), required=True, help="The partition that stands still."
)
def resume(
    kafka: str | None, kafka_config: str | None, topic_candidates: str, group: str, partition: int
) -> None:
    """Let a partition go on from the earliest event that is left. Stop the group's workers first.

    What retention removed is lost and is named here; what is published already is not published
    again.
    """
    cluster = cluster_of(kafka, kafka_config)
    moved = resume_from_earliest(cluster, group, topic_candidates, partition)
    click.echo(f"partition {partition}: from {moved.before} to {moved.after}")


@offsets.command(epilog=example("trimtab offsets skip --partition 3 --offset 118204"))
@settings(*KAFKA, "topic_candidates", "topic_feeds", "group")
@click.option(
    "--partition", type=click.IntRange(0), required=True, help="The partition that stands still."
)
@click.option(
    "--offset", type=click.IntRange(0), required=True, help="The offset that cannot be read."
)
def skip(
    kafka: str | None,
    kafka_config: str | None,
    topic_candidates: str,
    topic_feeds: str,
    group: str,
    partition: int,
    offset: int,
) -> None:
    """Let a partition go on behind a record that cannot be read. Stop the group's workers first.

    The whole batch of the record is skipped, and named here; exit code 1 if it can be read.
    Requests that are open lose none of their other events: the committed offset stays, and workers
    pass over what is written beside it. The one that does writes a dead letter,
    `unreadable-record`.
    """
    cluster = cluster_of(kafka, kafka_config)
    skipped = skip_unreadable(
        cluster,
        group=group,
        candidates=topic_candidates,
        feeds=topic_feeds,
        partition=partition,
        offset=offset,
    )
    span = skipped.span
    done = "were skipped before" if skipped.was_before else f"will be skipped: {skipped.why}"
    click.echo(f"partition {partition}: offsets {span.first} to {span.end - 1} {done}")
    click.echo(
        f"the committed offset stays {skipped.committed}; a dead letter says so once a worker has passed them"
    )
