"""`trimtab weights`: what operators do with the weights of a surface.

Each command is in the module of its name, except that `set.py` also holds `unset` and `rollback`,
and `history.py` also holds `diff` and `watch`.
"""

import click

from workers.commands.options import example
from workers.commands.weights.history import diff, history, watch
from workers.commands.weights.margin import margin
from workers.commands.weights.preview import preview
from workers.commands.weights.set import rollback, set_weights, unset
from workers.commands.weights.show import show
from workers.commands.weights.wait import wait


@click.group(
    epilog=example(
        "trimtab weights show", 'trimtab weights set home quality=0.6 --reason "more quality"'
    )
)
def weights() -> None:
    """Show, preview and change the weights of surfaces."""


for command in (show, preview, margin, set_weights, unset, rollback, history, diff, watch, wait):
    weights.add_command(command)
