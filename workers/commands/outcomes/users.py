"""`trimtab outcomes users`: count outcomes by user, in one process or several.

The parts are put together in `users_parts.py`. How a process starts and ends is in `process.py`.
"""

from dataclasses import fields

import click

from workers.commands.metrics_endpoint import MetricsEndpoint
from workers.commands.options import example, gather_settings
from workers.commands.process import process_options, run_until_signal
from workers.commands.users_parts import run_users
from workers.metrics.names import USERS
from workers.settings import UsersSettings

_SETTINGS = tuple(field.name for field in fields(UsersSettings))


@click.command(epilog=example("trimtab outcomes users", "trimtab outcomes users --users-port 6066"))
@gather_settings("users_settings", _SETTINGS, UsersSettings)
@process_options("Run N processes.")
def users(
    processes: int, with_parent: bool, metrics_socket: int | None, users_settings: UsersSettings
) -> None:
    """Count outcomes by user, and check that users have the arm of the published hash.

    It runs until SIGTERM or Ctrl-C. Then it writes down what it has counted and exits with 0. It
    needs the extra 'outcomes', and Redis to know the experiments.
    """
    metrics = MetricsEndpoint(USERS, users_settings.metrics_host, users_settings.metrics_port)
    run_until_signal(
        lambda: run_users(users_settings, metrics.in_child(metrics_socket)),
        processes=processes,
        slot=users_settings.slot,
        with_parent=with_parent,
        metrics=metrics,
    )
