"""`trimtab`: the root of the command line, and the exit code of an error.

* 0: success.
* 1: a negative result, or something that does not work. Standard error says what.
* 2: wrong use or wrong configuration.
"""

import sys
from importlib import import_module

import click

from workers.errors import Failure
from workers.settings import ConfigurationError
from workers.streaming.clients import KafkaException

_COMMANDS = (
    "init",
    "doctor",
    "stack",
    "worker",
    "status",
    "produce",
    "feeds",
    "outcomes",
    "weights",
    "experiment",
    "rank",
    "validate",
    "models",
    "topics",
    "dead-letters",
    "offsets",
)


class _LazyGroup(click.Group):
    """Imports the module of a command only when the command is used.

    So `stack` does not import the model runtime, and `rank` does not import the Redis client.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"workers.commands.{name}"), name)
        return command


@click.group(
    cls=_LazyGroup,
    epilog="\b\nExample:\n  trimtab stack up\n  trimtab worker --help",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="trimtab")
def trimtab() -> None:
    """Rank a stream of candidates into feeds, exactly once.

    Candidates and feeds are in Kafka. The weights of the ranking are in Redis, and can be changed
    while workers run.
    """


def main() -> None:
    """The console script."""
    run(trimtab)


def run(command: click.Command) -> None:
    """Run a command with the arguments of this process. An error ends the process."""
    try:
        command()
    except ConfigurationError as error:
        _exit(str(error), 2)
    except Failure as error:
        _exit(str(error), 1)
    except KafkaException as error:
        _exit(f"Kafka: {error.args[0].str()}", 1)


def _exit(message: str, code: int) -> None:
    click.echo(f"Error: {message}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
