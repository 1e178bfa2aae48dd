"""`trimtab outcomes`: what readers did with the feeds.

Each command is in the module of its name.
"""

import click

from workers.commands.options import example
from workers.commands.outcomes.counts import counts
from workers.commands.outcomes.join import join
from workers.commands.outcomes.replay import replay
from workers.commands.outcomes.report import report
from workers.commands.outcomes.tail import tail
from workers.commands.outcomes.together import run_together
from workers.commands.outcomes.users import users


@click.group(
    invoke_without_command=True,
    epilog=example("trimtab outcomes", "trimtab outcomes report home"),
)
@click.option(
    "--processes",
    type=click.IntRange(1, 256),
    metavar="N",
    default=1,
    show_default=True,
    help="Run N processes of each stage.",
)
@click.pass_context
def outcomes(context: click.Context, processes: int) -> None:
    """Count what readers did with the feeds.

    Without a command: run the join and the users stage together until SIGTERM or Ctrl-C. Their
    settings come from the environment.
    """
    if context.invoked_subcommand is None:
        run_together(processes)


for command in (join, users, report, counts, tail, replay):
    outcomes.add_command(command)
