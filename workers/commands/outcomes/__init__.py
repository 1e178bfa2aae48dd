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
from workers.commands.outcomes.users import users


@click.group(epilog=example("trimtab outcomes join", "trimtab outcomes report home"))
def outcomes() -> None:
    """Count what readers did with the feeds."""


for command in (join, users, report, counts, tail, replay):
    outcomes.add_command(command)
