"""`trimtab offsets resume`: go on after retention removed events that were not yet ranked."""

import click

from workers.commands.options import KAFKA, cluster_of, example, settings
from workers.streaming.offsets import resume_from_earliest


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
