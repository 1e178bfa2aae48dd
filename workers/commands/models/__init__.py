"""`trimtab models`: the objective models that workers score with."""

import click

from workers.commands.models.look import list_models, verify
from workers.commands.models.new import new
from workers.commands.models.pin import activate, rollback
from workers.commands.models.status import status
from workers.commands.options import example


@click.group(epilog=example("trimtab models verify"))
def models() -> None:
    """Objective models: <DIR>/<objective>/<version>/model.onnx and manifest.json."""


for command in (list_models, verify, new, status, activate, rollback):
    models.add_command(command)
