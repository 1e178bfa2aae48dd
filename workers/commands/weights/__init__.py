"""`trimtab weights`: what ops do with the weights that steer a surface."""

import click

from workers.commands.options import example
from workers.commands.weights.change import rollback, set_, unset
from workers.commands.weights.look import diff, history, show, watch
from workers.commands.weights.preview import margin, preview
from workers.commands.weights.wait import wait


@click.group(
    epilog=example(
        "trimtab weights show", 'trimtab weights set home quality=0.6 --reason "more quality"'
    )
)
def weights() -> None:
    """Weights: shown, previewed, set, acknowledged, rolled back."""


for command in (show, preview, margin, set_, unset, rollback, history, diff, watch, wait):
    weights.add_command(command)
