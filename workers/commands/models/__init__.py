"""`trimtab models`: the objective models that workers score with.

Each command is in the module of its name, except that `verify.py` also holds `list`, and
`activate.py` also holds `rollback`.
"""

import click

from workers.commands.models.activate import activate, rollback
from workers.commands.models.new import new
from workers.commands.models.status import status
from workers.commands.models.verify import list_models, verify
from workers.commands.options import example


@click.group(epilog=example("trimtab models verify"))
def models() -> None:
    """List, verify, add and activate models.

    A model is a file <DIR>/<objective>/<version>/model.onnx, with a manifest.json beside it.
    """


for command in (list_models, verify, new, status, activate, rollback):
    models.add_command(command)
